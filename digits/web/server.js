"use strict";
// The server reads the sheet: requests to it, whether it is there, and the end of its program.

const HEALTH_INTERVAL = 1000;  // ms between checks of the server
const ANSWER_TIMEOUT = 30_000;  // ms until a request is given up
const MAX_BYTES = 10_000_000;
const GONE = "The server is gone. Start it again with python draw.py: this page goes on by itself.";
const ENDED = "The program has ended. This tab can be closed.";
const local = ["127.0.0.1", "localhost", "[::1]"].includes(location.hostname);  // elsewhere the server refuses to be ended

// What is in a picture {bytes, or bitmap as a canvas}: {status, content}; null if there is no answer any more.
async function ask({bytes, bitmap}, type = "image/png") {
  const body = bytes ?? encoded(bitmap, type), headers = {"Content-Type": "application/octet-stream"};
  if (body.byteLength > MAX_BYTES) return {status: 413, content: {error: "a picture may have at most 10 MB"}};
  const mine = request = new AbortController();
  const timeout = setTimeout(() => mine.abort(), ANSWER_TIMEOUT);
  try {
    const answer = await fetch("predict?image=true", {method: "POST", body, headers, signal: mine.signal});
    return {status: answer.status, content: await answer.json()};
  } catch {
    if (mine.signal.reason === "abandoned") return null;
    if (await serverAnswers()) return {status: 0, content: {error: "the answer did not come"}};
    reportServerGone();
    return null;
  } finally {
    clearTimeout(timeout);
    request = null;
  }
}

function encoded(canvas, type) {
  return bytesOf(canvas.toDataURL(type, 0.92).split(",")[1]);  // toBlob() may wait a second for the browser to be idle
}

async function serverAnswers() {
  return fetch("health", {signal: AbortSignal.timeout(5000)}).then((answer) => answer.ok, () => false);
}

async function checkServer() {
  if (unavailable === ENDED || document.hidden) return;
  const reachable = await serverAnswers();
  if (!reachable && !unavailable) return reportServerGone();
  if (!reachable || unavailable !== GONE) return;
  $("notice").textContent = unavailable = "";
  if (camera) return;
  isEmpty() ? showReading(null) : predict();
}

function reportServerGone() {
  if (unavailable) return;
  unavailable = GONE;
  showUnavailable();
}

function askToQuit() {
  if (local && unavailable !== ENDED && !$("quit-dialog").open) $("quit-dialog").showModal();
}

async function quit() {
  $("quit-dialog").close();
  stopCamera();
  try {
    const answer = await fetch("quit", {method: "POST"});
    if (!answer.ok) return void ($("notice").textContent = (await answer.json()).error);
    $("notice").className = "calm";
    $("notice").textContent = unavailable = ENDED;
  } catch {
    reportServerGone();
  }
}

$("quit-hint").hidden = !local;
$("quit-no").onclick = () => $("quit-dialog").close();
$("quit-yes").onclick = quit;
addEventListener("keydown", (event) => {
  if (event.key.toLowerCase() === "q" && !event.repeat && !event.altKey && !event.ctrlKey && !event.metaKey) askToQuit();
});
setInterval(checkServer, HEALTH_INTERVAL);
