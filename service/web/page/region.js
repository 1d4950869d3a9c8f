// The part of a photo in which the person is looked for: drawn over the picture, or set by sliders.
import { byId } from "./dom.js";
import { t } from "./strings.js";

const SIDES = ["left", "right", "top", "bottom"];
const START = { left: 10, right: 90, top: 10, bottom: 90 }; // % of the photo
const LEAST = 5; // % between two sides

/** `onChange` is called when the part is another one, or none any more. */
export class RegionChoice {
  constructor(onChange) {
    this.onChange = onChange;
    this.box = { ...START };
    byId("region").addEventListener("change", () => this.turn());
    byId("region-draw").addEventListener("click", () => (byId("region-pad").hidden = false));
    for (const side of SIDES) {
      byId(`region-${side}`).addEventListener("input", (event) => {
        this.set({ ...this.box, [side]: Number(event.target.value) }, side);
        this.onChange();
      });
    }
    this.setUpDrawing(byId("region-pad"));
    this.show();
  }

  get isOn() {
    return byId("region").checked;
  }

  /** Return the option of the API for a photo of this size, [name, value], or none. */
  toOptions(width, height) {
    if (!this.isOn || !width) return [];
    const { left, right, top, bottom } = this.box;
    const [x, y] = [Math.round((left * width) / 100), Math.round((top * height) / 100)];
    const size = [Math.round((right * width) / 100) - x, Math.round((bottom * height) / 100) - y];
    return [["roi", [x, y, ...size].join(",")]];
  }

  /** Forget the box: it belonged to another photo. */
  reset() {
    byId("region").checked = false;
    this.box = { ...START };
    byId("region-pad").hidden = true;
    this.show();
  }

  turn() {
    byId("region-pad").hidden = !this.isOn; // the next drag draws a box
    this.show();
    this.onChange();
  }

  /** Take a box in %; `moved` is the side that gives way where two are too near. */
  set(box, moved) {
    for (const [low, high] of [["left", "right"], ["top", "bottom"]]) {
      if (box[high] - box[low] >= LEAST) continue;
      if (moved === low) box[low] = Math.max(0, box[high] - LEAST);
      box[high] = Math.min(100, Math.max(box[high], box[low] + LEAST));
      box[low] = Math.min(box[low], box[high] - LEAST);
    }
    this.box = box;
    this.show();
  }

  show() {
    byId("region-sides").hidden = byId("region-box").hidden = !this.isOn;
    const { left, right, top, bottom } = this.box;
    byId("region-box").style.inset = `${top}% ${100 - right}% ${100 - bottom}% ${left}%`;
    for (const side of SIDES) {
      byId(`region-${side}`).value = this.box[side];
      byId(`region-${side}-value`).textContent = t("percent", { value: this.box[side] });
    }
  }

  setUpDrawing(pad) {
    let from = null;
    const find = ({ clientX, clientY }) => {
      const { left, top, width, height } = pad.getBoundingClientRect();
      const limit = (share) => Math.round(100 * Math.min(1, Math.max(0, share)));
      return [limit((clientX - left) / width), limit((clientY - top) / height)];
    };
    pad.addEventListener("pointerdown", (event) => {
      pad.setPointerCapture(event.pointerId);
      from = find(event);
    });
    pad.addEventListener("pointermove", (event) => {
      if (!from) return;
      const to = find(event);
      const [[left, right], [top, bottom]] = [0, 1].map((axis) => [from[axis], to[axis]].sort((a, b) => a - b));
      this.set({ left, right, top, bottom });
    });
    for (const name of ["pointerup", "pointercancel"]) {
      pad.addEventListener(name, () => {
        from = null;
        pad.hidden = true; // the line between before and after can be moved again
        this.onChange();
      });
    }
  }
}
