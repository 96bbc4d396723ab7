"use strict";
// Picture + network -> reading: which digits are in it? As digits/reading/candidates.py and reader.py find them, but for
// digits that touch, which are not cut apart here. Boxes are x, y, width, height.

const WORKING_PIXELS = 750_000, FINE_PIXELS = 4_000_000, SMALL_WRITING = 40, THRESHOLD_IN_NUMBER = 0.4, SIGN_QUALITY = 0.2;
const MAX_JOINED = 3, JOIN_PRIOR = 0.2, NARROW_GAP = 0.12, WIDE_GAP = 0.35, STACKED_PRIOR = 0.05, LOWER_PRIOR = 0.05;

// The candidates of a picture: {image, box, line, start, stop, complete, prior, sign}, line by line, from the left.
function candidatesIn(steps) {
  const inLines = new Set(steps.lines.flat());
  const digits = steps.lines.flatMap((line, number) => lineCandidates(steps, line, number));
  const beside = steps.marks.filter((mark) => !inLines.has(mark.pieces[0]));
  return [...digits, ...beside.map((mark) => markCandidate(steps, mark))];
}

const xywh = ([top, left, bottom, right]) => [left, top, right - left, bottom - top];

// The ink of some pieces in a box, as the image that the network sees.
function imageOf(steps, box, pieces) {
  const numbers = new Set(pieces.map((piece) => piece + 1)), part = crop(steps.pieces, box), ink = crop(steps.foreground, box);
  return toMnist(mapped(ink, (value, place) => numbers.has(part.data[place]) ? Math.max(value, Math.fround(0.01)) : 0));
}

function markCandidate(steps, {pieces, line, sign}) {
  const box = unionOf(pieces.map((piece) => steps.boxes[piece]));
  return {image: imageOf(steps, box, pieces), box: xywh(box), line, start: 0, stop: 0, complete: true, prior: 1, sign};
}

function lineCandidates(steps, line, number) {
  const {height, width} = steps.pieces, boxes = line.map((piece) => steps.boxes[piece]), tall = largestOf(boxes.map(heightOf));
  const signs = new Map(steps.marks.flatMap((mark) => mark.pieces.map((piece) => [piece, mark.sign])));
  const {joined, apart} = priors(line, boxes, tall, signs), found = [];
  for (let start = 0; start < line.length; start++) {
    for (let stop = start + 1; stop <= line.length; stop++) {
      const box = unionOf(boxes.slice(start, stop)), [top, left, bottom, right] = box, joins = stop - start - 1;
      if (joins) {
        const gap = (boxes[stop - 1][1] - largestOf(boxes.slice(start, stop - 1).map((one) => one[3]))) / tall;
        if (joins >= MAX_JOINED || gap > (right - left < tall ? WIDE_GAP : NARROW_GAP)) break;
        if (right - left > 1.5 * tall) continue;
      }
      const aspect = Math.max(1, (right - left) / (bottom - top));
      const product = joined.slice(start, stop - 1).reduce((one, other) => one * other, 1);
      const central = top < height / 2 && height / 2 < bottom && left < width / 2 && width / 2 < right;
      found.push({
        image: imageOf(steps, box, line.slice(start, stop)), box: xywh(box), line: number, start, stop,
        complete: central || (top > 0 && left > 0 && bottom < height && right < width),
        prior: product * Math.sqrt(apart[start] * apart[stop]) / aspect ** 6,
        sign: joins ? undefined : signs.get(line[start]),
      });
    }
  }
  return found;
}

// Prior probabilities that neighbouring pieces are one digit, and that they are two; before the first and after the last, 1.
function priors(line, boxes, tall, signs) {
  const joined = [], apart = [1];
  let furthest = -Infinity;
  for (let index = 1; index < line.length; index++) {
    const [one, other] = [boxes[index - 1], boxes[index]];
    furthest = Math.max(furthest, one[3]);
    const gap = (other[1] - furthest) / tall, stacked = isStacked(one, other);
    joined.push(stacked ? 1 : JOIN_PRIOR ** Math.max(1, gap / NARROW_GAP));
    const lower = other[0] - one[0] > 0.25 * tall && other[2] - one[2] > 0.1 * tall && gap < WIDE_GAP && !signs.has(line[index]);
    apart.push(stacked ? STACKED_PRIOR : lower ? LOWER_PRIOR : 1);
  }
  return {joined, apart: [...apart, 1]};
}

// As model.digit_score().
function digitScore(probabilities) {
  if (probabilities.length < 3) return largestOf(probabilities);
  const sorted = sortedNumbers(probabilities), pair = 2 / sorted.length;
  return Math.min(Math.max((sorted.at(-1) + sorted.at(-2) - pair) / (1 - pair), 0), 1);
}

// The reading of a picture, as the service answers it. picture: a list of uint8 grids. model: {layers, classes, threshold, segment}.
function read(picture, model) {
  const {height, width} = picture[0], {candidates, factor} = candidatesOf(picture, model.segment);
  const inPicture = ([x, y, w, h]) => [x * factor, y * factor, Math.min(w * factor, width - x * factor), Math.min(h * factor, height - y * factor)];
  const marks = candidates.map((candidate) => {
    const probabilities = run(model.layers, candidate.image.data).at(-1).data, best = probabilities.indexOf(largestOf(probabilities));
    const mark = {
      digit: model.classes[best], confidence: probabilities[best],
      probabilities: Object.fromEntries(model.classes.map((name, index) => [name, probabilities[index]])),
      digit_score: digitScore(probabilities), box: inPicture(candidate.box), image: inBase64(candidate.image.data),
    };
    return {...candidate, mark, mayBeDigit: candidate.sign === undefined};
  });
  return reading(marks, choose(marks, model.threshold), [width, height], model);
}

