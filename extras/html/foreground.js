"use strict";
// Which pixels of a picture are ink, as digits/reading/foreground.py finds it where the paper is even. Uneven light, paper
// on a table, dithered scans and printed lines need more than is here: of these, unevenGround() says so.

const MIN_CONTRAST = 0.1, MIN_PAPER_BRIGHTNESS = 0.3, THUMBNAIL_SIDE = 120;
const UNIFORM_LIGHT_SIDE = 40, LINEAR_LIGHT_SIDE = 80;

// A picture is a list of uint8 grids, one for each channel.
const shorterSide = ({height, width}) => Math.min(height, width);
const asShares = (channel) => mapped(channel, (value) => Math.fround(value / 255), Float32Array);

// How far each pixel is from the paper: a float32 grid, 0-1.
function foreground(picture) {
  const channels = withoutRepeats(picture);
  if (shorterSide(channels[0]) < LINEAR_LIGHT_SIDE) return foregroundOfSmall(channels.map(asShares));
  const {background, polarity} = estimateBackground(thumbnail(channels));
  const ink = grid(channels[0].height, channels[0].width);
  channels.forEach(({data}, channel) => {
    if (!polarity[channel]) return;
    const paper = background[channel], scale = polarity[channel] < 0 ? Math.fround(Math.max(paper, MIN_PAPER_BRIGHTNESS)) : 1;
    for (let place = 0; place < data.length; place++) {
      const difference = Math.fround(polarity[channel] * Math.fround(Math.fround(data[place] / 255) - paper));
      ink.data[place] = Math.max(ink.data[place], Math.fround(difference / scale));
    }
  });
  return ink;
}

// One channel of a grey picture, all of others.
function withoutRepeats([first, ...others]) {
  for (const {data} of others) {
    for (let place = 0; place < data.length; place++) if (data[place] !== first.data[place]) return [first, ...others];
  }
  return [first];
}

function thumbnail(channels) {
  const factor = Math.max(1, Math.floor(shorterSide(channels[0]) / THUMBNAIL_SIDE));
  return channels.map((channel) => asShares(reduce(channel, factor)));
}

function foregroundOfSmall(channels) {
  let {distance: ink, threshold} = paperColour(channels);
  if (shorterSide(ink) < UNIFORM_LIGHT_SIDE || isClean(ink)) return ink;
  for (let round = 0; round < 3; round++) {
    const paper = where(ink, (value) => value <= threshold);
    ink = distanceFrom(channels, channels.map((channel) => planeThrough(channel, paper)));
    threshold = otsuThreshold(ink.data);
  }
  return ink;
}

// The plane a + b·x + c·y that fits the pixels under a mask best, as a grid.
function planeThrough({height, width, data}, mask) {
  const sums = Array.from({length: 3}, () => [0, 0, 0, 0]);
  data.forEach((value, place) => {
    if (!mask.data[place]) return;
    const terms = [1, place % width, Math.floor(place / width)];
    sums.forEach((row, one) => [...terms, value].forEach((term, other) => { row[other] += terms[one] * term; }));
  });
  for (let pivot = 0; pivot < 3; pivot++) {
    for (let row = 0; row < 3; row++) {
      if (row === pivot) continue;
      const share = sums[row][pivot] / sums[pivot][pivot];
      sums[row] = sums[row].map((value, column) => value - share * sums[pivot][column]);
    }
  }
  const [level, right, down] = sums.map((row, index) => row[3] / row[index]);
  return mapped({height, width, data}, (_, place) => level + right * (place % width) + down * Math.floor(place / width));
}

const isClean = (ink) => shorterSide(ink) < LINEAR_LIGHT_SIDE && count(ink) < 0.35 * ink.data.length;

// The distance of each pixel from the paper, a level or a grid for each channel, in the channel where it is largest.
function distanceFrom(channels, paper) {
  const largest = grid(channels[0].height, channels[0].width);
  channels.forEach(({data}, channel) => {
    const level = paper[channel];
    for (let place = 0; place < data.length; place++) {
      largest.data[place] = Math.max(largest.data[place], Math.abs(data[place] - (level.data ? level.data[place] : level)));
    }
  });
  return largest;
}

// The colour most frequent along the edge and overall, the distance of each pixel from it, and a threshold of that.
function paperColour(channels) {
  const margin = Math.max(1, Math.floor(shorterSide(channels[0]) / 50));
  let paper = channels.map((channel) => median(edgePixels(channel, margin)));
  let distance = distanceFrom(channels, paper);
  const threshold = otsuThreshold(distance.data), far = where(distance, (value) => value > threshold);
  const edge = edgePixels(far, margin);
  if (sumOf(edge) / edge.length + count(far) / far.data.length > 1) {
    paper = channels.map((channel) => median(selected(channel, far)));
    distance = distanceFrom(channels, paper);
  }
  return {paper, distance, threshold};
}

// The level of the paper and the polarity of the ink in each channel: 1 lighter than paper, -1 darker, 0 invisible.
function estimateBackground(small) {
  small = small.map((channel) => filtered(channel, gaussian(0.7)));
  const {paper, distance, threshold} = paperColour(small), far = where(distance, (value) => value > threshold);
  if (!count(far)) return {background: paper, polarity: paper.map(() => 0), even: true};
  const step = small.map((channel, index) => median(selected(channel, far)) - paper[index]);
  const largest = largestOf(step.map(Math.abs));
  const polarity = step.map((value) => Math.abs(value) > 0.15 * largest ? Math.sign(value) : 0);
  const padded = pad(far, 1, true), halfWidth = largestOf(distanceTransform(crop(padded, boundingWindow(padded))).data);
  const near = count(where(distance, (value) => value < 0.015)) > 0.5 * distance.data.length;
  const nearly = distance.data.reduce((sum, value, place) => sum + (value < 0.04 && !far.data[place]), 0);
  const even = (near || nearly > 0.85 * (far.data.length - count(far)))
    && halfWidth < 0.2 * shorterSide(far) && !isPatch(far);
  return {background: paper, polarity, even};
}

// Whether the paper of a picture is so uneven that predict.py reads it better.
function unevenGround(picture) {
  const channels = withoutRepeats(picture);
  return shorterSide(channels[0]) >= LINEAR_LIGHT_SIDE && !estimateBackground(thumbnail(channels)).even;
}

function isPatch(far) {
  const largest = largestPart(far), box = crop(fillHoles(largest), boundingWindow(largest, 0));
  return count(box) > 0.85 * box.data.length && shorterSide(box) > 0.45 * Math.max(box.height, box.width);
}

// The threshold that splits values, 0-1, into two groups with the least variance inside (N. Otsu, 1979).
function otsuThreshold(values) {
  const counts = new Float64Array(64);
  for (let place = 0; place < values.length; place++) counts[Math.trunc(Math.min(Math.fround(64 * values[place]), 63))] += 1;
  const all = sumOf(counts), sum = sumOf(counts.map((number, index) => number * (index + 0.5) / 64));
  let [below, sumBelow, best, largest] = [0, 0, 0, -1];
  counts.forEach((number, index) => {
    below += number;
    sumBelow += number * (index + 0.5) / 64;
    const above = all - below;
    const between = below && above ? (sum * below / all - sumBelow) ** 2 / (below * above) : -1;
    if (between > largest) [best, largest] = [index, between];
  });
  return (1 + best) / 64;
}
