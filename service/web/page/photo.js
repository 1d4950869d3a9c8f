// Photos: the matte once from the network, everything else at once in the browser or from what was kept.
import { Problem, request } from "./api.js";
import { BackgroundChoice } from "./background.js";
import { copyText, toCurl, toPython } from "./commands.js";
import { blurBackground, drawComposite } from "./compose.js";
import { announce, byId, clearProblem, save, showProblem } from "./dom.js";
import { fillModels } from "./models.js";
import { t } from "./strings.js";

const KEEP_S = 900; // how long the service keeps photo and matte for other edges and downloads
const MAX_SHOWN_SIDE = 2048;
const EDGE_DELAY_MS = 200;
const SAMPLE = ["portrait.jpg", "portrait-cutout.webp"];

export class PhotoMode {
  constructor() {
    this.photo = null; // {file, isSample, width, height, original, cutout, resultId, blurred}
    this.working = null; // aborts what is under way
    this.background = new BackgroundChoice(byId("photo-background"), "photo", ["none", "colour", "blur", "picture"], () => this.draw());
    for (const id of ["refine", "feather", "erode"]) byId(id).addEventListener("input", () => this.changeEdges());
    byId("photo-model").addEventListener("change", () => this.photo && this.open(this.photo.file, this.photo.isSample));
    byId("save-png").addEventListener("click", () => this.download("png"));
    byId("save-webp").addEventListener("click", () => this.download("webp"));
    byId("copy-curl").addEventListener("click", (event) => this.copy(event.currentTarget, toCurl));
    byId("copy-python").addEventListener("click", (event) => this.copy(event.currentTarget, toPython));
    this.showEdges();
  }

  /** Show the sample, whose cutout is a file of the page. */
  async loadSample() {
    const [file, cutout] = await Promise.all(SAMPLE.map(async (name) => new File([await (await request(`/page/${name}`)).blob()], name)));
    const original = await createImageBitmap(file);
    this.photo = { file, isSample: true, original, cutout: await createImageBitmap(cutout), resultId: null };
    [this.photo.width, this.photo.height] = [original.width, original.height];
    this.show();
    this.caption("sampleCaption");
  }

  async setModels(models) {
    fillModels(byId("photo-model"), models);
    byId("photo-model-field").hidden = models.length < 2;
  }

  /** Matte a photo and show it. */
  async open(file, isSample = false) {
    clearProblem();
    const photo = { file, isSample, resultId: null, blurred: null, original: null, cutout: null };
    await this.work(async (signal) => {
      photo.original = await decode(file).catch(() => null);
      if (photo.original) this.preview(photo);
      const answer = await this.requestCutout(photo, signal);
      photo.original ??= await this.fetchOriginal(photo, signal);
      this.photo = photo;
      this.show();
      const nobody = answer.headers.get("X-Person") === "no";
      this.caption(nobody ? "nobody" : "photoCaption");
      announce(t("photoReady", { name: file.name }));
    });
  }

  /** Show a photo that is still being matted. */
  preview(photo) {
    for (const canvas of fitCanvases(photo.original)) canvas.getContext("2d").drawImage(photo.original, 0, 0);
    byId("photo-caption").textContent = photo.file.name;
  }

  /** Ask for the cutout with the chosen edges; sets `cutout`, the size and the id of what is kept. */
  async requestCutout(photo, signal) {
    const started = performance.now();
    const answer = await this.ask(photo, [["output", "cutout"], ["format", "webp"]], signal);
    photo.width = Number(answer.headers.get("X-Width"));
    photo.height = Number(answer.headers.get("X-Height"));
    photo.cutout = await decode(await answer.blob());
    photo.blurred = null;
    photo.seconds = ((performance.now() - started) / 1000).toFixed(1);
    return answer;
  }

  /** Return the answer for these options, from what the service keeps, else from the photo itself. */
  async ask(photo, options, signal) {
    const all = [...options, ...this.edgeOptions()];
    if (photo.resultId) {
      try {
        return await request(`/v1/image/${photo.resultId}`, { method: "POST", body: toForm(all), signal });
      } catch (error) {
        if (!(error instanceof Problem) || ![404, 410].includes(error.status)) throw error;
        photo.resultId = null; // kept long enough; send it again
      }
    }
    const body = toForm([["file", photo.file], ...all, ...this.modelOption(), ["keep_s", String(KEEP_S)]]);
    const answer = await request("/v1/image", { method: "POST", body, signal });
    photo.resultId = answer.headers.get("X-Result-ID");
    return answer;
  }

  /** Return a photo that the browser cannot decode (HEIC, TIFF), as the service sees it. */
  async fetchOriginal(photo, signal) {
    const form = toForm([["output", "foreground"], ["foreground", "off"], ["format", "webp"]]);
    const answer = await request(`/v1/image/${photo.resultId}`, { method: "POST", body: form, signal });
    return decode(await answer.blob());
  }

