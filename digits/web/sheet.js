"use strict";
// The sheet of paper: strokes or a picture, undo and redo; mouse, pen, finger and keyboard.

const $ = (id) => document.getElementById(id);
const paper = $("paper"), sheet = paper.getContext("2d");
const KEY_STEP = 15;  // pixels of the sheet, by which an arrow key moves the pen
let strokes = [], picture = null;  // what is on the sheet: strokes, or a picture {bitmap, bytes, x, y, scale}
let past = [], future = [];  // other states of the sheet, [strokes, picture], for undo and redo
let pointer = null, pointerStroke = null;  // id of the mouse, pen or finger that draws, and its stroke
let cursor = null, keyboardStroke = null;  // the pen that the arrow keys move: its position, and its stroke while it is down
let version = 0;  // of what is on the sheet

const isEmpty = () => !strokes.length && !picture;

function redraw() {
  sheet.fillStyle = "#fff";
  sheet.fillRect(0, 0, paper.width, paper.height);
  if (picture?.bitmap) {
    const {bitmap, x, y, scale} = picture, area = [x, y, bitmap.width * scale, bitmap.height * scale];
    sheet.fillStyle = "#b9bec7";  // white ink on a transparent ground is seen, too
    sheet.fillRect(...area);
    sheet.drawImage(bitmap, ...area);
  }
  sheet.strokeStyle = "#111";
  sheet.lineCap = sheet.lineJoin = "round";
  for (const stroke of strokes) {
    sheet.lineWidth = stroke.width;
    sheet.beginPath();
    stroke.points.forEach(([x, y], index) => index ? sheet.lineTo(x, y) : sheet.moveTo(x, y));
    if (stroke.points.length === 1) sheet.lineTo(stroke.points[0][0] + 0.01, stroke.points[0][1]);
    sheet.stroke();
  }
}

function sheetChanged() {
  version += 1;
  $("notice").textContent = unavailable;
  redraw();
  enableControls();
  if (isEmpty()) showReading(null);
  else {
    boxes = [];
    drawOverlay();
    predictSoon();
  }
}

function replace(newStrokes, newPicture) {
  past.push([strokes, picture]);
  future = [];
  [strokes, picture] = [newStrokes, newPicture];
  pointerStroke = keyboardStroke = null;
}

function clearSheet() {
  if (isEmpty() || camera) return;
  abandonRequest();
  replace([], null);
  sheetChanged();
}

function restore(from, to) {
  if (!from.length || camera) return;
  to.push([strokes, picture]);
  [strokes, picture] = from.pop();
  pointerStroke = keyboardStroke = null;
  sheetChanged();
}

const undo = () => restore(past, future);
const redo = () => restore(future, past);

async function openPicture(file) {
  stopCamera();
  const opened = ++version;
  const [bytes, bitmap] = await Promise.all([file.arrayBuffer(), createImageBitmap(file)].map((promise) => promise.catch(() => null)));
  if (version !== opened) return;  // something else was drawn or opened meanwhile
  const [width, height] = [bitmap?.width ?? 1, bitmap?.height ?? 1];  // the server reads more formats than the browser shows
  const scale = Math.min(paper.width / width, paper.height / height);
  abandonRequest();
  replace([], {bitmap, bytes, scale, x: (paper.width - width * scale) / 2, y: (paper.height - height * scale) / 2});
  sheetChanged();
}

// Mouse, pen, finger and keyboard

function startStroke(point) {
  const stroke = {width: Number($("width").value), points: [point]};
  if (picture) abandonRequest();
  replace(picture ? [stroke] : [...strokes, stroke], null);
  return stroke;
}

function positionOnSheet(event) {
  const area = paper.getBoundingClientRect();
  return [(event.clientX - area.left) * paper.width / area.width, (event.clientY - area.top) * paper.height / area.height];
}

paper.addEventListener("pointerdown", (event) => {
  if (event.button || (pointer !== null && event.pointerId !== pointer)) return;
  pointer = event.pointerId;
  cursor = null;
  pointerStroke = startStroke(positionOnSheet(event));
  paper.setPointerCapture(pointer);
  sheetChanged();
});
paper.addEventListener("pointermove", (event) => {
  if (!event.buttons) pointer = pointerStroke = null;  // it was lifted elsewhere
  if (event.pointerId !== pointer || !pointerStroke) return;
  const events = event.getCoalescedEvents?.() ?? [];
  for (const position of (events.length ? events : [event]).map(positionOnSheet)) pointerStroke.points.push(position);
  sheetChanged();
});
paper.addEventListener("lostpointercapture", (event) => {
  if (event.pointerId !== pointer) return;
  pointer = pointerStroke = null;
  predictAtOnce();
});

paper.addEventListener("keydown", (event) => {
  const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
  if ((!step && event.key !== " ") || event.altKey || event.ctrlKey || event.metaKey || camera) return;
  event.preventDefault();
  cursor ??= [paper.width / 2, paper.height / 2];
  const moved = (axis, side) => Math.min(side - KEY_STEP, Math.max(KEY_STEP, cursor[axis] + KEY_STEP * step[axis]));
  if (step) cursor = [moved(0, paper.width), moved(1, paper.height)];
  if (!step) keyboardStroke = keyboardStroke ? null : startStroke(cursor);
  else if (keyboardStroke) keyboardStroke.points.push(cursor);
  if (keyboardStroke) sheetChanged();
  else drawOverlay();
});
paper.addEventListener("blur", () => {
  cursor = keyboardStroke = null;
  drawOverlay();
});
