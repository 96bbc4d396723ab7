"use strict";
// The answer: in words, as boxes over the sheet, as what the network saw, and as probabilities.

const overlay = $("boxes").getContext("2d");
const MAX_BARS = 12;  // of more classes, the most likely are shown
const MAX_BIG = 12;  // letters; a longer answer is written smaller
const BLUE = "#1d5fd1", GREY = "#6b7280";  // what was read, and what was not
const classes = JSON.parse(document.body.dataset.classes || "[]");  // the names, from the server
const digitsOnly = classes.every((name) => /^\d+$/.test(name));
let boxes = [];  // over the sheet: {label, share, place: [x, y, width, height], colour, selected}

const percent = (share) => `${(100 * share).toFixed(1)}%`;

function showAnswer(answer, detail = "", words = true) {
  if ($("answer").textContent !== answer) $("answer").textContent = answer;
  $("answer").classList.toggle("words", words || answer.length > MAX_BIG);
  if ($("detail").textContent !== detail) $("detail").textContent = detail;
}

function showError(reason) {
  showReading(null);
  showAnswer("Not read", reason);
}

// reading: an answer of the server, null if there is none. source: where its pixels are on the sheet, {x, y, scale}.
function showReading(reading, source) {
  const found = reading?.prediction != null, digits = reading?.digits ?? [];
  const marks = digits.length || !found ? digits : [{...reading, digit: reading.prediction}];
  const least = marks.reduce((best, mark, index) => mark.confidence < marks[best].confidence ? index : best, 0);
  showWords(reading, found, digits);
  showMarks(marks, least, source ? (selected) => boxesOf(reading, source, selected) : () => []);
}

function showWords(reading, found, digits) {
  if (!reading) return showAnswer(digitsOnly ? "Draw a digit" : "Draw");
  const left = reading.refused.length, pages = reading.pages ? `, page 1 of ${reading.pages}` : "";
  const others = (left ? `, ${left} ${left > 1 ? "marks" : "mark"} not read` : "") + pages;
  if (!found) showAnswer(digitsOnly ? "No digit found" : "Nothing found", others.slice(2));
  else if (digits.length > 0 && reading.text !== reading.prediction) {
    const lowest = Math.min(...digits.map((digit) => digit.confidence));
    showAnswer(reading.text.replaceAll("_", " / "), `lowest confidence ${percent(lowest)}${others}`, false);
  } else if (!reading.is_digit) {
    const likely = `looks most like ${reading.prediction}, ${percent(reading.confidence)}${pages}`;
    showAnswer(digitsOnly ? "Not a digit" : "None of the classes", likely);
  } else showAnswer(reading.prediction, `${percent(reading.confidence)} sure${others}`, false);
}

// Show the digits that were read, one of them selected. boxesFor: a function from its index to the boxes on the sheet.
function showMarks(marks, selected, boxesFor) {
  const select = (index) => {
    showMarks(marks, index, boxesFor);
    $("seen").children[index].focus();
  };
  $("seen").replaceChildren(...marks.map((mark, index) => makeTile(mark, index, marks.length, index === selected, select)));
  showBars(marks[selected], selected, marks.length);
  dispatchEvent(new CustomEvent("mark", {detail: marks[selected]}));
  boxes = boxesFor(selected);
  drawOverlay();
}

// Around what was read and what was refused; source: see showReading.
function boxesOf(reading, {x, y, scale}, selected = null) {
  const onSheet = ({box}) => [x + box[0] * scale - 4, y + box[1] * scale - 4, box[2] * scale + 8, box[3] * scale + 8];
  const {digits, refused} = reading, several = digits.length > 1;
  const others = digits.length || !reading.box ? refused : [...refused, reading];
  return [
    ...digits.map((digit, index) => (
      {label: digit.digit, share: `${Math.round(100 * digit.confidence)}%`, place: onSheet(digit), colour: BLUE, selected: several && index === selected}
    )),
    ...others.map((mark) => ({label: "?", share: "", place: onSheet(mark), colour: GREY, selected: false})),
  ];
}

