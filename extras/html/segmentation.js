"use strict";
// A picture -> its pieces of writing and the lines that they form, as digits/reading/segmentation.py finds them where no
// printed lines are. Boxes are [top, left, bottom, right].

const MIN_CONTRAST_CLEAN = 0.03, MAX_PIECES = 150, MAX_SPECKS = 50, CUT_OFF = 0.6, STACKED_GAP = 0.15;

// The steps from a picture, a list of uint8 grids: {foreground, strokes, pieces, boxes, lines, marks}.
function preprocess(picture) {
  const ink = foreground(picture), smooth = withoutNoise(ink), levels = findLevels(smooth);
  const inked = where(smooth, (value) => value > levels.inked);
  const strokes = connectedStrokes(inked, smooth, levels);
  const {pieces, boxes, specks} = findPieces(strokes);
  const {lines, marks} = findLinesAndMarks(pieces, boxes, specks);
  return {foreground: isClean(ink) ? withEvenPressure(ink) : ink, strokes, pieces, boxes, lines, marks};
}

function withEvenPressure(ink) {
  const {height, width, data} = ink;
  return mapped(ink, (value, place) => {
    const y = Math.floor(place / width), x = place % width;
    let largest = 1e-6;
    for (let row = Math.max(0, y - 1); row <= Math.min(height - 1, y + 1); row++) {
      for (let column = Math.max(0, x - 1); column <= Math.min(width - 1, x + 1); column++) {
        largest = Math.max(largest, data[row * width + column]);
      }
    }
    return value / largest;
  });
}

function withoutNoise(ink) {
  const smooth = grid(ink.height, ink.width), box = boundingWindow(where(ink, (value) => value > 0));
  const side = Math.min(3, Math.max(1, Math.floor(shorterSide(ink) / 100)));
  paste(smooth, blurred(crop(ink, box), side), box);
  return smooth;
}

// The mean of side pixels, 1 to 3; of two, the pixel and the one before it.
function blurred(image, side) {
  return filtered(image, [[0, 1, 0], [0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3]][side - 1]);
}

function paste(image, part, [top, left]) {
  for (let y = 0; y < part.height; y++) {
    image.data.set(part.data.subarray(y * part.width, (y + 1) * part.width), (top + y) * image.width + left);
  }
}

// Shares of black on white above which a pixel is what the name says: {softEdge, faint, inked, clear}.
function findLevels(smooth) {
  const clean = isClean(smooth), {height, width, data} = smooth, step = Math.max(1, Math.floor(shorterSide(smooth) / 100));
  const least = Math.fround(clean ? MIN_CONTRAST_CLEAN : MIN_CONTRAST);
  const values = sortedNumbers(selected(smooth, where(smooth, (value) => value >= least)));
  const minPixels = Math.min(9, data.length);
  if (values.length < minPixels) return {softEdge: 1, faint: 1, inked: 1, clear: 1};
  const darkest = values[values.length - minPixels];
  const noise = Math.min(Math.max(6 * median(sparse(smooth, step)), 0.1 * darkest), 0.3 * darkest);
  let inked = where(smooth, (value) => value > noise);
  if (edgePixels(inked).some(Boolean)) {
    const parts = label(inked), atEdge = new Set(edgePixels(parts));
    inked = mapped(inked, (value, place) => value && !atEdge.has(parts.data[place]) ? 1 : 0);
  }
  const apart = count(inked) > 0.002 * height * width;
  const chosen = apart ? selected(smooth, inked) : data, some = Math.fround(0.2 * largestOf(chosen));
  let clear = otsuThreshold(chosen.filter((value) => value > some));
  if (!apart) clear = Math.min(clear, 0.6 * largestOf(chosen));
  const [share, softEdge] = clean ? [0.2, 0.02] : [0.4, 0.1];
  return {softEdge: softEdge * darkest, faint: Math.max(noise, 0.2 * clear), inked: Math.max(noise, share * clear), clear};
}