  edgeOptions() {
    const options = [];
    if (!byId("refine").checked) options.push(["refine", "off"]);
    for (const id of ["feather", "erode"]) if (Number(byId(id).value) > 0) options.push([id, byId(id).value]);
    return options;
  }

  modelOption() {
    const chosen = byId("photo-model").selectedOptions[0];
    return chosen && !chosen.defaultSelected ? [["model", chosen.value]] : [];
  }

  showEdges() {
    for (const id of ["feather", "erode"]) byId(`${id}-value`).textContent = t("pixels", { value: byId(id).value });
  }

  changeEdges() {
    this.showEdges();
    clearTimeout(this.edgeTimer);
    this.edgeTimer = setTimeout(() => this.redoEdges(), EDGE_DELAY_MS);
  }

  async redoEdges() {
    const photo = this.photo;
    if (!photo) return;
    const wasKept = photo.resultId;
    await this.work(async (signal) => {
      await this.requestCutout(photo, signal);
      this.draw();
      this.caption(wasKept && photo.resultId === wasKept ? "editedCaption" : "photoCaption");
      announce(t("photoReady", { name: photo.file.name }));
    });
  }

  /** Run one piece of work at a time; a newer one ends the one before. */
  async work(task) {
    this.working?.abort();
    const own = (this.working = new AbortController());
    byId("photo-busy").hidden = false;
    try {
      await task(own.signal);
      clearProblem();
    } catch (error) {
      if (error.name === "AbortError") return;
      showProblem(error);
      this.show(); // what was shown before still holds
    } finally {
      if (this.working === own) byId("photo-busy").hidden = true;
    }
  }

  /** Show the photo and what it was made into. */
  show() {
    if (!this.photo) return;
    const [before] = fitCanvases(this.photo.original);
    before.getContext("2d").drawImage(this.photo.original, 0, 0);
    this.draw();
  }

  /** Composite the cutout over the chosen background; no request is made. */
  draw() {
    const photo = this.photo;
    if (!photo?.cutout) return;
    const { value, isComplete } = this.background;
    if (value.kind === "blur" && photo.blurred?.share !== value.blur) {
      photo.blurred = { share: value.blur, picture: blurBackground(photo.original, photo.cutout, value.blur / 100) };
    }
    drawComposite(byId("after"), photo.cutout, isComplete ? value : { kind: "none" }, photo.blurred?.picture);
    byId("command").hidden = true;
  }

  /** Return the request that makes what is shown, as `options` beside the photo, and a name for it. */
  describe(format) {
    const { file, isSample, width, height } = this.photo;
    const over = this.background.isComplete ? this.background.toOptions(Math.max(width, height)) : [];
    const output = [["output", over.length ? "composite" : "cutout"]];
    const options = [...output, ["format", format], ...over, ...this.edgeOptions()];
    const stem = file.name.replace(/\.[^.]+$/, "").replace(/["\\/:*?<>|]/g, "_"); // as any file system takes it
    return { file, isSample, options, output: `${stem}-${output[0][1]}.${format}` };
  }

  async download(format) {
    if (!this.photo) return;
    await this.work(async (signal) => {
      const { options, output } = this.describe(format);
      const asked = options.filter(([name]) => !["refine", "feather", "erode"].includes(name));
      const answer = await this.ask(this.photo, asked, signal);
      save(await answer.blob(), output);
      announce(t("saved", { name: output }));
    });
  }

  async copy(button, write) {
    if (!this.photo) return;
    const described = this.describe("png");
    const text = write({ ...described, options: [...described.options, ...this.modelOption()] });
    const shown = byId("command");
    shown.textContent = text;
    shown.hidden = false;
    const isCopied = await copyText(text);
    announce(t(isCopied ? "copied" : "copyFailed"));
    if (!isCopied) return showProblem({ title: t("unknownTitle"), detail: t("copyFailed") });
    button.textContent = t("copied");
    setTimeout(() => (button.textContent = t(button.dataset.text)), 1500);
  }

  caption(name) {
    const { file, width, height, seconds } = this.photo;
    byId("photo-caption").textContent = t(name, { name: file.name, width, height, seconds });
  }
}

/** Give both canvases the size of a picture, and return them. */
function fitCanvases({ width, height }) {
  byId("compare").style.setProperty("--ratio", width / height);
  return ["before", "after"].map((id) => Object.assign(byId(id), { width, height }));
}

/** Return a picture for the screen, upright and no larger than that needs. */
async function decode(blob) {
  const bitmap = await createImageBitmap(blob);
  const scale = MAX_SHOWN_SIDE / Math.max(bitmap.width, bitmap.height);
  if (scale >= 1) return bitmap;
  const size = { resizeWidth: Math.round(bitmap.width * scale), resizeHeight: Math.round(bitmap.height * scale) };
  return createImageBitmap(bitmap, { ...size, resizeQuality: "high" });
}

function toForm(options) {
  const form = new FormData();
  for (const [name, value] of options) {
    if (value instanceof File) form.append(name, value, value.name);
    else form.append(name, value);
  }
  return form;
}
