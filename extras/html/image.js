"use strict";
// Arrays of numbers as images, and what NumPy, SciPy and Pillow do with them in digits/reading/, in the same way.
// A grid is {height, width, data}, row by row; a box is [top, left, bottom, right].

const grid = (height, width, kind = Float32Array) => ({height, width, data: new kind(height * width)});

function mapped(image, change, kind = image.data.constructor) {
  const data = new kind(image.data.length);
  for (let place = 0; place < data.length; place++) data[place] = change(image.data[place], place);
  return {...image, data};
}

function where({height, width, data}, test) {
  const mask = grid(height, width, Uint8Array);
  for (let place = 0; place < data.length; place++) if (test(data[place])) mask.data[place] = 1;
  return mask;
}

// How many pixels of a mask are true.
function count({data}) {
  let sum = 0;
  for (let place = 0; place < data.length; place++) if (data[place]) sum += 1;
  return sum;
}

// The values under a mask.
function selected({data}, mask) {
  const values = new data.constructor(count(mask));
  for (let place = 0, next = 0; place < data.length; place++) if (mask.data[place]) values[next++] = data[place];
  return values;
}

const sumOf = (values) => values.reduce((sum, value) => sum + value, 0);
const largestOf = (values, least = -Infinity) => values.reduce((one, other) => Math.max(one, other), least);
const sortedNumbers = (values) => new Float64Array(values).sort();

// As numpy.percentile: between two values it is interpolated.
function percentile(values, share) {
  const sorted = sortedNumbers(values), place = (sorted.length - 1) * share / 100, below = Math.floor(place);
  return sorted[below] + (place - below) * ((sorted[below + 1] ?? sorted[below]) - sorted[below]);
}

const median = (values) => Math.fround(percentile(values, 50));

function roundHalfToEven(value) {
  const below = Math.floor(value), rest = value - below;
  return rest < 0.5 || (rest === 0.5 && below % 2 === 0) ? below : below + 1;
}