// The ink that is connected to clear ink, with its soft edges.
function connectedStrokes(inked, smooth, levels) {
  const strokes = grid(inked.height, inked.width, Uint8Array), box = boundingWindow(inked), level = crop(smooth, box);
  const parts = label(crop(inked, box)), clear = new Set(selected(parts, where(level, (value) => value >= levels.clear)));
  const kept = where(parts, (number) => number && clear.has(number));
  const grown = where(filtered(mapped(kept, (value) => value, Float32Array), [1, 1, 1]), (value) => value > 0);
  paste(strokes, mapped(grown, (value, place) => value && level.data[place] > levels.softEdge ? 1 : 0), box);
  return strokes;
}

// Number the pieces of a mask from 1: {pieces, boxes, specks: how many of the last are too small for digits}.
function findPieces(mask) {
  const parts = label(mask);
  if (!parts.count) return {pieces: parts, boxes: [], specks: 0};
  const area = areasOf(parts), boxes = boxesOfLabels(parts);
  let keep = bordersAndFrames(parts, boxes, area).map((found) => !found);
  if (!keep.some(Boolean)) keep = keep.map(() => true);
  const extent = boxes.map(([top, left, bottom, right]) => Math.max(bottom - top, right - left));
  const largest = (values) => largestOf(values.filter((_, index) => keep[index]));
  const [largestArea, largestExtent] = [largest([...area]), largest(extent)];
  let specks = keep.map((kept, index) => kept && extent[index] > 0.02 * largestExtent);
  const ofKept = (index) => area[index] > 0.02 * largestArea && extent[index] > 0.08 * largestExtent;
  keep = limited(keep.map((kept, index) => kept && ofKept(index)), area, MAX_PIECES);
  const points = pointsBesideStems(parts, boxes, keep);
  keep = keep.map((kept, index) => kept && !points[index]);
  specks = limited(specks.map((speck, index) => speck && !keep[index]), area, MAX_SPECKS);
  const owner = joinStrokes(boxes, keep);
  let last = largestOf(owner);
  specks.forEach((speck, index) => { if (speck) owner[index] = last += 1; });
  const pieces = {...mapped(parts, (number) => number && owner[number - 1]), count: last};
  return {pieces, boxes: boxesOfLabels(pieces), specks: count({data: specks})};
}

// Of what is kept only the largest.
function limited(keep, area, most) {
  const order = keep.map((_, index) => index).sort((a, b) => (keep[b] ? area[b] : 0) - (keep[a] ? area[a] : 0));
  const left = new Set(order.slice(most));
  return keep.map((kept, index) => kept && !left.has(index));
}

// Which parts are a border of the picture or a frame drawn by hand around others.
function bordersAndFrames(parts, boxes, area) {
  const {height, width, data} = parts;
  const row = (y) => data.subarray(y * width, (y + 1) * width), column = (x) => crop(parts, [0, x, height, x + 1]).data;
  const corners = new Set([data[0], data[width - 1], data[(height - 1) * width], data[data.length - 1]]);
  const edges = [[0, row(0)], [0, row(height - 1)], [1, column(0)], [1, column(width - 1)]];
  return boxes.map((box, index) => {
    const size = [box[2] - box[0], box[3] - box[1]], inCorner = corners.has(index + 1);
    const border = edges.some(([axis, edge]) => {
      const contact = edge.filter((number) => number === index + 1).length / edge.length;
      const thin = size[axis] / [height, width][axis] < 0.15;
      return (contact > 0.5 && (contact > 0.9 || inCorner)) || (contact > 0.1 && thin && inCorner);
    });
    return border || isFrame(parts, boxes, area, index);
  });
}