// The candidates of a picture, and the factor by which it was reduced to find them: less if the writing is small.
function candidatesOf(picture, segment) {
  const factor = factorTo(WORKING_PIXELS, picture), small = reduced(picture, factor);
  if (!segment) return {candidates: wholeCandidates(small), factor};
  const candidates = candidatesIn(preprocess(small));
  const heights = candidates.filter(({sign}) => sign === undefined).map(({box}) => box[3]);
  if (factor === 1 || (heights.length && percentile(heights, 50) >= SMALL_WRITING)) return {candidates, factor};
  const fine = factorTo(FINE_PIXELS, picture);
  return {candidates: candidatesIn(preprocess(reduced(picture, fine))), factor: fine};
}

// The factor that reduces a picture to about so many pixels, and a picture reduced by a factor.
const factorTo = (pixels, [{height, width}]) => Math.max(1, roundHalfToEven(Math.sqrt(height * width / pixels)));
const reduced = (picture, factor) => picture.map((channel) => reduce(channel, factor));

function wholeCandidates(picture) {
  const found = resizeWhole(picture);
  return found ? [{...found, line: 0, start: 0, stop: 1, complete: true, prior: 1, sign: undefined}] : [];
}

const inBase64 = (bytes) => btoa(String.fromCharCode(...bytes));

function reading(marks, found, [width, height], {classes}) {
  if (!marks.length) {
    const probabilities = Object.fromEntries(classes.map((name) => [name, 0]));
    const nothing = {prediction: null, confidence: 0, probabilities, is_digit: false, digit_score: 0, box: null, image: ""};
    return {...nothing, number: "", text: "", digits: [], refused: []};
  }
  const digits = found.filter(({isDigit}) => isDigit), lines = [...new Set(digits.map(({line}) => line))];
  const others = found.filter(({isDigit, line}) => !isDigit && lines.includes(line)), knowsSigns = classes.every((name) => /^\d+$/.test(name));
  const signs = others.filter(({sign}) => sign && knowsSigns), refused = others.filter(({sign}) => !(sign && knowsSigns));
  const possible = found.filter(({mayBeDigit}) => mayBeDigit), tallest = largestOf(possible.map(({mark}) => mark.box[3]));
  const rank = ({mark: {box: [x, y, w, h]}, isDigit, complete}) => [
    !isDigit, h < 0.4 * tallest, !complete, ((x + w / 2) / width - 0.5) ** 2 + ((y + h / 2) / height - 0.5) ** 2,
  ].map(Number);
  const first = (one, other) => {
    const [a, b] = [rank(one), rank(other)], place = a.findIndex((value, index) => value !== b[index]);
    return place >= 0 && b[place] < a[place] ? other : one;
  };
  const main = possible.reduce(first), {digit, ...rest} = main.mark;
  const separator = largestOf(classes.map((name) => name.length)) === 1 ? "" : " ";
  const textOf = (all) => lines.map((line) => all.filter((one) => one.line === line).map((one) => one.text).join(separator)).join("_");
  const asText = ({mark, line, sign, isDigit}) => ({line, text: isDigit ? mark.digit : sign, x: mark.box[0] + mark.box[2] / 2});
  return {
    prediction: digit, ...rest, is_digit: main.isDigit, number: textOf(digits.map(asText)),
    text: textOf(withSigns(digits.map(asText), signs.map(asText))),
    digits: digits.map(({mark}) => mark), refused: refused.map(({mark}) => mark),
  };
}

function withSigns(digits, signs) {
  const marks = [...digits];
  for (const sign of [...signs].sort((a, b) => a.x - b.x)) {
    const behind = marks.findIndex((mark) => mark.line === sign.line && mark.x > sign.x);
    marks.splice(behind < 0 ? marks.length : behind, 0, sign);
  }
  return marks;
}

// The marks that read all lines best, in order, each with isDigit, and those beside them.
function choose(marks, threshold) {
  const inLine = marks.filter(({start, stop}) => stop > start), numbers = [...new Set(inLine.map(({line}) => line))];
  const chosen = numbers.flatMap((number) => {
    const path = bestPath(inLine.filter(({line}) => line === number));
    const possible = path.filter(({mayBeDigit}) => mayBeDigit), accepted = accept(possible.map(({mark}) => mark.digit_score), threshold);
    return path.map((one) => ({...one, isDigit: one.mayBeDigit && accepted[possible.indexOf(one)]}));
  });
  return [...chosen, ...marks.filter(({start, stop}) => stop === start).map((one) => ({...one, isDigit: false}))];
}

// The candidates that together cover a row of pieces with the largest product of qualities and priors.
function bestPath(line) {
  const best = new Map([[0, {sum: 0, path: []}]]);
  for (const candidate of [...line].sort((a, b) => a.stop - b.stop)) {
    const {start, stop, prior, mark, mayBeDigit} = candidate;
    const quality = mayBeDigit ? mark.confidence * mark.digit_score : SIGN_QUALITY;
    const sum = best.get(start).sum + Math.log(Math.max(quality, 0.01) * prior);
    if (!best.has(stop) || sum > best.get(stop).sum) best.set(stop, {sum, path: [...best.get(start).path, candidate]});
  }
  return best.get(largestOf([...best.keys()])).path;
}

// Which marks of a line are digits: those that reach the threshold, corrected by the others.
function accept(scores, threshold) {
  const isDigit = scores.map((score) => score >= threshold), share = sumOf(isDigit.map(Number)) / scores.length;
  if (scores.length > 2 && sumOf(scores) / scores.length < 0.9 && share < 0.65) return isDigit.map(() => false);
  if (scores.length > 1 && share >= 0.5) return scores.map((score) => score >= Math.min(threshold, THRESHOLD_IN_NUMBER));
  return isDigit;
}