// As Pillow makes grey of a colour.
const greyOf = (red, green, blue) => (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16;

// Every step-th row and column.
function sparse({height, width, data}, step) {
  const rows = Math.ceil(height / step), columns = Math.ceil(width / step);
  return data.constructor.from({length: rows * columns}, (_, place) => data[Math.floor(place / columns) * step * width + place % columns * step]);
}

// The values along the four sides.
function edgePixels(image, margin = 1) {
  const {height, width} = image, inner = [margin, Math.max(margin, height - margin)];
  const sides = [[0, 0, margin, width], [height - margin, 0, height, width], [inner[0], 0, inner[1], margin], [inner[0], width - margin, inner[1], width]];
  return sides.flatMap((side) => [...crop(image, side).data]);
}

function crop({width, data}, [top, left, bottom, right]) {
  const part = grid(bottom - top, right - left, data.constructor);
  for (let y = top; y < bottom; y++) part.data.set(data.subarray(y * width + left, y * width + right), (y - top) * part.width);
  return part;
}

// The grid with a margin of this many zeros, or of the pixels at its edge.
function pad({height, width, data}, margin, edge = false) {
  const padded = grid(height + 2 * margin, width + 2 * margin, data.constructor);
  for (let y = 0; y < padded.height; y++) {
    const row = Math.min(Math.max(y - margin, 0), height - 1), start = y * padded.width;
    if (!edge && row !== y - margin) continue;
    padded.data.set(data.subarray(row * width, (row + 1) * width), start + margin);
    if (!edge) continue;
    padded.data.fill(data[row * width], start, start + margin);
    padded.data.fill(data[(row + 1) * width - 1], start + margin + width, start + padded.width);
  }
  return padded;
}

// The smallest box around the true pixels of a mask, and a margin; all of it where none is true.
function boundingWindow({height, width, data}, margin = 1) {
  let [top, left, bottom, right] = [height, width, -1, -1];
  for (let y = 0, place = 0; y < height; y++) {
    for (let x = 0; x < width; x++, place++) {
      if (!data[place]) continue;
      top = Math.min(top, y);
      bottom = y;
      left = Math.min(left, x);
      right = Math.max(right, x);
    }
  }
  if (bottom < 0) return [0, 0, height, width];
  return [Math.max(0, top - margin), Math.max(0, left - margin), Math.min(height, bottom + 1 + margin), Math.min(width, right + 1 + margin)];
}

// Number the connected parts of a mask from 1, in the order of their first pixels: {height, width, data, count}.
function label(mask, diagonal = true) {
  const {height, width, data} = mask, labels = grid(height, width, Int32Array), stack = new Int32Array(height * width);
  let number = 0;
  for (let start = 0; start < data.length; start++) {
    if (!data[start] || labels.data[start]) continue;
    labels.data[start] = number += 1;
    stack[0] = start;
    for (let size = 1; size;) {
      const place = stack[--size], y = Math.floor(place / width), x = place % width;
      for (let row = Math.max(0, y - 1); row <= Math.min(height - 1, y + 1); row++) {
        for (let column = Math.max(0, x - 1); column <= Math.min(width - 1, x + 1); column++) {
          const next = row * width + column;
          if (!data[next] || labels.data[next] || (!diagonal && row !== y && column !== x)) continue;
          labels.data[next] = number;
          stack[size++] = next;
        }
      }
    }
  }
  return {...labels, count: number};
}

const areasOf = ({data, count}) => data.reduce((areas, number) => { areas[number] += 1; return areas; }, new Float64Array(count + 1)).subarray(1);

// The box around each label.
function boxesOfLabels({height, width, data, count}) {
  const boxes = Array.from({length: count}, () => [height, width, 0, 0]);
  for (let y = 0, place = 0; y < height; y++) {
    for (let x = 0; x < width; x++, place++) {
      if (!data[place]) continue;
      const box = boxes[data[place] - 1];
      if (y < box[0]) box[0] = y;
      if (x < box[1]) box[1] = x;
      if (y >= box[2]) box[2] = y + 1;
      if (x >= box[3]) box[3] = x + 1;
    }
  }
  return boxes;
}

function largestPart(mask) {
  const parts = label(mask, false), areas = areasOf(parts), largest = 1 + areas.indexOf(largestOf(areas));
  return where(parts, (number) => number === largest);
}

function fillHoles(mask) {
  const parts = label(where(pad(mask, 1), (value) => !value), false);  // the first part is outside
  return crop(where(parts, (number) => number !== 1), [1, 1, mask.height + 1, mask.width + 1]);
}

// The distance of each true pixel to the nearest false one (P. Felzenszwalb, D. Huttenlocher, 2012).
function distanceTransform({height, width, data}) {
  const squared = new Float64Array(data.length), longer = Math.max(height, width);
  const line = new Float64Array(longer), places = new Int32Array(longer), starts = new Float64Array(longer + 1);
  const infinite = (height + width) ** 2;
  for (let place = 0; place < data.length; place++) squared[place] = data[place] ? infinite : 0;
  const along = (first, step, length) => {
    let last = 0;
    for (let q = 0; q < length; q++) line[q] = squared[first + q * step];
    [places[0], starts[0], starts[1]] = [0, -Infinity, Infinity];
    for (let q = 1; q < length; q++) {
      const meets = () => (line[q] + q * q - line[places[last]] - places[last] ** 2) / (2 * (q - places[last]));
      let start = meets();
      while (start <= starts[last]) {
        last -= 1;
        start = meets();
      }
      last += 1;
      [places[last], starts[last], starts[last + 1]] = [q, start, Infinity];
    }
    for (let q = 0, k = 0; q < length; q++) {
      while (starts[k + 1] < q) k += 1;
      squared[first + q * step] = (q - places[k]) ** 2 + line[places[k]];
    }
  };
  for (let x = 0; x < width; x++) along(x, width, height);
  for (let y = 0; y < height; y++) along(y * width, 1, width);
  return {height, width, data: squared.map(Math.sqrt)};
}

// Weighted sums of neighbours, down and then across, of a float32 grid; beyond the edge it is mirrored.
function filtered(image, weights) {
  const radius = (weights.length - 1) / 2, {height, width} = image;
  const along = ({data}, length, others, step, next) => {
    const output = new Float32Array(data.length), line = new Float64Array(length + 2 * radius);
    for (let other = 0; other < others; other++) {
      for (let place = 0; place < line.length; place++) {
        let at = place - radius;
        while (at < 0 || at >= length) at = at < 0 ? -1 - at : 2 * length - 1 - at;
        line[place] = data[other * next + at * step];
      }
      for (let place = 0; place < length; place++) {
        let sum = 0;
        for (let index = 0; index < weights.length; index++) sum += weights[index] * line[place + index];
        output[other * next + place * step] = sum;
      }
    }
    return {height, width, data: output};
  };
  return along(along(image, height, width, width, 1), width, height, 1, width);
}

function gaussian(sigma) {
  const radius = Math.floor(4 * sigma + 0.5);
  const weights = Array.from({length: 2 * radius + 1}, (_, place) => Math.exp(-0.5 * ((place - radius) / sigma) ** 2));
  return weights.map((weight) => weight / sumOf(weights));
}

// The means of factor×factor pixels, fewer at the right and lower edge; rounded as Pillow does, by a product of integers.
function reduce({height, width, data}, factor) {
  if (factor === 1) return {height, width, data};
  const small = grid(Math.ceil(height / factor), Math.ceil(width / factor), data.constructor);
  for (let y = 0; y < small.height; y++) {
    for (let x = 0; x < small.width; x++) {
      let sum = 0;
      const [bottom, right] = [Math.min(height, (y + 1) * factor), Math.min(width, (x + 1) * factor)];
      for (let row = y * factor; row < bottom; row++) {
        for (let column = x * factor; column < right; column++) sum += data[row * width + column];
      }
      const pixels = (bottom - y * factor) * (right - x * factor);
      small.data[y * small.width + x] = Math.floor((sum + (pixels >> 1)) * Math.floor(2 ** 24 / pixels) / 2 ** 24);
    }
  }
  return small;
}

// As Pillow's resize of floats: by the mean of the pixels below each new one if it gets smaller, else bilinear.
function resize(image, height, width) {
  const weightsFor = (from, to) => {
    const scale = from / to, support = scale > 1 ? 0.5 * scale : 1;
    return Array.from({length: to}, (_, place) => {
      const centre = (place + 0.5) * scale;
      const first = Math.max(0, Math.trunc(centre - support + 0.5)), end = Math.min(from, Math.trunc(centre + support + 0.5));
      const weights = Array.from({length: end - first}, (_, step) => {
        const away = (step + first - centre + 0.5) / Math.max(1, scale);
        return scale > 1 ? Number(away > -0.5 && away <= 0.5) : Math.max(0, 1 - Math.abs(away));
      });
      const sum = sumOf(weights);
      return {first, weights: weights.map((weight) => weight / sum)};
    });
  };
  const across = grid(image.height, width), output = grid(height, width);
  weightsFor(image.width, width).forEach(({first, weights}, x) => {
    for (let y = 0; y < image.height; y++) {
      across.data[y * width + x] = weights.reduce((sum, weight, step) => sum + weight * image.data[y * image.width + first + step], 0);
    }
  });
  weightsFor(image.height, height).forEach(({first, weights}, y) => {
    for (let x = 0; x < width; x++) {
      output.data[y * width + x] = weights.reduce((sum, weight, step) => sum + weight * across.data[(first + step) * width + x], 0);
    }
  });
  return output;
}
