// The choice of a background, the same for photos, clips and the webcam.
import { make, makeSegments, say } from "./dom.js";
import { t } from "./strings.js";

const COLOURS = {
  "#ffffff": "colourWhite",
  "#1e6f5c": "colourGreen",
  "#2f5d8a": "colourBlue",
  "#f4a259": "colourOrange",
  "#d64550": "colourRed",
  "#17201c": "colourBlack",
};
const DEFAULT_COLOUR = "#1e6f5c";
const DEFAULT_BLUR = 2.5; // % of the longer side, the service's own default

/** Fills a card with the choices; `value` says what is chosen, `onChange` is called after each change. */
export class BackgroundChoice {
  constructor(card, name, kinds, onChange) {
    this.onChange = onChange;
    this.value = { kind: kinds[0], colour: DEFAULT_COLOUR, blur: DEFAULT_BLUR, file: null, bitmap: null };
    const labels = { none: "backgroundNone", colour: "backgroundColour", blur: "backgroundBlur", picture: "backgroundPicture" };
    const choices = kinds.map((kind) => [kind, t(labels[kind])]);
    this.details = {
      none: null,
      colour: this.makeColours(name),
      blur: this.makeBlur(name),
      picture: this.makePicture(),
    };
    card.append(...makeSegments(t("background"), `${name}-kind`, choices, (kind) => this.choose(kind)));
    for (const kind of kinds) if (this.details[kind]) card.append(this.details[kind]);
    this.card = card;
    this.showDetails();
  }

  choose(kind) {
    this.value.kind = kind;
    this.showDetails();
    if (kind === "picture" && !this.value.file) this.picker.click();
    this.onChange();
  }

  /** Whether everything is there that the chosen kind needs. */
  get isComplete() {
    return this.value.kind !== "picture" || this.value.file !== null;
  }

  showDetails() {
    for (const [kind, element] of Object.entries(this.details)) if (element) element.hidden = kind !== this.value.kind;
  }

  makeColours(name) {
    const picker = make("input", { type: "color", value: this.value.colour, "aria-label": t("colourLabel"), id: `${name}-colour` });
    const buttons = Object.entries(COLOURS).map(([colour, text]) => {
      const label = t("swatch", { colour, name: t(text) });
      const button = make("button", { type: "button", "aria-label": label, "data-colour": colour, click: () => set(colour) });
      button.style.setProperty("--swatch", colour);
      return button;
    });
    const set = (colour, tell = true) => {
      this.value.colour = picker.value = colour;
      for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.colour === colour));
      if (tell) this.onChange();
    };
    picker.addEventListener("input", () => set(picker.value));
    set(this.value.colour, false);
    return make("div", { class: "swatches" }, ...buttons, picker);
  }

  makeBlur(name) {
    const id = `${name}-blur`;
    const shown = make("output", { for: id }, t("percent", { value: DEFAULT_BLUR }));
    const slider = make("input", { type: "range", id, min: 0.5, max: 8, step: 0.5, value: DEFAULT_BLUR });
    slider.addEventListener("input", () => {
      this.value.blur = Number(slider.value);
      shown.textContent = t("percent", { value: slider.value });
      this.onChange();
    });
    return make("div", { class: "slider" }, make("label", { for: id }, t("blurLabel")), shown, slider);
  }

  makePicture() {
    this.picker = make("input", { type: "file", accept: "image/*", hidden: true });
    this.pickerName = make("span", { class: "note" });
    this.picker.addEventListener("change", () => this.picker.files[0] && this.setPicture(this.picker.files[0]));
    const button = make("button", { type: "button", click: () => this.picker.click() }, t("pickPicture"));
    return make("div", {}, make("div", { class: "row" }, button), this.picker, this.pickerName);
  }

  async setPicture(file) {
    try {
      this.value.bitmap = await createImageBitmap(file);
    } catch {
      say("unreadableTitle", t("unreadablePicture", { name: file.name }));
      return;
    }
    this.value.file = file;
    this.pickerName.textContent = file.name;
    this.onChange();
  }

  /** Return the options of the API for a composite over this, [name, value] each, text or file. */
  toOptions(longerSide) {
    const { kind, colour, blur, file } = this.value;
    if (kind === "colour") return [["background", colour]];
    if (kind === "picture") return [["background_file", file]];
    if (kind !== "blur") return [];
    const radius = [["blur_radius", String(Math.max(0.1, Math.round(blur * longerSide) / 100))]];
    return [["background", "blur"], ...(blur === DEFAULT_BLUR ? [] : radius)];
  }
}
