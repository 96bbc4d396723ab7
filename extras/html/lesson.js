"use strict";
// The fold "What is inside": for the digit that is shown, what each layer of the network makes of it, drawn live.

const PATTERNS = [  // what the maps of the first, second and later convolutions are
  (maps, size) => `Each of ${maps} maps shows where one small pattern of ${size}×${size} pixels was found, such as an edge or an end: the brighter, the clearer.`,
  (maps) => `Each of ${maps} maps combines those before it into a larger part, such as an arc or a corner.`,
  (maps) => `Each of ${maps} maps looks at a large part of the digit for a shape, such as a loop or a long stroke.`,
];
let insideMark = null;  // the mark whose probabilities are shown

// [title, sentence, image {height, width, channels, data}] of all that is drawn.
function stepsInside(pixels) {
  const outputs = run(model.layers, pixels), steps = [];
  let convolutions = 0;
  steps.push(["The image", "This is all that the network gets: 28×28 grey levels, centred, with a pen of the usual width.",
    {height: 28, width: 28, channels: 1, data: pixels}]);
  model.layers.forEach(({kind, size}, index) => {
    const image = outputs[index], last = index === model.layers.length - 1;
    if (kind === "convolution") {
      const sentence = PATTERNS[Math.min(convolutions, PATTERNS.length - 1)](image.channels, size);
      steps.push([`Convolution ${convolutions += 1}`, sentence, image]);
    } else if (kind === "average") {
      steps.push(["Averages", `Of each map only its mean is left: ${image.channels} numbers, which say what was found, but no longer where.`, image]);
    } else if (kind === "dense" && !last) {
      steps.push(["Hidden units", `Each of ${image.channels} units weighs all that was found before.`, image]);
    }
  });
  return steps;
}

function drawInside() {
  if (!insideMark || !$("inside").open) return;
  $("steps").replaceChildren(...stepsInside(bytesOf(insideMark.image)).map(([title, sentence, image]) => makeStep(title, sentence, mapsOf(image))));
  const outputs = makeStep("Outputs", `A weighted sum of these numbers for each of ${classes.length} classes, turned into probabilities.`, null);
  const bars = document.createElement("ol");
  bars.className = "bars outputs";
  bars.append(...barsOf(insideMark));
  outputs.append(bars);
  $("steps").append(outputs);
}

function makeStep(title, sentence, canvas) {
  const step = document.createElement("section"), heading = document.createElement("h3"), text = document.createElement("p");
  heading.textContent = step.ariaLabel = title;
  text.textContent = sentence;
  step.append(heading, text);
  if (canvas) {
    canvas.role = "img";
    canvas.ariaLabel = `${title}, drawn`;
    step.append(canvas);
  }
  return step;
}

// All maps of an image beside and below each other.
function mapsOf({height, width, channels, data}) {
  const wide = innerWidth > 600 ? 4 : 1, columns = channels === 1 ? 1 : 2 ** Math.ceil(Math.log2(wide * channels) / 2);
  const rows = Math.ceil(channels / columns);
  const gap = width > 1 ? 1 : 0, largest = largestOf(data) || 1;
  const canvas = document.createElement("canvas");
  canvas.width = columns * (width + gap) - gap;
  canvas.height = rows * (height + gap) - gap;
  canvas.classList.toggle("small", channels === 1);
  const context = canvas.getContext("2d"), pixels = context.createImageData(canvas.width, canvas.height);
  for (let channel = 0; channel < channels; channel++) {
    const left = channel % columns * (width + gap), top = Math.floor(channel / columns) * (height + gap);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const level = 255 * Math.sqrt(data[(y * width + x) * channels + channel] / largest), place = 4 * ((top + y) * canvas.width + left + x);
        pixels.data.fill(level, place, place + 3);
        pixels.data[place + 3] = 255;
      }
    }
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}

const fold = document.createElement("details");
fold.id = "inside";
fold.innerHTML = '<summary>What is inside</summary><p>Draw a digit: here is what each layer of the network makes of it.</p><div id="steps"></div>';
document.querySelector("main").append(fold);
fold.addEventListener("toggle", drawInside);
addEventListener("mark", (event) => {
  insideMark = event.detail ?? null;
  if (!insideMark) $("steps").replaceChildren();
  drawInside();
});
