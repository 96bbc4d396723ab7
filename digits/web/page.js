"use strict";
const $ = (id) => document.getElementById(id);
const paper = $("paper"), sheet = paper.getContext("2d"), overlay = $("boxes").getContext("2d");
const SEND_DELAY = 50;  // ms after a change until the drawing is sent
const HEALTH_INTERVAL = 1000;  // ms between checks of the server
const ANSWER_TIMEOUT = 30_000;  // ms until a request is given up
const SENT_WIDTH = 400;  // pixels, width of the drawing that is sent
const MAX_BYTES = 10_000_000;
const MAX_BARS = 12;  // of more classes, the most likely are shown
const classes = JSON.parse(document.body.dataset.classes || "[]");  // the names, from the server
const digitsOnly = classes.every((name) => /^\d+$/.test(name));
let strokes = [], picture = null;  // what is on the sheet: strokes, or a picture {bitmap, bytes, x, y, scale}
let undoStack = [];  // earlier states of the sheet, [strokes, picture]
let pointer = null, pointerStroke = null;  // id of the mouse, pen or finger that draws, and its stroke
let cursor = null, keyboardStroke = null;  // the pen that the arrow keys move: its position, and its stroke while it is down
let digitBoxes = [];  // around the digits of a number: [digit, x, y, width, height]
let version = 0, request = null, timer = null, serverGone = false, programEnded = false;

// The sheet

function redraw() {
  sheet.fillStyle = "#fff";
  sheet.fillRect(0, 0, paper.width, paper.height);
  if (picture?.bitmap) {
    const {bitmap, x, y, scale} = picture;
    sheet.drawImage(bitmap, x, y, bitmap.width * scale, bitmap.height * scale);
  }
  sheet.strokeStyle = sheet.fillStyle = "#111";
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
  digitBoxes = [];
  if (!serverGone && !programEnded) $("notice").textContent = "";
  redraw();
  drawOverlay();
  if (isEmpty()) showReading(null);
  else timer ??= setTimeout(predict, SEND_DELAY);
}

const isEmpty = () => !strokes.length && !picture;

function replace(newStrokes, newPicture) {
  undoStack.push([strokes, picture]);
  [strokes, picture] = [newStrokes, newPicture];
  pointerStroke = keyboardStroke = null;
  request?.abort();  // its answer would be about the old drawing
}

function startStroke(point) {
  const stroke = {width: Number($("width").value), points: [point]};
  if (picture) replace([stroke], null);
  else {
    undoStack.push([strokes, null]);
    strokes = [...strokes, stroke];
  }
  return stroke;
}

function clearSheet() {
  if (isEmpty()) return;
  replace([], null);
  sheetChanged();
}

function undo() {
  if (!undoStack.length) return;
  [strokes, picture] = undoStack.pop();
  pointerStroke = keyboardStroke = null;
  sheetChanged();
}

async function openPicture(file) {
  const opened = ++version;
  const [bytes, bitmap] = await Promise.all([file.arrayBuffer(), createImageBitmap(file)].map((promise) => promise.catch(() => null)));
  if (version !== opened) return;  // something else was drawn or opened meanwhile
  const [width, height] = [bitmap?.width ?? 1, bitmap?.height ?? 1];  // the server reads more formats than the browser shows
  const scale = Math.min(paper.width / width, paper.height / height);
  replace([], {bitmap, bytes, scale, x: (paper.width - width * scale) / 2, y: (paper.height - height * scale) / 2});
  sheetChanged();
}

// Mouse, pen, finger and keyboard

function positionOnSheet(event) {
  const area = paper.getBoundingClientRect();
  return [(event.clientX - area.left) * paper.width / area.width, (event.clientY - area.top) * paper.height / area.height];
}

paper.addEventListener("pointerdown", (event) => {
  if (event.button || (pointer !== null && event.pointerId !== pointer)) return;
  pointer = event.pointerId;
  cursor = keyboardStroke = null;
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
  if (event.pointerId === pointer) pointer = pointerStroke = null;
});