function makeTile(mark, index, count, selected, select) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 28;
  canvas.getContext("2d").putImageData(greyLevels(mark.image), 0, 0);
  canvas.role = "img";
  canvas.ariaLabel = `${mark.digit} in 28 by 28 pixels`;
  if (count === 1) return canvas;
  const button = document.createElement("button"), caption = document.createElement("span");
  button.type = "button";
  button.ariaPressed = selected;
  button.ariaLabel = `${mark.digit}, ${percent(mark.confidence)} sure, ${index + 1} of ${count}: show its probabilities`;
  button.onclick = () => select(index);
  caption.textContent = `${mark.digit} ${Math.round(100 * mark.confidence)}%`;
  button.append(canvas, caption);
  return button;
}

function greyLevels(image) {
  const pixels = new ImageData(28, 28), levels = atob(image);
  for (let index = 0; index < 784; index++) {
    pixels.data.fill(levels.charCodeAt(index), 4 * index, 4 * index + 3);
    pixels.data[4 * index + 3] = 255;
  }
  return pixels;
}

function showBars(mark, index, count) {
  const part = classes.length > MAX_BARS ? `, the ${MAX_BARS} likeliest of ${classes.length}` : "";
  $("bars-title").textContent = (count > 1 ? `Probabilities of the ${mark.digit} (${index + 1} of ${count})` : "Probabilities") + part;
  $("bars").replaceChildren(...barsOf(mark));
}

function barsOf(mark) {
  const shares = classes.map((name) => [name, mark?.probabilities[name] ?? 0]);
  if (shares.length > MAX_BARS) shares.sort((a, b) => b[1] - a[1]).splice(MAX_BARS);
  return shares.map(([name, share]) => makeBar(name, share, mark));
}

function makeBar(name, share, mark) {
  const row = document.createElement("li");
  row.innerHTML = '<span></span><span class="bar"><i></i></span><span class="share"></span>';
  row.firstChild.textContent = name;
  row.querySelector("i").style.width = `${100 * share}%`;
  row.lastChild.textContent = mark ? percent(share) : "";
  row.ariaLabel = mark ? `${name}: ${percent(share)}` : name;
  row.classList.toggle("best", name === mark?.digit);
  return row;
}

function drawOverlay() {
  const {width, height, clientWidth} = overlay.canvas;
  const pixel = width / (clientWidth || width);  // of the screen, so that labels have one size on all
  overlay.clearRect(0, 0, width, height);
  for (const box of boxes) drawBox(box, pixel);
  const hint = isEmpty() ? "Draw here" : picture && !picture.bitmap ? "This browser cannot show the picture" : "";
  if (hint && !cursor && !camera) {
    overlay.font = `bold ${18 * pixel}px system-ui, sans-serif`;
    overlay.fillStyle = "#6b7280";
    overlay.textAlign = "center";
    overlay.fillText(hint, width / 2, height / 2);
    overlay.textAlign = "start";
  }
  if (!cursor) return;
  overlay.lineWidth = 2 * pixel;
  overlay.strokeStyle = keyboardStroke ? "#c22" : "#888";
  overlay.beginPath();
  overlay.arc(...cursor, 9 * pixel, 0, 7);
  overlay.stroke();
}

// With a white edge, so that it is seen on any picture.
function drawBox({label, share, place: [x, y, width, height], colour, selected}, pixel) {
  overlay.setLineDash(colour === GREY ? [4 * pixel, 3 * pixel] : []);
  for (const [style, line] of [["#fff", 4], [colour, selected ? 3 : 1.5]]) {
    overlay.strokeStyle = style;
    overlay.lineWidth = line * pixel;
    overlay.strokeRect(x, y, width, height);
  }
  overlay.setLineDash([]);
  overlay.strokeStyle = "#fff";
  overlay.fillStyle = colour;
  const below = y + height + 13 * pixel, above = y - 4 * pixel;
  for (const [text, font, bottom] of [[label, `bold ${17 * pixel}`, Math.max(17 * pixel, above)], [share, 11 * pixel, Math.min(below, overlay.canvas.height - 3)]]) {
    overlay.font = `${font}px system-ui, sans-serif`;
    overlay.lineWidth = 3 * pixel;
    overlay.strokeText(text, x, bottom);
    overlay.fillText(text, x, bottom);
  }
}
