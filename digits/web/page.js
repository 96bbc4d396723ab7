"use strict";
const $ = (id) => document.getElementById(id);
const paper = $("paper"), pen = paper.getContext("2d"), boxes = $("boxes").getContext("2d");
const WAIT = 50;  // ms from a change until the drawing is sent
const CHECK = 1000;  // ms between looks whether the server is there
const ANSWER = 30_000;  // ms after which an answer is not waited for any longer
const SENT = 400;  // pixels, the width at which it is sent
const MOST_BYTES = 10_000_000;
const MOST_BARS = 12;  // of more classes, the likeliest are shown
const classes = JSON.parse(document.body.dataset.classes || "[]");  // the names, from the server
const digitsOnly = classes.every((name) => /^\d+$/.test(name));
let strokes = [], picture = null;  // what is on the sheet: strokes, or a picture {bitmap, bytes, x, y, scale}
let past = [];  // what was on it before each change, [strokes, picture]
let pointer = null, drawing = null;  // which mouse, pen or finger draws, and its stroke
let cursor = null, writing = null;  // the pen of the keyboard: where it is, and its stroke while it is down
let marked = [];  // boxes over the digits of a number: [digit, x, y, width, height]
let version = 0, asking = null, timer = null, away = false, ended = false;

// The sheet

function redraw() {
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, paper.width, paper.height);
  if (picture?.bitmap) {
    const {bitmap, x, y, scale} = picture;
    pen.drawImage(bitmap, x, y, bitmap.width * scale, bitmap.height * scale);
  }
  pen.strokeStyle = pen.fillStyle = "#111";
  pen.lineCap = pen.lineJoin = "round";
  for (const stroke of strokes) {
    pen.lineWidth = stroke.width;
    pen.beginPath();
    stroke.points.forEach(([x, y], place) => place ? pen.lineTo(x, y) : pen.moveTo(x, y));
    if (stroke.points.length === 1) pen.lineTo(stroke.points[0][0] + 0.01, stroke.points[0][1]);
    pen.stroke();
  }
}

function changed() {
  version += 1;
  marked = [];
  if (!away && !ended) $("trouble").textContent = "";
  redraw();
  mark();
  if (empty()) show(null);
  else timer ??= setTimeout(ask, WAIT);
}

const empty = () => !strokes.length && !picture;

function replace(newStrokes, newPicture) {
  past.push([strokes, picture]);
  [strokes, picture] = [newStrokes, newPicture];
  drawing = writing = null;
  asking?.abort();  // its answer is not wanted any more
}

function start(point) {
  const stroke = {width: Number($("width").value), points: [point]};
  if (picture) replace([stroke], null);
  else {
    past.push([strokes, null]);
    strokes = [...strokes, stroke];
  }
  return stroke;
}

function clear() {
  if (empty()) return;
  replace([], null);
  changed();
}

function undo() {
  if (!past.length) return;
  [strokes, picture] = past.pop();
  drawing = writing = null;
  changed();
}

async function open(file) {
  const mine = ++version;
  const [bytes, bitmap] = await Promise.all([file.arrayBuffer(), createImageBitmap(file)].map((one) => one.catch(() => null)));
  if (version !== mine) return;  // something else was drawn or opened meanwhile
  const [width, height] = [bitmap?.width ?? 1, bitmap?.height ?? 1];  // what cannot be shown may be read all the same
  const scale = Math.min(paper.width / width, paper.height / height);
  replace([], {bitmap, bytes, scale, x: (paper.width - width * scale) / 2, y: (paper.height - height * scale) / 2});
  changed();
}

// Mouse, pen, finger and keyboard

function place(event) {
  const area = paper.getBoundingClientRect();
  return [(event.clientX - area.left) * paper.width / area.width, (event.clientY - area.top) * paper.height / area.height];
}

paper.addEventListener("pointerdown", (event) => {
  if (event.button || (pointer !== null && event.pointerId !== pointer)) return;
  pointer = event.pointerId;
  cursor = writing = null;
  drawing = start(place(event));
  paper.setPointerCapture(pointer);
  changed();
});
paper.addEventListener("pointermove", (event) => {
  if (!event.buttons) pointer = drawing = null;  // it was lifted elsewhere
  if (event.pointerId !== pointer || !drawing) return;
  const events = event.getCoalescedEvents?.() ?? [];
  for (const one of events.length ? events : [event]) drawing.points.push(place(one));
  changed();
});
paper.addEventListener("lostpointercapture", (event) => {
  if (event.pointerId === pointer) pointer = drawing = null;
});

