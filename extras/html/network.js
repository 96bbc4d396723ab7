"use strict";
// The network: the layers of a Keras model, computed from the weights in the page. Float16 weights, float32 sums.

// The float32 values of float16 numbers in base64, little-endian.
function halfFloats(text) {
  const halves = new Uint16Array(bytesOf(text).buffer), values = new Float32Array(halves.length);
  for (let index = 0; index < halves.length; index++) {
    const half = halves[index], exponent = half >> 10 & 31, fraction = half & 1023;
    const size = exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction;
    values[index] = half >> 15 ? -size : size;
  }
  return values;
}

// An image is {height, width, channels, data}: float32, row by row, the channels of a pixel side by side.
const layer = {
  rescaling: ({scale, offset}, {data, ...shape}) => ({...shape, data: data.map((value) => value * scale + offset)}),
  convolution,
  pooling,
  average,
  flatten: (_, {data}) => ({height: 1, width: 1, channels: data.length, data}),
  dense,
};

// Cross-correlation with a kernel, size×size×channels×filters; padding "same" adds zeros around the image.
function convolution({size, filters, kernel, bias, same, activation}, {height, width, channels, data}) {
  const edge = same ? Math.floor((size - 1) / 2) : 0;
  const [rows, columns] = same ? [height, width] : [height - size + 1, width - size + 1];
  const output = new Float32Array(rows * columns * filters);
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      const sums = output.subarray((y * columns + x) * filters, (y * columns + x + 1) * filters);
      sums.set(bias);
      for (let i = Math.max(0, edge - y); i < Math.min(size, height + edge - y); i++) {
        for (let j = Math.max(0, edge - x); j < Math.min(size, width + edge - x); j++) {
          let pixel = ((y + i - edge) * width + x + j - edge) * channels, weight = (i * size + j) * channels * filters;
          for (const end = pixel + channels; pixel < end; pixel++, weight += filters) {
            const value = data[pixel];
            if (!value) continue;  // half of all are zero
            for (let filter = 0; filter < filters; filter++) sums[filter] += value * kernel[weight + filter];
          }
        }
      }
    }
  }
  return {height: rows, width: columns, channels: filters, data: activated(output, activation)};
}

// The largest of each 2×2 pixels.
function pooling(_, {height, width, channels, data}) {
  const rows = height >> 1, columns = width >> 1, output = new Float32Array(rows * columns * channels);
  for (let y = 0, place = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      for (let channel = 0; channel < channels; channel++, place++) {
        const first = (2 * y * width + 2 * x) * channels + channel, below = first + width * channels;
        output[place] = Math.max(data[first], data[first + channels], data[below], data[below + channels]);
      }
    }
  }
  return {height: rows, width: columns, channels, data: output};
}

function average(_, {height, width, channels, data}) {
  const sums = new Float64Array(channels);
  for (let place = 0; place < data.length; place++) sums[place % channels] += data[place];
  return {height: 1, width: 1, channels, data: Float32Array.from(sums, (sum) => sum / (height * width))};
}

function dense({units, kernel, bias, activation}, {data}) {
  const output = Float32Array.from(bias);
  for (let input = 0; input < data.length; input++) {
    for (let unit = 0; unit < units; unit++) output[unit] += data[input] * kernel[input * units + unit];
  }
  return {height: 1, width: 1, channels: units, data: activated(output, activation)};
}

function activated(values, activation) {
  if (activation === "relu") return values.map((value) => Math.max(0, value));
  if (activation !== "softmax") return values;
  const largest = values.reduce((one, other) => Math.max(one, other));
  const powers = values.map((value) => Math.exp(value - largest));
  const sum = powers.reduce((one, other) => one + other);
  return powers.map((power) => power / sum);
}

// What each layer gives for an image of 28×28 grey levels, 0-255: a list, the probabilities last.
function run(layers, pixels) {
  let image = {height: 28, width: 28, channels: 1, data: Float32Array.from(pixels)};
  return layers.map((about) => image = layer[about.kind](about, image));
}