paper.addEventListener("keydown", (event) => {
  const step = {ArrowLeft: [-15, 0], ArrowRight: [15, 0], ArrowUp: [0, -15], ArrowDown: [0, 15]}[event.key];
  if ((!step && event.key !== " ") || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  cursor ??= [400, 300];
  if (step) cursor = [Math.min(785, Math.max(15, cursor[0] + step[0])), Math.min(585, Math.max(15, cursor[1] + step[1]))];
  if (!step) keyboardStroke = keyboardStroke ? null : startStroke(cursor);
  else if (keyboardStroke) keyboardStroke.points.push(cursor);
  if (keyboardStroke) sheetChanged();
  else drawOverlay();
});
paper.addEventListener("blur", () => {
  cursor = keyboardStroke = null;
  drawOverlay();
});

// Requests to the server

function drawingAsPng() {
  const small = document.createElement("canvas");
  small.width = SENT_WIDTH; small.height = SENT_WIDTH * paper.height / paper.width;
  const context = small.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(paper, 0, 0, small.width, small.height);
  const png = small.toDataURL("image/png").split(",")[1];  // toBlob() may wait a second for the browser to be idle
  return Uint8Array.from(atob(png), (letter) => letter.charCodeAt(0));
}

async function predict() {
  clearTimeout(timer);
  timer = null;
  if (serverGone) return reportServerGone();
  if (programEnded || request || isEmpty()) return;
  const sent = version, source = picture;
  if (source && !source.bytes) return showError("the file cannot be read");
  if (source?.bytes.byteLength > MAX_BYTES) return showError("a picture may have at most 10 MB");
  let wait = 0;
  request = new AbortController();
  const timeout = setTimeout(() => request.abort(), ANSWER_TIMEOUT);
  try {
    const body = source ? source.bytes : drawingAsPng(), headers = {"Content-Type": "application/octet-stream"};
    const answer = await fetch("predict?image=true", {method: "POST", body, headers, signal: request.signal});
    const content = await answer.json();
    if (sent === version) answer.ok ? showReading(content, source) : showError(content.error);
    if (answer.status === 503) wait = 500;
  } catch {
    if (sent === version) (await serverAnswers()) ? showError("the answer did not come") : reportServerGone();
  }
  clearTimeout(timeout);
  request = null;
  if (wait || sent !== version) timer ??= setTimeout(predict, wait);
}

async function serverAnswers() {
  return fetch("health", {signal: AbortSignal.timeout(5000)}).then((answer) => answer.ok, () => false);
}

async function checkServer() {
  if (programEnded || document.hidden) return;
  const reachable = await serverAnswers();
  if (reachable !== serverGone) return;  // as before
  if (!reachable) return reportServerGone();
  serverGone = false;
  $("notice").textContent = "";
  isEmpty() ? showReading(null) : predict();
}

function reportServerGone() {
  if (programEnded) return;
  showReading(null);
  if (!isEmpty()) showAnswer("No answer");
  if (serverGone) return;
  serverGone = true;
  $("notice").textContent = "The server is gone. Start it again with python draw.py: this page goes on by itself.";
}

async function quit() {
  try {
    const answer = await fetch("quit", {method: "POST"});
    if (!answer.ok) return void ($("notice").textContent = (await answer.json()).error);
    programEnded = true;
    $("notice").className = "calm";
    $("notice").textContent = "The program has ended. This tab can be closed.";
  } catch {
    reportServerGone();
  }
}

// Showing the answer

function showAnswer(answer, detail = "", words = true) {
  if ($("answer").textContent !== answer) $("answer").textContent = answer;
  $("answer").classList.toggle("words", words);
  if ($("detail").textContent !== detail) $("detail").textContent = detail;
}

const notRead = ({refused: {length}}) => (length ? `, ${length} ${length > 1 ? "marks" : "mark"} not read` : "");
const percent = (share) => `${(100 * share).toFixed(1)}%`;

function makeBar(name, share, best, found) {
  const row = document.createElement("li");
  row.innerHTML = '<span></span><span class="bar"><i></i></span><span class="share"></span>';
  row.firstChild.textContent = name;
  row.querySelector("i").style.width = `${100 * share}%`;
  row.lastChild.textContent = found ? percent(share) : "";
  row.classList.toggle("best", best);
  return row;
}

function showReading(reading, source) {
  const found = reading?.prediction != null, digits = reading?.digits ?? [];
  const shares = classes.map((name) => [name, reading?.probabilities[name] ?? 0]);
  if (shares.length > MAX_BARS) shares.sort((a, b) => b[1] - a[1]).splice(MAX_BARS);
  $("bars").replaceChildren(...shares.map(([name, share]) => makeBar(name, share, found && name === reading.prediction, found)));
  showSeen(found ? reading.image : null);
  digitBoxes = digits.length > 1 && source?.bitmap !== null ? digits.map((digit) => boxOnSheet(digit, source)) : [];
  drawOverlay();
  if (!reading) showAnswer(digitsOnly ? "Draw a digit" : "Draw");
  else if (!found) showAnswer(digitsOnly ? "No digit found" : "Nothing found");
  else if (digits.length > 0 && reading.text !== reading.prediction) {
    const lowest = Math.min(...digits.map((digit) => digit.confidence));
    showAnswer(reading.text.replaceAll("_", " / "), `lowest confidence ${percent(lowest)}${notRead(reading)}`, false);
  } else if (!reading.is_digit) showAnswer(digitsOnly ? "Not a digit" : "None of the classes", `looks most like ${reading.prediction}, ${percent(reading.confidence)}`);
  else showAnswer(reading.prediction, `${percent(reading.confidence)} sure${notRead(reading)}`, false);
}

function showError(reason) {
  showReading(null);
  showAnswer("Not read", reason);
}

function showSeen(image) {
  const pixels = new ImageData(28, 28);
  const levels = image ? atob(image) : "\0".repeat(784);
  for (let index = 0; index < 784; index++) {
    pixels.data.fill(levels.charCodeAt(index), 4 * index, 4 * index + 3);
    pixels.data[4 * index + 3] = 255;
  }
  $("seen").getContext("2d").putImageData(pixels, 0, 0);
}

function boxOnSheet({digit, box}, source) {
  const scale = source ? source.scale : paper.width / SENT_WIDTH, [left, top] = source ? [source.x, source.y] : [0, 0];
  const [x, y, width, height] = box.map((side) => side * scale);
  return [digit, left + x - 4, top + y - 4, width + 8, height + 8];
}

function drawOverlay() {
  overlay.clearRect(0, 0, paper.width, paper.height);
  overlay.strokeStyle = overlay.fillStyle = "#1d5fd1";
  overlay.lineWidth = 3;
  overlay.font = "bold 26px system-ui, sans-serif";
  for (const [digit, x, y, width, height] of digitBoxes) {
    overlay.strokeRect(x, y, width, height);
    overlay.fillText(digit, x, Math.max(24, y - 6));
  }
  if (isEmpty() && !cursor) {
    overlay.fillStyle = "#767d8a";
    overlay.textAlign = "center";
    overlay.fillText("Draw here", paper.width / 2, paper.height / 2);
    overlay.textAlign = "start";
  }
  if (!cursor) return;
  overlay.strokeStyle = keyboardStroke ? "#c22" : "#888";
  overlay.beginPath();
  overlay.arc(...cursor, 14, 0, 7);
  overlay.stroke();
}

// Controls

$("undo").onclick = undo;
$("clear").onclick = clearSheet;
$("predict").onclick = predict;
$("file").onchange = () => { if ($("file").files[0]) openPicture($("file").files[0]); $("file").value = ""; };
addEventListener("keydown", (event) => {
  if (event.altKey || event.target.matches("input[type=text], textarea")) return;
  if ((event.ctrlKey || event.metaKey) && event.key === "z") { event.preventDefault(); return undo(); }
  if (event.ctrlKey || event.metaKey || event.repeat) return;
  ({p: predict, c: clearSheet, u: undo, q: quit})[event.key.toLowerCase()]?.();
});
addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find((item) => item.type.startsWith("image/"));
  if (file) openPicture(file);
});
addEventListener("dragover", (event) => { event.preventDefault(); $("sheet").classList.add("over"); });
addEventListener("dragleave", () => $("sheet").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  $("sheet").classList.remove("over");
  if (event.dataTransfer.files[0]) openPicture(event.dataTransfer.files[0]);
});
$("quit-hint").hidden = !["127.0.0.1", "localhost", "[::1]"].includes(location.hostname);  // the service refuses it elsewhere
if (!digitsOnly) {
  $("title").textContent = document.title = "Draw, and see what is read";
  const shown = classes.length > MAX_BARS ? `, the ${MAX_BARS} likeliest of ${classes.length}` : "";
  $("bars-title").textContent = `Probabilities${shown}`;
  $("seen").ariaLabel = "28 by 28 pixels";
}
const longest = Math.max(...classes.map((name) => name.length));
$("bars").style.setProperty("--name", `${Math.max(1.2, 0.62 * longest)}em`);
setInterval(checkServer, HEALTH_INTERVAL);
sheetChanged();
