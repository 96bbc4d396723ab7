"use strict";
// The ink of one digit -> 28×28 grey levels, the way MNIST was made; as digits/reading/normalization.py does it.

const PEN_WIDTH_RANGE = [1.6, 4.8], WIDENED = 2.2, THINNED = 4.2, FINE = 4, MIN_OBJECT_CONTRAST = 16;

// The cropped ink of a digit, a float32 grid, as 28×28 levels, 0-255.
function toMnist(ink) {
  const full = Math.fround(Math.max(percentile(ink.data.filter((value) => value > 0), 75), 1e-6));
  return centre(normalizePenWidth(mapped(ink, (value) => Math.min(value / full, 1))));
}

function normalizePenWidth(ink) {
  const shrinks = Math.max(ink.height, ink.width) > 20 * FINE;
  const fitted = fit(shrinks ? mapped(ink, (value) => Number(value > 0.25)) : ink, 20 * FINE);
  let mask = where(fitted, (value) => value > (shrinks ? 0.1 : 0.5));
  const width = penWidth(mask) / FINE;
  if (!count(mask) || (PEN_WIDTH_RANGE[0] <= width && width <= PEN_WIDTH_RANGE[1])) return ink;
  let grow = ((width < PEN_WIDTH_RANGE[0] ? WIDENED : THINNED) - width) * FINE / 2;
  mask = pad(mask, Math.max(0, Math.trunc(grow) + 3));
  const inside = distanceTransform(mask).data, outside = distanceTransform(where(mask, (value) => !value)).data;
  const distance = inside.map((value, place) => value - outside[place]);
  grow = Math.max(grow, 0.5 - 0.5 * largestOf(distance));
  return trimmed({...mask, data: Float32Array.from(distance, (value) => Math.min(Math.max((value + grow) / FINE + 0.5, 0), 1))});
}

// The mean width of the strokes in a mask, in pixels, from their depth.
function penWidth(mask) {
  if (!count(mask)) return 0;
  const depth = distanceTransform(pad(mask, 1)).data.filter((value) => value > 0);
  return Math.max(1, 4 * sumOf(depth) / depth.length - 2);
}

const trimmed = (ink) => crop(ink, boundingWindow(where(ink, (value) => value > 0.3), 0));

// Fit ink into 20×20 and put its centre of mass at the centre of 28×28 levels, a uint8 grid.
function centre(ink) {
  const image = grid(28, 28, Uint8Array), fitted = fit(ink, 20);
  if (!fitted.data.some(Boolean)) return image;
  const full = Math.fround(Math.max(percentile(fitted.data, 99), 1e-6));
  const {height, width, data} = mapped(fitted, (value) => Math.min(Math.max(value / full, 0), 1));
  const mass = sumOf(data);
  const mean = (place) => data.reduce((sum, value, index) => sum + value * place(index), 0) / mass;
  const top = Math.min(Math.max(roundHalfToEven(14 - mean((index) => Math.floor(index / width))), 0), 28 - height);
  const left = Math.min(Math.max(roundHalfToEven(14 - mean((index) => index % width)), 0), 28 - width);
  data.forEach((value, index) => {
    image.data[(top + Math.floor(index / width)) * 28 + left + index % width] = roundHalfToEven(Math.fround(255 * value));
  });
  return image;
}

// An image resized so that its longer side has this many pixels.
function fit(image, side) {
  const scale = side / Math.max(image.height, image.width);
  const [height, width] = [image.height, image.width].map((length) => Math.max(1, roundHalfToEven(length * scale)));
  return resize(image, height, width);
}

// The object in a picture as {image, box: [x, y, width, height]}, made the way Fashion-MNIST was; null if there is none.
function resizeWhole(picture) {
  const [red, green, blue] = [0, 1, 2].map((channel) => (picture[channel] ?? picture[0]).data);
  const grey = mapped(picture[0], (_, place) => greyOf(red[place], green[place], blue[place]));
  const {height, width, data} = grey, edges = [];
  for (let x = 0; x < width; x++) edges.push(data[x], data[(height - 1) * width + x]);
  for (let y = 0; y < height; y++) edges.push(data[y * width], data[y * width + width - 1]);
  const background = Math.trunc(percentile(edges, 50));
  const difference = mapped(grey, (value) => Math.abs(value - background), Float32Array);
  const visible = where(difference, (value) => value >= MIN_OBJECT_CONTRAST);
  if (!count(visible)) return null;
  const [top, left, bottom, right] = boundingWindow(visible, 0), box = [left, top, right - left, bottom - top];
  const bright = mapped(difference, (value) => Math.floor(value * 255 / Math.max(background, 255 - background)));
  if (height === 28 && width === 28) return {image: background < 128 ? grey : mapped(bright, (value) => value, Uint8Array), box};
  const cut = crop(bright, [top, left, bottom, right]), scale = 28 / Math.max(cut.height, cut.width);
  const [rows, columns] = [cut.height, cut.width].map((length) => Math.max(1, roundHalfToEven(length * scale)));
  const small = resize(cut, rows, columns), image = grid(28, 28, Uint8Array);
  const [y, x] = [(28 - rows) >> 1, (28 - columns) >> 1];
  small.data.forEach((value, index) => {
    image.data[(y + Math.floor(index / columns)) * 28 + x + index % columns] = Math.floor(value + 0.5);
  });
  return {image, box};
}
