"use strict";
// Marks among the digits of a line -> points, commas, colons, dashes and slashes; or unknown; or dust. As
// digits/reading/signs.py tells them. Lengths are in heights of the digits; y is 0 at their top and 1 at the base line.

const SMALL = 0.55, SLASH = 1.1, MARGIN = 0.02, REACH = 1, BELOW = 0.5, DUST = 1.2, DUST_BETWEEN = 0.82, UNKNOWN = "";

// {pieces, line, sign} of each mark in lines of writing. pen: width of the strokes, in pixels.
function findMarks(pieces, boxes, lines, pen) {
  const centre = boxes.map(([, left, , right]) => (left + right) / 2);
  const cutOff = ([top, left, bottom, right]) => !top || !left || bottom === pieces.height || right === pieces.width;
  const inLine = new Set(lines.flat());
  let leftOut = boxes.map((_, piece) => piece).filter((piece) => !cutOff(boxes[piece]) && !inLine.has(piece));
  const marks = [];
  lines.forEach((line, number) => {
    const usual = percentile(line.map((piece) => heightOf(boxes[piece])), 50);
    const slashes = line.filter((piece) => heightOf(boxes[piece]) > SLASH * usual && isSlash(pieces, boxes, piece, line));
    const small = line.filter((piece) => heightOf(boxes[piece]) < SMALL * usual);
    const digits = line.filter((piece) => !slashes.includes(piece) && !small.includes(piece));
    if (!digits.length) return;
    const places = [...small, ...leftOut].map((piece) => placeOf(boxes, piece, digits, pen)).filter(Boolean);
    const found = [...slashes.map((piece) => [[piece], "/"]), ...signsAt(places)];
    const signs = found.filter(([, sign]) => sign).map(([[piece]]) => centre[piece]);
    for (const [group, likely] of found) {
      const sign = isBetweenDigits(centre[group[0]], likely, digits.map((piece) => centre[piece]), signs) ? likely : UNKNOWN;
      if (sign || !line.includes(group[0])) marks.push({pieces: group, line: number, sign});
    }
    const taken = new Set(marks.flatMap((mark) => mark.pieces));
    leftOut = leftOut.filter((piece) => !taken.has(piece));
  });
  return marks;
}

// Whether a piece is so small against a line of digits, and so near to it, that it can only be a mark in it.
function isBeside(boxes, piece, line) {
  const [top, , bottom] = boxes[piece], others = line.map((other) => boxes[other]), [upper, , lower] = unionOf(others);
  const height = largestOf(others.map(heightOf)), gap = Math.min(...gapsTo(boxes[piece], others));
  const within = upper < (top + bottom) / 2 && (top + bottom) / 2 < lower + BELOW * height;
  return bottom - top < SMALL * height && within && gap < REACH * height;
}

function placeOf(boxes, piece, digits, pen) {
  const box = boxes[piece], [top, left, bottom, right] = box, others = digits.map((digit) => boxes[digit]);
  const {gap, upper, base} = neighbours(box, others), usual = percentile(others.map(heightOf), 50);
  const y = ((top + bottom) / 2 - upper) / (base - upper), lowest = (bottom - upper) / (base - upper);
  if (gap > REACH * usual || !(-0.1 < y && y < 1 + BELOW)) return null;
  const width = (right - left) / usual, height = (bottom - top) / usual, x = (left + right) / 2, [, first, , last] = unionOf(others);
  const between = first < x && x < last && 0.2 < y && y < 1.1;
  return {piece, width, height, x: x / usual, y, bottom: lowest, pens: Math.sqrt(width * height) * usual / pen, between};
}

// The gap to the nearest of others, and the mean top and bottom of the nearest two.
function neighbours(box, others) {
  const gaps = gapsTo(box, others), nearest = gaps.map((_, index) => index).sort((a, b) => gaps[a] - gaps[b]).slice(0, 2);
  const mean = (side) => sumOf(nearest.map((index) => others[index][side])) / nearest.length;
  return {gap: Math.min(...gaps), upper: mean(0), base: mean(2)};
}

const gapsTo = (box, others) => others.map((other) => Math.max(0, other[1] - box[3], box[1] - other[3]));

// [pieces, sign] of each mark; dust is left out.
function signsAt(places) {
  places = [...places].sort((a, b) => a.y - b.y);
  const found = [], inColon = new Set();
  const dots = places.filter(({width, height, y, pens}) => Math.max(width, height) < 0.36 && 0.05 < y && y < 1.15 && pens > DUST_BETWEEN);
  dots.forEach((upper, index) => {
    for (const lower of dots.slice(index + 1)) {
      const stacked = upper.y + upper.height / 2 < lower.y - lower.height / 2 && Math.abs(lower.x - upper.x) < 0.25;
      const equalsSign = Math.min(...[upper, lower].map(({width, height}) => width / Math.max(height, 0.15))) > 1.6;
      if (!stacked || equalsSign || inColon.has(upper.piece) || inColon.has(lower.piece)) continue;
      inColon.add(upper.piece).add(lower.piece);
      found.push([[upper.piece, lower.piece], ":"]);
    }
  });
  for (const place of places) {
    const sign = signAt(place);
    if (!inColon.has(place.piece) && place.pens > (sign || place.between ? DUST_BETWEEN : DUST)) found.push([[place.piece], sign]);
  }
  return found;
}

function signAt(place) {
  const {width, height, y, bottom, pens} = place, longer = Math.max(width, height), shorter = Math.min(width, height);
  if (width > Math.max(0.18, 1.6 * height) && height < 0.3 && 0.25 < y && y < 0.78) return "-";
  const [high, low] = pens > DUST ? [0.72, 1.28] : [0.85, 1.1];
  const isDot = longer < 0.15 || longer < Math.min(0.24, 2.2 * shorter);
  if (isDot && y > high && bottom < low) return ".";
  const below = bottom > (longer > 0.24 ? 0.97 : 1.05);
  return longer > 0.17 && width < 2.2 * height && y > 0.7 && below ? "," : UNKNOWN;
}

// Whether a piece is a straight stroke, slanted to the right, that is higher and lower than its neighbours.
function isSlash(pieces, boxes, piece, line) {
  const [top, left, bottom, right] = boxes[piece], others = line.filter((other) => other !== piece);
  if (!others.length) return false;
  const {upper, base} = neighbours(boxes[piece], others.map((other) => boxes[other])), margin = MARGIN * (bottom - top);
  const slant = (right - left) / (bottom - top), part = crop(pieces, boxes[piece]);
  if (!(0.2 < slant && slant < 1 && right - left > 1 && top + margin < upper && bottom - margin > base)) return false;
  const points = [...part.data.keys()].filter((place) => part.data[place] === piece + 1);
  return correlation(points.map((place) => place % part.width), points.map((place) => Math.floor(place / part.width))) < -0.95;
}

function correlation(xs, ys) {
  const mean = (values) => sumOf(values) / values.length, [x, y] = [mean(xs), mean(ys)];
  const product = (one, other, a, b) => sumOf(one.map((value, index) => (value - a) * (other[index] - b)));
  return product(xs, ys, x, y) / Math.sqrt(product(xs, xs, x, x) * product(ys, ys, y, y));
}

// Whether a sign at x stands where it can: between digits, or before or after them.
function isBetweenDigits(x, sign, digits, signs) {
  const before = largestOf(digits.filter((digit) => digit < x)), after = -largestOf(digits.filter((digit) => digit > x).map((digit) => -digit));
  const alone = signs.filter((other) => before < other && other < after).length === 1;
  return alone && (before > -Infinity || sign === "-") && (after < Infinity || ",.-".includes(sign));
}