paper.addEventListener("keydown", (event) => {
  const step = {ArrowLeft: [-15, 0], ArrowRight: [15, 0], ArrowUp: [0, -15], ArrowDown: [0, 15]}[event.key];
  if ((!step && event.key !== " ") || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  cursor ??= [400, 300];
  if (step) cursor = [Math.min(785, Math.max(15, cursor[0] + step[0])), Math.min(585, Math.max(15, cursor[1] + step[1]))];
  if (!step) writing = writing ? null : start(cursor);
  else if (writing) writing.points.push(cursor);
  if (writing) changed();
  else mark();
});
paper.addEventListener("blur", () => {
  cursor = writing = null;
  mark();
});

// Asking the server

function drawn() {
  const small = document.createElement("canvas");
  small.width = SENT; small.height = SENT * paper.height / paper.width;
  const context = small.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(paper, 0, 0, small.width, small.height);
  const png = small.toDataURL("image/png").split(",")[1];  // toBlob() may wait a second for the browser to be idle
  return Uint8Array.from(atob(png), (letter) => letter.charCodeAt(0));
}

async function ask() {
  clearTimeout(timer);
  timer = null;
  if (away) return gone();
  if (ended || asking || empty()) return;
  const asked = version, source = picture;
  if (source && !source.bytes) return refuse("the file cannot be read");
  if (source?.bytes.byteLength > MOST_BYTES) return refuse("a picture may have at most 10 MB");
  let wait = 0;
  asking = new AbortController();
  const limit = setTimeout(() => asking.abort(), ANSWER);
  try {
    const body = source ? source.bytes : drawn(), headers = {"Content-Type": "application/octet-stream"};
    const answer = await fetch("predict?image=true", {method: "POST", body, headers, signal: asking.signal});
    const content = await answer.json();
    if (asked === version) answer.ok ? show(content, source) : refuse(content.error);
    if (answer.status === 503) wait = 500;
  } catch {
    if (asked === version) (await alive()) ? refuse("the answer did not come") : gone();
  }
  clearTimeout(limit);
  asking = null;
  if (wait || asked !== version) timer ??= setTimeout(ask, wait);
}

async function alive() {
  return fetch("health", {signal: AbortSignal.timeout(5000)}).then((answer) => answer.ok, () => false);
}

async function check() {
  if (ended || document.hidden) return;
  const there = await alive();
  if (there !== away) return;  // nothing new
  if (!there) return gone();
  away = false;
  $("trouble").textContent = "";
  empty() ? show(null) : ask();
}

function gone() {
  if (ended) return;
  show(null);
  if (!empty()) say("No answer");
  if (away) return;
  away = true;
  $("trouble").textContent = "The server is gone. Start it again with python draw.py: this page goes on by itself.";
}

async function quit() {
  try {
    const answer = await fetch("quit", {method: "POST"});
    if (!answer.ok) return void ($("trouble").textContent = (await answer.json()).error);
    ended = true;
    $("trouble").className = "calm";
    $("trouble").textContent = "The program has ended. This tab can be closed.";
  } catch {
    gone();
  }
}

// Showing the answer

function say(answer, detail = "", words = true) {
  if ($("answer").textContent !== answer) $("answer").textContent = answer;
  $("answer").classList.toggle("words", words);
  if ($("detail").textContent !== detail) $("detail").textContent = detail;
}

const percent = (share) => `${(100 * share).toFixed(1)}%`;

function bar(name, share, best, found) {
  const row = document.createElement("li");
  row.innerHTML = '<span></span><span class="bar"><i></i></span><span class="share"></span>';
  row.firstChild.textContent = name;
  row.querySelector("i").style.width = `${100 * share}%`;
  row.lastChild.textContent = found ? percent(share) : "";
  row.classList.toggle("best", best);
  return row;
}

function show(reading, source) {
  const found = reading?.prediction != null, digits = reading?.digits ?? [];
  const shares = classes.map((name) => [name, reading?.probabilities[name] ?? 0]);
  if (shares.length > MOST_BARS) shares.sort((one, other) => other[1] - one[1]).splice(MOST_BARS);
  $("bars").replaceChildren(...shares.map(([name, share]) => bar(name, share, found && name === reading.prediction, found)));
  see(found ? reading.image : null);
  marked = digits.length > 1 && source?.bitmap !== null ? digits.map((one) => placed(one, source)) : [];
  mark();
  if (!reading) say(digitsOnly ? "Draw a digit" : "Draw");
  else if (!found) say(digitsOnly ? "No digit found" : "Nothing found");
  else if (digits.length > 1) {
    const lowest = Math.min(...digits.map((one) => one.confidence));
    say(reading.number.replaceAll("_", " / "), `lowest confidence ${percent(lowest)}`, false);
  } else if (!reading.is_digit) say(digitsOnly ? "Not a digit" : "None of the classes", `looks most like ${reading.prediction}, ${percent(reading.confidence)}`);
  else say(reading.prediction, `${percent(reading.confidence)} sure`, false);
}

function refuse(reason) {
  show(null);
  say("Not read", reason);
}

function see(image) {
  const pixels = new ImageData(28, 28);
  const levels = image ? atob(image) : "\0".repeat(784);
  for (let place = 0; place < 784; place++) {
    pixels.data.fill(levels.charCodeAt(place), 4 * place, 4 * place + 3);
    pixels.data[4 * place + 3] = 255;
  }
  $("seen").getContext("2d").putImageData(pixels, 0, 0);
}

function placed({digit, box}, source) {
  const scale = source ? source.scale : paper.width / SENT, [left, top] = source ? [source.x, source.y] : [0, 0];
  const [x, y, width, height] = box.map((side) => side * scale);
  return [digit, left + x - 4, top + y - 4, width + 8, height + 8];
}

function mark() {
  boxes.clearRect(0, 0, paper.width, paper.height);
  boxes.strokeStyle = boxes.fillStyle = "#1d5fd1";
  boxes.lineWidth = 3;
  boxes.font = "bold 26px system-ui, sans-serif";
  for (const [digit, x, y, width, height] of marked) {
    boxes.strokeRect(x, y, width, height);
    boxes.fillText(digit, x, Math.max(24, y - 6));
  }
  if (empty() && !cursor) {
    boxes.fillStyle = "#767d8a";
    boxes.textAlign = "center";
    boxes.fillText("Draw here", paper.width / 2, paper.height / 2);
    boxes.textAlign = "start";
  }
  if (!cursor) return;
  boxes.strokeStyle = writing ? "#c22" : "#888";
  boxes.beginPath();
  boxes.arc(...cursor, 14, 0, 7);
  boxes.stroke();
}

// Controls

$("undo").onclick = undo;
$("clear").onclick = clear;
$("predict").onclick = ask;
$("file").onchange = () => { if ($("file").files[0]) open($("file").files[0]); $("file").value = ""; };
addEventListener("keydown", (event) => {
  if (event.altKey || event.target.matches("input[type=text], textarea")) return;
  if ((event.ctrlKey || event.metaKey) && event.key === "z") { event.preventDefault(); return undo(); }
  if (event.ctrlKey || event.metaKey || event.repeat) return;
  ({p: ask, c: clear, u: undo, q: quit})[event.key.toLowerCase()]?.();
});
addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
  if (file) open(file);
});
addEventListener("dragover", (event) => { event.preventDefault(); $("sheet").classList.add("over"); });
addEventListener("dragleave", () => $("sheet").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  $("sheet").classList.remove("over");
  if (event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
});
$("ends").hidden = !["127.0.0.1", "localhost", "[::1]"].includes(location.hostname);  // it is refused elsewhere
if (!digitsOnly) {
  $("title").textContent = document.title = "Draw, and see what is read";
  const some = classes.length > MOST_BARS ? `, the ${MOST_BARS} likeliest of ${classes.length}` : "";
  $("bars-title").textContent = `Probabilities${some}`;
  $("seen").ariaLabel = "28 by 28 pixels";
}
const longest = Math.max(...classes.map((name) => name.length));
$("bars").style.setProperty("--name", `${Math.max(1.2, 0.62 * longest)}em`);
setInterval(check, CHECK);
changed();
