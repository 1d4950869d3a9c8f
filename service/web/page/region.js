// The part of a photo or a clip in which the person is looked for: drawn over the picture, or set by sliders.
import { byId, make } from "./dom.js";
import { t } from "./strings.js";

const SIDES = ["left", "right", "top", "bottom"];
const LABELS = { left: "regionLeft", right: "regionRight", top: "regionTop", bottom: "regionBottom" };
const START = { left: 10, right: 90, top: 10, bottom: 90 }; // % of the picture
const LEAST = 5; // % between two sides

/**
 * Fills `#PREFIX-choice` with the controls and lays the box over `frame`, which holds the picture and no more.
 * `onChange` is called when the part is another one, or none any more.
 */
export class RegionChoice {
  constructor(prefix, frame, note, onChange) {
    this.frame = frame;
    this.onChange = onChange;
    this.box = { ...START };
    this.checkbox = make("input", { type: "checkbox", id: prefix, "aria-describedby": `${prefix}-note`, change: () => this.turn() });
    this.outline = make("span", { class: "region", id: `${prefix}-box`, "aria-hidden": "true" });
    this.pad = make("span", { class: "region-pad", id: `${prefix}-pad`, "aria-hidden": "true" }, make("span", { class: "chip" }, t("regionHere")));
    this.drawButton = make("button", { type: "button", id: `${prefix}-draw`, click: () => this.startDrawing() }, t("regionDraw"));
    this.sliders = {};
    const sliders = SIDES.map((side) => this.makeSlider(prefix, side));
    this.sides = make("div", { class: "stack" }, ...sliders, make("div", { class: "row" }, this.drawButton));
    byId(`${prefix}-choice`).append(
      make("label", { class: "check" }, this.checkbox, make("span", {}, t("region"))),
      make("p", { class: "note", id: `${prefix}-note` }, note),
      this.sides,
    );
    frame.append(this.outline, this.pad);
    this.pad.hidden = true;
    this.setUpDrawing();
    this.show();
  }

  makeSlider(prefix, side) {
    const id = `${prefix}-${side}`;
    const value = make("output", { id: `${id}-value`, for: id });
    const input = make("input", { type: "range", id, min: 0, max: 100 });
    input.addEventListener("input", () => {
      this.set({ ...this.box, [side]: Number(input.value) }, side);
      this.onChange();
    });
    this.sliders[side] = { input, value };
    return make("div", { class: "slider" }, make("label", { for: id }, t(LABELS[side])), value, input);
  }

  /** Return the option of the API, [name, value], or none: percent, for what is shown may have other pixels. */
  toOptions() {
    if (!this.checkbox.checked) return [];
    const { left, right, top, bottom } = this.box;
    return [["roi", [left, top, right - left, bottom - top].map((share) => `${share}%`).join(",")]];
  }

  /** Forget the box: it belonged to another picture. */
  reset() {
    this.checkbox.checked = false;
    this.box = { ...START };
    this.pad.hidden = true;
    this.show();
  }

  /** Say whether there is a picture to draw on; the sliders do without. */
  setDrawable(isDrawable) {
    this.drawButton.hidden = !isDrawable;
    if (!isDrawable) this.pad.hidden = true;
  }

  turn() {
    this.show();
    if (this.checkbox.checked && !this.drawButton.hidden) this.startDrawing();
    else this.pad.hidden = true;
    this.onChange();
  }

  /** Let the next drag draw a box. */
  startDrawing() {
    this.pad.hidden = false;
    this.frame.scrollIntoView({ block: "nearest" });
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
    this.sides.hidden = this.outline.hidden = !this.checkbox.checked;
    const { left, right, top, bottom } = this.box;
    this.outline.style.inset = `${top}% ${100 - right}% ${100 - bottom}% ${left}%`;
    for (const side of SIDES) {
      this.sliders[side].input.value = this.box[side];
      this.sliders[side].value.textContent = t("percent", { value: this.box[side] });
    }
  }

  setUpDrawing() {
    const { pad } = this;
    let from = null;
    let isDrawn = false;
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
      isDrawn = true;
      const [[left, right], [top, bottom]] = [0, 1].map((axis) => [from[axis], to[axis]].sort((a, b) => a - b));
      this.set({ left, right, top, bottom });
    });
    for (const name of ["pointerup", "pointercancel"]) {
      pad.addEventListener(name, () => {
        from = null;
        if (!isDrawn) return; // a tap is no box
        isDrawn = false;
        pad.hidden = true; // what lies below can be used again
        this.onChange();
      });
    }
  }
}