function isFrame(parts, boxes, area, index) {
  const [top, left, bottom, right] = boxes[index], size = [bottom - top, right - left];
  if (area[index] >= 0.3 * size[0] * size[1] || Math.min(...size) <= 10) return false;
  const within = ([t, l, b, r]) => t > top && l > left && b < bottom && r < right;
  const inside = sumOf(boxes.map((box, other) => within(box) ? area[other] : 0));
  const part = where(crop(parts, boxes[index]), (number) => number === index + 1);
  const [h, w] = size.map((side) => Math.floor(side / 6));
  const share = (box, length, of) => {
    const found = new Set();
    const side = crop(part, box);
    side.data.forEach((value, place) => { if (value) found.add(of(place, side.width)); });
    return found.size / length;
  };
  const x = (place, width) => place % width, y = (place, width) => Math.floor(place / width);
  const sides = [
    share([0, 0, h, size[1]], size[1], x), share([size[0] - h, 0, size[0], size[1]], size[1], x),
    share([0, 0, size[0], w], size[0], y), share([0, size[1] - w, size[0], size[1]], size[0], y),
  ];
  const hollow = count(crop(part, [h, w, size[0] - h, size[1] - w])) < 0.05 * area[index];
  return hollow && Math.min(...sides) > 0.9 && inside > 0.05 * area[index];
}

// Which parts are dots to the right of the foot of another, such as the point in 7.5.
function pointsBesideStems(parts, boxes, keep) {
  const height = boxes.map(([top, , bottom]) => bottom - top), width = boxes.map(([, left, , right]) => right - left);
  const tallest = largestOf(height.filter((_, index) => keep[index]), 0);
  return boxes.map(([top, left, bottom], dot) => {
    if (!keep[dot] || Math.max(height[dot], width[dot]) >= 0.2 * tallest) return false;
    return boxes.some((box, other) => {
      const over = keep[other] && box[1] < left && box[3] > left && box[0] < top && height[other] > 4 * height[dot];
      if (!over || Math.abs(box[2] - bottom) >= 0.12 * height[other]) return false;
      let rightmost = -Infinity;
      for (let y = top; y < bottom; y++) {
        for (let x = 0; x < parts.width; x++) if (parts.data[y * parts.width + x] === other + 1) rightmost = Math.max(rightmost, x);
      }
      return rightmost > -Infinity && rightmost < left - 0.03 * height[other];
    });
  });
}

// The number of the piece, from 1, that each part belongs to; 0 for those that are not kept.
function joinStrokes(boxes, keep) {
  const owner = keep.map((kept, index) => kept ? index + 1 : 0), places = boxes.map((box) => [...box]);
  for (;;) {
    const alive = [...new Set(owner.filter(Boolean))].sort((a, b) => a - b).map((number) => number - 1);
    let best = null;
    for (const one of alive) {
      for (const other of alive) {
        const gap = one === other ? null : gapIfOneDigit(places[one], places[other]);
        if (gap !== null && (!best || gap < best.gap)) best = {gap, one, other};
      }
    }
    if (!best) return owner.map((number) => number ? 1 + alive.indexOf(number - 1) : 0);
    const {one, other} = best;
    owner.forEach((number, index) => { if (number === other + 1) owner[index] = one + 1; });
    places[one] = unionOf([places[one], places[other]]);
  }
}

const unionOf = (boxes) => [
  Math.min(...boxes.map((box) => box[0])), Math.min(...boxes.map((box) => box[1])),
  Math.max(...boxes.map((box) => box[2])), Math.max(...boxes.map((box) => box[3])),
];

// The gap between two boxes if they are strokes of one digit by their places, else null.
function gapIfOneDigit(one, other) {
  const [higher, lower] = one[2] - one[0] < other[2] - other[0] ? [other, one] : [one, other];
  const heights = [one[2] - one[0], other[2] - other[0]], low = Math.min(...heights), tall = Math.max(...heights);
  const widths = [one[3] - one[1], other[3] - other[1]], narrow = Math.min(...widths);
  const across = Math.min(one[3], other[3]) - Math.max(one[1], other[1]);
  const along = Math.min(one[2], other[2]) - Math.max(one[0], other[0]);
  const lowerWidth = lower[3] - lower[1];
  const bar = low <= 0.6 * tall && lowerWidth > 1.5 * (lower[2] - lower[0]);
  const within = across >= 0.5 * narrow && along >= 0.5 * low;
  const above = across >= 0.4 * narrow && -along <= (bar ? 0.25 : 0.08) * tall;
  const dot = low <= 0.25 * tall && lowerWidth <= 0.25 * tall;
  const middle = ((lower[0] + lower[2]) / 2 - higher[0]) / tall;
  const dash = bar && middle > 0.25 && middle < 0.78 && lower[1] + lower[3] < 2 * higher[1];
  const near = (dot || dash ? 0.025 : 0.06) * tall;
  const beside = along >= 0.8 * low && -across <= near && low <= 0.6 * tall;
  const belowTop = (lower[2] - higher[0]) / tall;
  const hovering = bar && !dot && belowTop >= -0.25 && belowTop <= 0.3 && -across <= 0.2 * tall;
  return within || above || beside || hovering ? Math.max(-along, 0) / tall : null;
}

