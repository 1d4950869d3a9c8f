// Photos: the matte once from the network, everything else at once in the browser or from what was kept.
import { mayPass, Problem, request } from "./api.js";
import { BackgroundChoice } from "./background.js";
import { Busy } from "./busy.js";
import { copyText, toCurl, toPython } from "./commands.js";
import { blurBackground, drawComposite } from "./compose.js";
import { announce, byId, clearProblem, describeTooLarge, save, showProblem } from "./dom.js";
import { fillModels, modelOption } from "./models.js";
import { fitCanvases, fitToScreen, MAX_SHOWN_SIDE, toForm } from "./pictures.js";
import { PlaceChoice, findSubject } from "./place.js";
import { RegionChoice } from "./region.js";
import { t } from "./strings.js";

const KEEP_S = 900; // how long the service keeps photo and matte for other edges and downloads
const EDGE_DELAY_MS = 200;
const EDGES = ["refine", "feather", "erode"];
const TAKING = ["save-png", "save-webp", "copy-curl", "copy-python"];
const SAMPLE = ["portrait.jpg", "portrait-cutout.webp"];

export class PhotoMode {
  constructor() {
    this.photo = null; // {file, isSample, width, height, original, cutout, resultId, blurred}
    this.opening = null; // the photo that is being matted for the first time
    this.working = null; // aborts what is under way
    this.again = null; // sends once more what needed a key
    this.busy = new Busy();
    this.background = new BackgroundChoice(byId("photo-background"), "photo", ["none", "colour", "blur", "picture"], () => this.draw());
    this.region = new RegionChoice("region", byId("compare"), t("regionNote"), () => this.changeRegion());
    this.place = new PlaceChoice(() => this.draw());
    byId("photo-shadow").addEventListener("change", () => this.draw());
    for (const id of EDGES) byId(id).addEventListener("input", () => this.changeEdges());
    byId("photo-model").addEventListener("change", () => this.photo && this.open(this.photo.file, this.photo.isSample));
    byId("save-png").addEventListener("click", () => this.download("png"));
    byId("save-webp").addEventListener("click", () => this.download("webp"));
    byId("copy-curl").addEventListener("click", (event) => this.copy(event.currentTarget, toCurl));
    byId("copy-python").addEventListener("click", (event) => this.copy(event.currentTarget, toPython));
    this.showEdges();
    for (const id of TAKING) byId(id).disabled = true; // until there is a photo
  }

  /** Show the sample, whose cutout is a file of the page. */
  async loadSample() {
    const [file, cutout] = await Promise.all(SAMPLE.map(async (name) => new File([await (await request(`/page/${name}`)).blob()], name)));
    const original = await createImageBitmap(file);
    const { width, height } = original;
    const photo = { file, isSample: true, width, height, original, cutout: await createImageBitmap(cutout), resultId: null };
    if (this.opening) return; // somebody was faster
    this.photo = photo;
    this.setOpening(null);
    this.show();
    this.caption("sampleCaption");
  }

  /** Take the limits of the service on photos. */
  setLimits({ max_bytes }) {
    this.maxBytes = max_bytes;
  }

  setModels(models) {
    fillModels(byId("photo-model"), models, (model) => model.default);
    byId("photo-model-field").hidden = models.length < 2;
  }

  /** Matte a photo and show it. */
  async open(file, isSample = false) {
    clearProblem();
    if (file.size > this.maxBytes) return showProblem(describeTooLarge(file, this.maxBytes));
    byId("compare").scrollIntoView({ block: "nearest" });
    const isSame = (this.opening ?? this.photo)?.file === file;
    if (!isSame) this.region.reset();
    const photo = { file, isSample, resultId: null, blurred: null, original: null, cutout: null };
    this.setOpening(photo);
    await this.work(async (signal) => {
      await this.decodeOriginal(photo).catch(() => {}); // HEIC and TIFF: the service will show them
      if (photo.original) this.preview(photo);
      const answer = await this.requestCutout(photo, signal);
      photo.original ??= await this.fetchOriginal(photo, signal);
      this.photo = photo;
      this.setOpening(null);
      this.show();
      const nobody = answer.headers.get("X-Person") === "no";
      this.caption(nobody ? "nobody" : "photoCaption");
      announce(t("photoReady", { name: file.name }));
    }, () => this.open(file, isSample));
  }

  /** Say which photo is on its way: until it is there, there is nothing to take away. */
  setOpening(photo) {
    this.opening = photo;
    for (const id of TAKING) byId(id).disabled = photo !== null;
  }

  /** Show a photo that is still being matted. */
  preview(photo) {
    for (const canvas of fitCanvases(photo.original)) canvas.getContext("2d").drawImage(photo.original, 0, 0);
    byId("photo-caption").textContent = photo.file.name;
  }

  /** Set `original`, for the screen, and the photo's own size. */
  async decodeOriginal(photo) {
    const bitmap = await createImageBitmap(photo.file);
    [photo.width, photo.height] = [bitmap.width, bitmap.height];
    photo.original = await fitToScreen(bitmap);
  }

  /** Ask for the cutout with the chosen edges, for the screen; sets `cutout` and the id of what is kept. */
  async requestCutout(photo, signal) {
    const started = performance.now();
    const options = [["output", "cutout"], ["format", "webp"]];
    if (photo.original) options.push(["size", `${MAX_SHOWN_SIDE}x${MAX_SHOWN_SIDE}`]);
    const answer = await this.ask(photo, options, signal);
    photo.width ??= Number(answer.headers.get("X-Width"));
    photo.height ??= Number(answer.headers.get("X-Height"));
    photo.cutout = await fitToScreen(await createImageBitmap(await answer.blob()));
    photo.blurred = photo.box = null;
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
    const body = toForm([["file", photo.file], ...all, ...this.networkOptions(), ["keep_s", String(KEEP_S)]]);
    const answer = await request("/v1/image", { method: "POST", body, signal });
    photo.resultId = answer.headers.get("X-Result-ID");
    return answer;
  }

