// Starts the page: texts, modes, key, colours, and who gets a file that comes in.
import { getJson, Problem, setKey } from "./api.js";
import { ClipMode } from "./clip.js";
import { byId, clearProblem, showProblem } from "./dom.js";
import { isClip, setUpIntake } from "./intake.js";
import { PhotoMode } from "./photo.js";
import { setUpSlider } from "./slider.js";
import { fillTexts, t } from "./strings.js";
import { WebcamMode } from "./webcam.js";

const MODES = ["photo", "clip", "webcam"];
const THEMES = ["auto", "light", "dark"];

fillTexts(document);
setUpSlider();
setUpTabs();
setUpTheme();
const photo = new PhotoMode();
const clip = new ClipMode();
const webcam = new WebcamMode();
setUpKey();
document.body.dataset.ready = ""; // all texts and controls have their place: nothing moves any more
setUpIntake((file) => {
  showMode(isClip(file) ? "clip" : "photo");
  (isClip(file) ? clip : photo).open(file);
});
photo.loadSample().catch(showProblem);
if (clip.resume()) showMode("clip");
loadFacts();

/** Ask the service for its models and limits; the page works without, with its own defaults. */
async function loadFacts() {
  try {
    const [{ models }, capabilities] = await Promise.all([getJson("/v1/models"), getJson("/v1/capabilities")]);
    photo.setModels(models);
    clip.setModels(models);
    webcam.setModels(models);
    photo.setLimits(capabilities.image);
    clip.setLimits(capabilities.video);
  } catch (error) {
    if (!(error instanceof Problem) || error.status !== 401) showProblem(error);
  }
}

function showMode(mode) {
  if (document.body.dataset.mode === mode) return;
  if (mode !== "webcam") webcam.stop();
  document.body.dataset.mode = mode;
  clearProblem();
  byId("stage").setAttribute("aria-labelledby", `tab-${mode}`);
  for (const name of MODES) {
    const isChosen = name === mode;
    byId(`tab-${name}`).setAttribute("aria-selected", String(isChosen));
    byId(`tab-${name}`).tabIndex = isChosen ? 0 : -1;
  }
}

/** Tabs as the ARIA practices want them: arrow keys move along, one stop for the Tab key. */
function setUpTabs() {
  const step = { ArrowRight: 1, ArrowLeft: -1 };
  MODES.forEach((mode, index) => {
    const tab = byId(`tab-${mode}`);
    tab.addEventListener("click", () => showMode(mode));
    tab.addEventListener("keydown", (event) => {
      if (!(event.key in step)) return;
      const next = MODES[(index + step[event.key] + MODES.length) % MODES.length];
      showMode(next);
      byId(`tab-${next}`).focus();
    });
  });
}

function setUpTheme() {
  const names = { auto: "themeAuto", light: "themeLight", dark: "themeDark" };
  const button = byId("theme");
  let chosen = 0;
  const show = () => {
    document.documentElement.dataset.theme = THEMES[chosen];
    const label = t("theme", { theme: t(names[THEMES[chosen]]) });
    button.setAttribute("aria-label", label);
    button.title = label;
  };
  button.addEventListener("click", () => {
    chosen = (chosen + 1) % THEMES.length;
    show();
  });
  show();
}

function setUpKey() {
  const details = byId("key");
  const field = byId("key-field");
  field.addEventListener("input", () => {
    setKey(field.value);
    details.toggleAttribute("data-set", field.value.trim() !== "");
  });
  field.addEventListener("change", () => {
    clearProblem();
    loadFacts();
    photo.resume();
    clip.resume(); // a reload forgets the key
  });
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    details.open = false;
  });
  details.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    details.open = false;
    details.querySelector("summary").focus();
  });
  document.addEventListener("key-needed", () => {
    details.open = true;
    field.focus();
  });
  document.addEventListener("click", (event) => {
    if (!details.contains(event.target)) details.open = false;
  });
}