const heightOf = (box) => box[2] - box[0];

// The lines of writing from the top: lists of indices of boxes, from the left.
function groupIntoLines(boxes, pictureHeight) {
  let lines = [];
  const order = boxes.map((_, index) => index).sort((a, b) => heightOf(boxes[b]) - heightOf(boxes[a]));
  for (const piece of order) {
    const [top, left, bottom, right] = boxes[piece];
    const found = lines.find((line) => {
      const away = (other) => Math.max(boxes[other][1] - right, left - boxes[other][3]);
      const near = boxes[line.reduce((one, other) => away(other) < away(one) ? other : one)];
      return Math.min(bottom, near[2]) - Math.max(top, near[0]) > 0.5 * (bottom - top);
    });
    found ? found.push(piece) : lines.push([piece]);
  }
  const isCut = (piece) => boxes[piece][0] === 0 || boxes[piece][2] === pictureHeight;
  const tallest = largestOf(boxes.map(heightOf)), heights = (line) => line.map((piece) => heightOf(boxes[piece]));
  lines = lines.filter((line) => largestOf(heights(line)) > (line.every(isCut) ? CUT_OFF : 0.2) * tallest);
  lines = lines.map((line) => {
    const usual = percentile(heights(line), 75);
    return line.filter((piece) => heightOf(boxes[piece]) > 0.35 * usual);
  });
  const middle = (piece) => boxes[piece][1] + boxes[piece][3];
  const level = (line) => sumOf(line.map((piece) => boxes[piece][0] + boxes[piece][2])) / line.length;
  return lines.map((line) => line.sort((a, b) => middle(a) - middle(b))).sort((a, b) => level(a) - level(b));
}

function findLinesAndMarks(pieces, boxes, specks) {
  let lines = groupIntoLines(boxes.slice(0, boxes.length - specks), pieces.height);
  lines = lines.filter((line) => line.length > 1 || !lines.some((other) => isBeside(boxes, line[0], other)));
  lines = joinStacked(lines, boxes);
  if (boxes.length < 2 || !lines.length) return {lines, marks: []};
  const tallest = lines.flat().reduce((one, other) => heightOf(boxes[other]) > heightOf(boxes[one]) ? other : one);
  const pen = penWidth(where(crop(pieces, boxes[tallest]), (number) => number === tallest + 1));
  const marks = findMarks(pieces, boxes, lines, pen);
  const colons = new Set(marks.filter((mark) => mark.pieces.length > 1).flatMap((mark) => mark.pieces));
  return {lines: lines.map((line) => line.filter((piece) => !colons.has(piece))), marks};
}

// Two lines that may be the halves of one digit, such as the loops of an 8, become one.
function joinStacked(lines, boxes) {
  const joined = [];
  for (const line of lines) {
    const last = joined.at(-1);
    if (last?.length === 1 && line.length === 1) {
      const [upper, lower] = [boxes[last[0]], boxes[line[0]]];
      if (isStacked(upper, lower) && lower[0] - upper[2] < STACKED_GAP * (lower[2] - upper[0])) {
        last.push(...line);
        continue;
      }
    }
    joined.push([...line]);
  }
  return joined;
}

// Whether of two boxes one lies above the other.
function isStacked(one, other) {
  const across = Math.min(one[3], other[3]) - Math.max(one[1], other[1]);
  const along = Math.min(one[2], other[2]) - Math.max(one[0], other[0]);
  const narrow = Math.min(one[3] - one[1], other[3] - other[1]), low = Math.min(heightOf(one), heightOf(other));
  return across > 0.4 * narrow && along < 0.2 * low;
}
