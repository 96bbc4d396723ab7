"use strict";
// When the sheet is read: a little after each change, one request at a time. What reads it is ask(), in another file.

const SEND_DELAY = 50;  // ms after a change until the drawing is read
const BUSY_WAIT = 500;  // ms until a busy reader is asked again
const SENT_WIDTH = 400;  // pixels, width of the drawing that is read
let request = null, timer = null;
let unavailable = "";  // why nothing can be read for now, a sentence

const predictSoon = (wait = SEND_DELAY) => { timer ??= setTimeout(predict, wait); };
function predictAtOnce() {
  if (timer === null) return;  // it has been read
  clearTimeout(timer);
  timer = setTimeout(predict);
}

const abandonRequest = () => request?.abort("abandoned");  // its answer would be about what was there before

async function predict() {
  clearTimeout(timer);
  timer = null;
  if (unavailable) return showUnavailable();
  if (request || camera || isEmpty()) return;
  if (picture && !picture.bytes) return showError("the file cannot be read");
  if (picture && !picture.bytes.byteLength) return showError("the file is empty");
  const sent = version, source = picture ?? drawing();
  const answer = await ask(source);
  if (camera) return;
  if (answer && sent === version) {
    if (answer.status === 200) showReading(answer.content, hasBoxes(answer.content, source) ? source : null);
    else showError(answer.content.error);
  }
  if (answer?.status === 503) predictSoon(BUSY_WAIT);
  else if (sent !== version) predictSoon(0);
}

// The strokes as a picture to read: see picture in sheet.js.
function drawing() {
  const bitmap = scaled(paper, SENT_WIDTH, SENT_WIDTH * paper.height / paper.width);
  return {bitmap, bytes: null, x: 0, y: 0, scale: paper.width / SENT_WIDTH};
}

function scaled(source, width, height) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.imageSmoothingQuality = "high";
  context.drawImage(source, 0, 0, width, height);
  return canvas;
}

const bytesOf = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));

// Boxes are drawn over any picture that is shown, and over a drawing of several digits.
function hasBoxes({digits, refused}, source) {
  return source === picture ? Boolean(picture.bitmap) : digits.length + refused.length > 1;
}

function showUnavailable() {
  showReading(null);
  if (!isEmpty() || camera) showAnswer("No answer");
  $("notice").textContent = unavailable;
}
