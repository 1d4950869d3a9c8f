// Putting a cutout before a background on a canvas, as the service does it for downloads.

const FINE_SIGMA = 4; // pixels; what a wider blur leaves of a picture needs fewer pixels
const MAX_BLURRED_SIDE = 1024;
// The shadows of the API: lengths are shares of the longer side.
const SHADOWS = {
  soft: { sigma: 1 / 40, right: 0, down: 1 / 80, opacity: 0.45 },
  drop: { sigma: 1 / 150, right: 1 / 60, down: 1 / 60, opacity: 0.5 },
};

/**
 * Draw the person before a background; `blurred` is what `blurBackground` made of the photo.
 *
 * `isMirrored` turns the photo's own pixels left to right, not the background chosen for it; `shadow`
 * is the API's option; `place` is where the whole cutout goes, {x, y, width, height}.
 */
export function drawComposite(canvas, cutout, background, blurred, { isMirrored = false, shadow = "none", place = null } = {}) {
  const context = canvas.getContext("2d");
  const { width, height } = canvas;
  context.clearRect(0, 0, width, height);
  if (background.kind === "colour") {
    context.fillStyle = background.colour;
    context.fillRect(0, 0, width, height);
  } else if (background.kind === "picture") {
    drawCovering(context, background.bitmap, width, height);
  }
  if (isMirrored) context.setTransform(-1, 0, 0, 1, width, 0);
  if (background.kind === "blur") context.drawImage(blurred, 0, 0, width, height);
  context.save();
  if (shadow !== "none") setShadow(context, SHADOWS[shadow], Math.max(width, height));
  const to = place ?? { x: 0, y: 0, width, height };
  context.drawImage(cutout, to.x, to.y, to.width, to.height);
  context.restore();
  context.resetTransform();
}

function setShadow(context, { sigma, right, down, opacity }, side) {
  context.shadowColor = `rgb(0 0 0 / ${opacity})`;
  context.shadowBlur = 2 * sigma * side; // HTML: twice the Gaussian's sigma
  context.shadowOffsetX = right * side;
  context.shadowOffsetY = down * side;
}

function drawCovering(context, picture, width, height) {
  const scale = Math.max(width / picture.width, height / picture.height);
  const [w, h] = [width / scale, height / scale];
  context.drawImage(picture, (picture.width - w) / 2, (picture.height - h) / 2, w, h, 0, 0, width, height);
}

/** Return a canvas of the photo whose alpha is the grey of a matte of the same size. */
export function cutOut(photo, matte) {
  const canvas = new OffscreenCanvas(photo.width, photo.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const whole = [0, 0, canvas.width, canvas.height];
  context.drawImage(matte, ...whole);
  const grey = context.getImageData(...whole).data;
  context.drawImage(photo, ...whole);
  const picture = context.getImageData(...whole);
  for (let i = 0; i < grey.length; i += 4) picture.data[i + 3] = grey[i];
  context.putImageData(picture, 0, 0);
  return canvas;
}

/**
 * Return a small canvas of the photo out of focus, without the person.
 *
 * `share` is the Gaussian's sigma over the longer side. Each pixel counts by 1 - alpha (normalised
 * convolution, Knutsson and Westin 1993), so that the person leaves no halo.
 */
export function blurBackground(photo, cutout, share) {
  const longer = Math.max(photo.width, photo.height);
  const scale = Math.min(1, MAX_BLURRED_SIDE / longer, FINE_SIGMA / (share * longer));
  const width = Math.max(8, Math.round(photo.width * scale));
  const height = Math.max(8, Math.round(photo.height * scale));
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(photo, 0, 0, width, height);
  context.globalCompositeOperation = "destination-out";
  for (const [x, y] of [[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]]) context.drawImage(cutout, x, y, width, height);
  const picture = context.getImageData(0, 0, width, height);
  const planes = toPremultiplied(picture.data);
  const radii = chooseBoxes(share * Math.max(width, height));
  for (const radius of radii) {
    for (const plane of planes) {
      averageRows(plane, width, height, radius);
      averageColumns(plane, width, height, radius);
    }
  }
  fromPremultiplied(planes, picture.data);
  context.putImageData(picture, 0, 0);
  return canvas;
}

function toPremultiplied(pixels) {
  const count = pixels.length / 4;
  const planes = [0, 1, 2, 3].map(() => new Float32Array(count));
  for (let i = 0; i < count; i++) {
    const weight = Math.max(pixels[4 * i + 3] / 255, 1e-4); // deep inside the person something must count too
    for (let c = 0; c < 3; c++) planes[c][i] = pixels[4 * i + c] * weight;
    planes[3][i] = weight;
  }
  return planes;
}

function fromPremultiplied(planes, pixels) {
  for (let i = 0; i < planes[3].length; i++) {
    for (let c = 0; c < 3; c++) pixels[4 * i + c] = planes[c][i] / planes[3][i];
    pixels[4 * i + 3] = 255;
  }
}

/** Return the radii of three boxes that together are nearly a Gaussian (W3C Filter Effects, feGaussianBlur). */
function chooseBoxes(sigma) {
  const width = Math.max(1, Math.floor((sigma * 3 * Math.sqrt(2 * Math.PI)) / 4 + 0.5));
  return [width, width, width].map((size) => Math.max(1, Math.round((size - 1) / 2)));
}

function averageRows(plane, width, height, radius) {
  for (let y = 0; y < height; y++) averageLine(plane, y * width, 1, width, radius);
}

function averageColumns(plane, width, height, radius) {
  for (let x = 0; x < width; x++) averageLine(plane, x, width, height, radius);
}

const line = new Float32Array(4096);

function averageLine(plane, start, step, length, radius) {
  const last = length - 1;
  for (let i = 0; i < length; i++) line[i] = plane[start + i * step];
  let sum = 0;
  for (let i = -radius; i <= radius; i++) sum += line[Math.min(last, Math.max(0, i))];
  for (let i = 0; i < length; i++) {
    plane[start + i * step] = sum / (2 * radius + 1);
    sum += line[Math.min(last, i + radius + 1)] - line[Math.max(0, i - radius)];
  }
}