  /** Return a photo that the browser cannot decode (HEIC, TIFF), as the service sees it. */
  async fetchOriginal(photo, signal) {
    const form = toForm([["output", "foreground"], ["foreground", "off"], ["format", "webp"]]);
    const answer = await request(`/v1/image/${photo.resultId}`, { method: "POST", body: form, signal });
    return fitToScreen(await createImageBitmap(await answer.blob()));
  }

  edgeOptions() {
    const options = [];
    if (!byId("refine").checked) options.push(["refine", "off"]);
    for (const id of ["feather", "erode"]) if (Number(byId(id).value) > 0) options.push([id, byId(id).value]);
    return options;
  }

  /** Return what the network's run depends on; a kept result has it already. */
  networkOptions() {
    return [...modelOption(byId("photo-model")), ...this.region.toOptions()];
  }

  showEdges() {
    for (const id of ["feather", "erode"]) byId(`${id}-value`).textContent = t("pixels", { value: byId(id).value });
  }

  changeEdges() {
    this.showEdges();
    clearTimeout(this.edgeTimer);
    this.edgeTimer = setTimeout(() => this.redoEdges(), EDGE_DELAY_MS);
  }

  /** Another part of the photo is another run of the network. */
  changeRegion() {
    if (this.photo) this.photo.resultId = null;
    this.changeEdges();
  }

  async redoEdges() {
    if (this.opening) return this.open(this.opening.file, this.opening.isSample);
    const photo = this.photo;
    if (!photo) return;
    const wasKept = photo.resultId;
    await this.work(async (signal) => {
      await this.requestCutout(photo, signal);
      this.draw();
      this.caption(wasKept && photo.resultId === wasKept ? "editedCaption" : "photoCaption");
      announce(t("photoReady", { name: photo.file.name }));
    }, () => this.redoEdges());
  }

  /** Go on with what needed a key, now that there is one. */
  resume() {
    this.again?.();
  }

  /** Run one piece of work at a time; a newer one ends the one before. `again` begins it anew. */
  async work(task, again) {
    this.working?.abort();
    const own = (this.working = new AbortController());
    this.busy.start();
    this.again = null;
    try {
      await task(own.signal);
      clearProblem();
    } catch (error) {
      if (error.name === "AbortError") return;
      if (error.status === 401) this.again = again;
      showProblem(error, mayPass(error) ? again : null);
      this.setOpening(null);
      this.show(); // what was shown before still holds
    } finally {
      if (this.working === own) this.busy.end();
    }
  }

  /** Show the photo and what it was made into. */
  show() {
    if (!this.photo) return;
    const [before] = fitCanvases(this.photo.original);
    before.getContext("2d").drawImage(this.photo.original, 0, 0);
    byId("photo-caption").textContent = this.photo.caption ?? "";
    this.draw();
  }

  /** Composite the cutout over the chosen background; no request is made. */
  draw() {
    const photo = this.photo;
    if (!photo || this.opening) return;
    const { value, isComplete } = this.background;
    if (value.kind === "blur" && photo.blurred?.share !== value.blur) {
      photo.blurred = { share: value.blur, picture: blurBackground(photo.original, photo.cutout, value.blur / 100) };
    }
    if (this.place.isOn) photo.box ??= findSubject(photo.cutout);
    const look = { shadow: byId("photo-shadow").value, place: this.place.toRectangle(byId("after"), photo.box) };
    drawComposite(byId("after"), photo.cutout, isComplete ? value : { kind: "none" }, photo.blurred?.picture, look);
    byId("command").hidden = true;
  }

  /** Return the request that makes what is shown, as `options` beside the photo, and a name for it. */
  describe(format) {
    const { file, isSample, width, height } = this.photo;
    const over = this.background.isComplete ? this.background.toOptions(Math.max(width, height)) : [];
    const output = [["output", over.length ? "composite" : "cutout"]];
    const shadow = byId("photo-shadow").value;
    const shaded = shadow === "none" ? [] : [["shadow", shadow]];
    const options = [...output, ["format", format], ...over, ...shaded, ...this.place.toOptions(), ...this.edgeOptions()];
    const stem = file.name.replace(/\.[^.]+$/, "").replace(/["\\/:*?<>|]/g, "_"); // as any file system takes it
    return { file, isSample, options, output: `${stem}-${output[0][1]}.${format}` };
  }

  async download(format) {
    const { options, output } = this.describe(format);
    const asked = options.filter(([name]) => !EDGES.includes(name));
    const button = byId(`save-${format}`);
    button.disabled = true;
    try {
      const answer = await this.ask(this.photo, asked);
      save(await answer.blob(), output);
      announce(t("saved", { name: output }));
    } catch (error) {
      showProblem(error);
    } finally {
      button.disabled = this.opening !== null;
    }
  }

  async copy(button, write) {
    const described = this.describe("png");
    const text = write({ ...described, options: [...described.options, ...this.networkOptions()] });
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
    this.photo.caption = t(name, { name: file.name, width, height, seconds });
    byId("photo-caption").textContent = this.photo.caption;
  }
}
