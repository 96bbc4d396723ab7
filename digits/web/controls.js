"use strict";
// Buttons, keys, files that are dropped or pasted; the start of the page.

function enableControls() {
  $("undo").disabled = Boolean(camera) || !past.length;
  $("redo").disabled = Boolean(camera) || !future.length;
  $("clear").disabled = Boolean(camera) || isEmpty();
}

function takeFile(input) {
  if (input.files[0]) openPicture(input.files[0]);
  input.value = "";
}

const predictNow = () => camera ? takePhoto() : predict();

$("undo").onclick = undo;
$("redo").onclick = redo;
$("clear").onclick = clearSheet;
$("predict").onclick = predictNow;
$("camera").onclick = () => camera ? stopCamera() : startCamera();
$("file").onchange = $("photo").onchange = (event) => takeFile(event.target);
addEventListener("keydown", (event) => {
  if (event.altKey || $("quit-dialog").open) return;
  const key = event.key.toLowerCase();
  if (event.ctrlKey || event.metaKey) {
    const action = {z: event.shiftKey ? redo : undo, y: redo}[key];
    if (action) event.preventDefault();
    return action?.();
  }
  if (!event.repeat) ({p: predictNow, c: clearSheet, u: undo, r: redo})[key]?.();
});
addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find((item) => item.type.startsWith("image/"));
  if (file) openPicture(file);
});
addEventListener("dragover", (event) => {
  event.preventDefault();
  $("sheet").classList.add("over");
});
addEventListener("dragleave", () => $("sheet").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  $("sheet").classList.remove("over");
  if (event.dataTransfer.files[0]) openPicture(event.dataTransfer.files[0]);
});
addEventListener("resize", drawOverlay);

if (!digitsOnly) $("title").textContent = document.title = "Draw, and see what is read";
const longest = Math.max(...classes.map((name) => name.length));
document.documentElement.style.setProperty("--name", `${Math.max(1.2, 0.62 * longest)}em`);
sheetChanged();
