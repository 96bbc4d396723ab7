"use strict";
// The network in this page reads the sheet. In the page of draw.py the server does, by the same function ask().

const model = JSON.parse($("model").textContent);
for (const about of model.layers) {
  for (const name of ["kernel", "bias"]) if (about[name]) about[name] = halfFloats(about[name]);
}

// What is in a picture {bitmap, bytes: null if it was drawn}: {status, content}.
async function ask({bitmap, bytes}) {
  if (!bitmap) return {status: 415, content: {error: "this browser cannot show such a picture; save it as PNG or JPEG"}};
  const pixels = pixelsOf(bitmap);
  const content = read(pixels, model);
  if (bytes && model.segment && needsMore(pixels, content)) {
    $("notice").textContent = "The paper is not even, or has printed lines: the program predict.py reads such pictures better.";
  }
  return {status: 200, content};
}

// A canvas or ImageBitmap as uint8 grids of red, green and blue, or of grey; transparent pixels become paper.
function pixelsOf(bitmap) {
  const canvas = scaled(bitmap, bitmap.width, bitmap.height), {width, height} = canvas;
  const {data} = canvas.getContext("2d").getImageData(0, 0, width, height);
  const channels = [0, 1, 2].map(() => grid(height, width, Uint8Array)), [red, green, blue] = channels.map((channel) => channel.data);
  let [grey, paper] = [true, null];
  for (let place = 0, at = 0; place < red.length; place++, at += 4) {
    red[place] = data[at];
    green[place] = data[at + 1];
    blue[place] = data[at + 2];
    grey &&= data[at] === data[at + 1] && data[at] === data[at + 2];
    if (data[at + 3] === 255) continue;
    paper ??= paperBehind(data);
    const opacity = data[at + 3] / 255;
    for (const levels of [red, green, blue]) levels[place] = Math.round(levels[place] * opacity + paper * (1 - opacity));
  }
  return grey ? channels.slice(0, 1) : channels;
}

// White for dark ink, else black.
function paperBehind(data) {
  let [light, opaque] = [0, 0];
  for (let at = 0; at < data.length; at += 4) {
    light += greyOf(data[at], data[at + 1], data[at + 2]) * data[at + 3];
    opaque += data[at + 3];
  }
  return light < 128 * opaque ? 255 : 0;
}

// Whether a picture has a shadow, a table around the paper or printed lines, with which reading/ copes and this page does not.
function needsMore(pixels, {digits}) {
  const factor = factorTo(WORKING_PIXELS, pixels), small = reduced(pixels, factor);
  if (unevenGround(small)) return true;
  const {width, height} = small[0], far = 0.6 * Math.max(width, height);
  const lines = boxesOfLabels(label(where(foreground(small), (value) => value > 0.2)))
    .filter(([top, left, bottom, right]) => Math.max(bottom - top, right - left) > far);
  const inPicture = (box) => box.map((side) => side * factor);
  return lines.map(inPicture).some(([top, left, bottom, right]) => !digits.some(({box: [x, y, w, h]}) => (
    x <= left && y <= top && x + w >= right - factor && y + h >= bottom - factor)));
}

$("camera").hidden = true;  // frames have shadows; draw.py reads them
