"use strict";
// The camera, live: a frame at a time is read, and what was found is drawn over it.

const FRAME_WIDTH = 800;  // pixels, of the frame that is sent
const FRAME_PAUSE = 60;  // ms between an answer and the next frame
const STEADY_FRAMES = 3;  // that must read the same until it counts
const WHY_NO_CAMERA = {  // the browser's name of an error -> what to do
  NotAllowedError: "The browser does not allow the camera: allow it beside the address, then press Camera again.",
  NotFoundError: "No camera was found.",
  NotReadableError: "The camera cannot be used: another program may have it.",
};
const HIDDEN = "The camera is off because this tab was hidden.";
let camera = null;  // the MediaStream while it is on

async function startCamera() {
  if (!navigator.mediaDevices?.getUserMedia) {
    return void ($("notice").textContent = "The browser offers the camera only on the machine that runs draw.py, or under HTTPS. Take a photo instead.");
  }
  const video = $("video");
  let stream = null;
  $("camera").disabled = true;  // until it is on, or refused
  try {
    stream = await navigator.mediaDevices.getUserMedia({video: {facingMode: "environment", width: {ideal: 1280}}});
    video.srcObject = stream;
    await video.play();
  } catch (error) {
    stream?.getTracks().forEach((track) => track.stop());
    return void ($("notice").textContent = WHY_NO_CAMERA[error.name] ?? `The camera cannot be used: ${error.message}`);
  } finally {
    $("camera").disabled = false;
  }
  $("notice").textContent = "";
  camera = stream;
  stream.getVideoTracks()[0].onended = () => stopCamera("The camera was switched off.");
  abandonRequest();
  video.onresize = () => { if (camera) showCamera(video.videoHeight / video.videoWidth); };  // the phone was turned
  video.onresize();
  showReading(null);
  showAnswer("Show a number to the camera");
  document.hidden ? stopCamera(HIDDEN) : watch(stream);
}

// Turn the camera off; what was on the sheet before is there again. why: a sentence if nobody asked for it.
function stopCamera(why = "") {
  if (!camera) return;
  camera.getTracks().forEach((track) => track.stop());
  camera = $("video").srcObject = null;
  showCamera(paper.height / paper.width);
  sheetChanged();
  if (why) $("notice").textContent = why;
}

// Show or hide the picture of the camera, and give the sheet this height / width.
function showCamera(aspect) {
  $("video").hidden = !camera;
  paper.hidden = Boolean(camera);
  $("camera").ariaPressed = Boolean(camera);
  $("camera").textContent = camera ? "Camera off" : "Camera";
  $("predict").firstChild.textContent = camera ? "Keep this frame " : "Predict ";
  overlay.canvas.height = Math.round(overlay.canvas.width * aspect);
  $("sheet").style.setProperty("--aspect", 1 / aspect);
  enableControls();
}

const frame = () => scaled($("video"), FRAME_WIDTH, Math.round(FRAME_WIDTH * $("video").videoHeight / $("video").videoWidth));

// Read frames until the camera is off; a number counts once it was the same in several.
async function watch(stream) {
  const onSheet = {x: 0, y: 0, scale: overlay.canvas.width / FRAME_WIDTH};
  let recent = [], steady = "";
  while (camera === stream) {
    if (request || unavailable) {
      await new Promise((resolve) => setTimeout(resolve, FRAME_PAUSE));
      continue;
    }
    const answer = await ask({bitmap: frame()}, "image/jpeg");
    if (camera !== stream) break;
    if (answer?.status === 200) {
      const reading = answer.content;
      recent = [...recent, reading.text].slice(-STEADY_FRAMES);
      const same = recent.length === STEADY_FRAMES && new Set(recent).size === 1;
      if (same && reading.text !== steady) {
        steady = reading.text;
        steady ? showReading(reading) : showAnswer("No digit seen");
      }
      boxes = boxesOf(reading, onSheet);
      drawOverlay();
    } else {
      recent = [];
      steady = "";
    }
    await new Promise((resolve) => setTimeout(resolve, answer?.status === 200 ? FRAME_PAUSE : BUSY_WAIT));
  }
  if (!isEmpty()) predictSoon(0);
}

// Put the frame of this moment on the sheet, as a picture that is opened.
function takePhoto() {
  frame().toBlob(openPicture);
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) stopCamera(HIDDEN);
});
