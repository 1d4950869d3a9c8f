// The person's size and place on the canvas, as the API's `scale` and `position` have them.
import { byId } from "./dom.js";
import { t } from "./strings.js";

const ORIGINAL = "original";
const SOLID = 127; // alpha above it is the person, as the service counts

/** `onChange` is called when the person goes elsewhere. */
export class PlaceChoice {
  constructor(onChange) {
    for (const id of ["photo-place", "photo-scale"]) {
      byId(id).addEventListener("input", () => {
        this.show();
        onChange();
      });
    }
    this.show();
  }

  get isOn() {
    return byId("photo-place").value !== ORIGINAL;
  }

  show() {
    byId("photo-scale-field").hidden = !this.isOn;
    byId("photo-scale-value").textContent = t("percent", { value: byId("photo-scale").value });
  }

  /** Return the options of the API, [name, value] each, or none. */
  toOptions() {
    return this.isOn ? [["scale", `${byId("photo-scale").value}%`], ["position", byId("photo-place").value]] : [];
  }

  /** Return where the whole cutout goes on a canvas of its size, {x, y, width, height}. */
  toRectangle({ width, height }, box) {
    if (!this.isOn || !box) return { x: 0, y: 0, width, height };
    const [across, down] = byId("photo-place").value.split(" ").map((share) => parseFloat(share) / 100);
    const factor = (byId("photo-scale").value / 100) * Math.min(width / box.width, height / box.height);
    const x = across * (width - factor * box.width) - factor * box.left;
    const y = down * (height - factor * box.height) - factor * box.top;
    return { x, y, width: factor * width, height: factor * height };
  }
}

/** Return the box around the person of a cutout, {left, top, width, height}, null without anybody. */
export function findSubject(cutout) {
  const { width, height } = cutout;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(cutout, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  let [left, right, top, bottom] = [width, -1, height, -1];
  for (let y = 0, i = 3; y < height; y++) {
    for (let x = 0; x < width; x++, i += 4) {
      if (data[i] <= SOLID) continue;
      [left, right] = [Math.min(left, x), Math.max(right, x)];
      [top, bottom] = [Math.min(top, y), y];
    }
  }
  return right < 0 ? null : { left, top, width: right + 1 - left, height: bottom + 1 - top };
}
