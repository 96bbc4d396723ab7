"use strict";
// What reads the sheet: the server, one request at a time.

const SEND_DELAY = 50;  // ms after a change until the drawing is sent
const HEALTH_INTERVAL = 1000;  // ms between checks of the server
const ANSWER_TIMEOUT = 30_000;  // ms until a request is given up
const BUSY_WAIT = 500;  // ms until a busy server is asked again
const SENT_WIDTH = 400;  // pixels, width of the drawing that is sent
const MAX_BYTES = 10_000_000;
let request = null, timer = null, serverGone = false, programEnded = false;

const predictSoon = (wait = SEND_DELAY) => { timer ??= setTimeout(predict, wait); };
const abandonRequest = () => request?.abort();  // its answer would be about what was there before

// The canvas, scaled to a width, as the bytes of a picture.
function pictureOf(source, width, height, type) {
  const small = document.createElement("canvas");
  [small.width, small.height] = [width, height];
  const context = small.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(source, 0, 0, width, height);
  const data = small.toDataURL(type, 0.92).split(",")[1];  // toBlob() may wait a second for the browser to be idle
  return Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
}

// What is in a picture: {status, content}, or null if no answer came.
async function ask(body) {
  const mine = request = new AbortController();
  const timeout = setTimeout(() => mine.abort(), ANSWER_TIMEOUT);
  try {
    const headers = {"Content-Type": "application/octet-stream"};
    const answer = await fetch("predict?image=true", {method: "POST", body, headers, signal: mine.signal});
    return {status: answer.status, content: await answer.json()};
  } catch {
    return null;
  } finally {
    clearTimeout(timeout);
    request = null;
  }
}

async function predict() {
  clearTimeout(timer);
  timer = null;
  if (serverGone) return reportServerGone();
  if (programEnded || request || camera || isEmpty()) return;
  const sent = version, source = picture ?? {x: 0, y: 0, scale: paper.width / SENT_WIDTH};
  if (picture) {
    const reason = unreadable(picture);
    if (reason) return showError(reason);
  }
  const answer = await ask(picture?.bytes ?? pictureOf(paper, SENT_WIDTH, SENT_WIDTH * paper.height / paper.width));
  if (sent === version && !camera) {
    if (!answer) (await serverAnswers()) ? showError("the answer did not come") : reportServerGone();
    else if (answer.status === 200) showReading(answer.content, visible(answer.content, source));
    else showError(answer.content.error);
  }
  if (camera) return;
  if (answer?.status === 503) predictSoon(BUSY_WAIT);
  else if (sent !== version) predictSoon(0);
}

function unreadable({bytes}) {
  if (!bytes) return "the file cannot be read";
  if (!bytes.byteLength) return "the file is empty";
  return bytes.byteLength > MAX_BYTES ? "a picture may have at most 10 MB" : "";
}

// Where boxes are drawn: over any picture that is shown, and over a drawing of several digits.
function visible({digits, refused}, source) {
  const shown = source === picture ? picture.bitmap : digits.length + refused.length > 1;
  return shown ? source : null;
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
  if (camera) return;
  isEmpty() ? showReading(null) : predict();
}

function reportServerGone() {
  if (programEnded) return;
  showReading(null);
  if (!isEmpty() || camera) showAnswer("No answer");
  if (serverGone) return;
  serverGone = true;
  $("notice").textContent = "The server is gone. Start it again with python draw.py: this page goes on by itself.";
}

async function quit() {
  stopCamera();
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
