// Clips: upload, job, progress, players, results.
import { followJob, mayPass, Problem, request, toSource, upload } from "./api.js";
import { BackgroundChoice } from "./background.js";
import { announce, byId, clearProblem, formatBytes, formatTime, make, save, showProblem } from "./dom.js";
import { fillModels, modelOption } from "./models.js";
import { fitFrame, linkPlayers } from "./players.js";
import { RegionChoice } from "./region.js";
import { drawReport } from "./report.js";
import { t } from "./strings.js";

const PLAYED_FIRST = ["composite.mp4", "cutout.webm", "green.mp4", "alpha.mp4"];
const OUTPUTS = ["composite", "webm", "webp", "gif", "alpha", "green", "stacked", "prores", "frames"];
const SILENT = new Set(["frames", "gif", "webp"]);
const SHADELESS = new Set(["alpha", "green"]);
const CARD_PADDING = 34; // pixels, both sides
const JOB_IN_ADDRESS = /^#job=([\w-]+)$/;

export class ClipMode {
  constructor() {
    this.file = null;
    this.working = null;
    this.jobId = null;
    this.limits = {};
    this.background = new BackgroundChoice(byId("clip-background"), "clip", ["colour", "blur", "picture"], () => this.update());
    for (const name of OUTPUTS) byId("outputs").append(this.makeOutput(name));
    byId("clip-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.start();
    });
    byId("clip-cancel").addEventListener("click", () => this.cancel());
    const [before, after] = [byId("clip-before"), byId("clip-after")];
    linkPlayers(before, after);
    for (const video of [before, after]) fitFrame(video);
    this.region = new RegionChoice("clip-region", before.parentElement, t("regionNoteClip"), () => {});
    this.region.setDrawable(false);
    before.addEventListener("loadeddata", () => this.showPlayable(before.videoWidth > 0)); // not when there is only sound
    before.addEventListener("error", () => this.showPlayable(false));
  }

  makeOutput(name) {
    const box = make("input", { type: "checkbox", value: name, checked: name === "composite", change: () => this.update() });
    return make("label", { class: "check" }, box, make("span", {}, t(`output_${name}`)));
  }

  get outputs() {
    return [...byId("outputs").querySelectorAll("input:checked")].map((box) => box.value);
  }

  setModels(models) {
    const usable = models.filter((model) => !model.takes_trimap);
    fillModels(byId("clip-model"), usable, (model) => model.default);
    byId("clip-model-field").hidden = usable.length < 2;
  }

  /** Take the limits of the service on clips. */
  setLimits(limits) {
    this.limits = limits;
    byId("clip-limits").textContent = t("clipLimits", { time: formatTime(limits.max_s), size: formatBytes(limits.max_bytes) });
    this.update();
  }

  /** Take a clip and show it; work begins with `start`. */
  open(file) {
    if (this.working && !confirm(t("clipReplace", { old: this.file?.name ?? this.jobId, name: file.name }))) return;
    this.cancel();
    this.forget();
    clearProblem();
    this.file = file;
    this.region.reset();
    this.region.setDrawable(false);
    const video = byId("clip-before");
    if (video.src) URL.revokeObjectURL(video.src);
    video.src = URL.createObjectURL(file);
    video.controls = true;
    byId("clip-original").classList.remove("unplayable");
    byId("clip-name").textContent = t("clipName", { name: file.name });
    byId("players").hidden = byId("clip-original").hidden = false;
    byId("clip-empty").hidden = true;
    byId("clip-result").hidden = byId("clip-done").hidden = true;
    this.update();
    byId("clip-original").scrollIntoView({ block: "nearest" });
    byId("clip-start").focus({ preventScroll: true });
    byId("clip-go").scrollIntoView({ block: "nearest" });
  }

  /** Say whether this browser can play the clip, which tells its length, too. */
  showPlayable(isPlayable) {
    if (!this.file) return;
    if (!isPlayable) byId("clip-name").textContent = t("clipUnplayable", { name: this.file.name });
    byId("clip-original").classList.toggle("unplayable", !isPlayable);
    this.region.setDrawable(isPlayable);
    this.update();
  }

  update() {
    byId("clip-background").hidden = !this.outputs.includes("composite");
    const missing = this.findMissing();
    byId("clip-go").hidden = !this.file || this.working !== null;
    byId("clip-start").disabled = missing !== "";
    byId("clip-missing").textContent = missing;
  }

  /** Return what keeps the clip from being sent, as a text; empty when it can be. */
  findMissing() {
    if (!this.file) return "";
    const { max_s: maxSeconds, max_bytes: maxBytes } = this.limits;
    const { duration } = byId("clip-before");
    if (this.file.size > maxBytes) return t("clipTooLarge", { size: formatBytes(this.file.size), limit: formatBytes(maxBytes) });
    if (Number.isFinite(duration) && duration > maxSeconds) return t("clipTooLong", { time: formatTime(duration), limit: formatTime(maxSeconds) });
    if (!this.outputs.length) return t("clipNoOutput");
    if (this.outputs.includes("composite") && !this.background.isComplete) return t("clipNoPicture");
    return "";
  }

  makeForm() {
    const form = new FormData();
    form.append("file", this.file, this.file.name);
    form.append("outputs", this.outputs.join(","));
    if (this.outputs.includes("composite")) {
      const video = byId("clip-before");
      const longer = Math.max(video.videoWidth, video.videoHeight) || 1280;
      for (const [name, value] of this.background.toOptions(longer)) form.append(name, value);
    }
    for (const [name, value] of [...modelOption(byId("clip-model")), ...this.canvasOptions(), ...this.region.toOptions()]) form.append(name, value);
    if (!byId("clip-smoothing").checked) form.append("smoothing", "off");
    const hasSound = this.outputs.some((name) => !SILENT.has(name));
    if (!byId("clip-audio").checked && hasSound) form.append("audio", "drop");
    return form;
  }

  /** Return the options for the person's place and shadow that have an effect, [name, value] each. */
  canvasOptions() {
    const options = [];
    const shadow = byId("clip-shadow").value;
    if (shadow !== "none" && this.outputs.some((name) => !SHADELESS.has(name))) options.push(["shadow", shadow]);
    const [scale, position] = byId("clip-place").value.split(" at ");
    if (position && this.outputs.some((name) => name !== "alpha")) options.push(["scale", scale], ["position", position]);
    return options;
  }

  /** Send the clip and follow its job. */
  start() {
    return this.work(async (signal) => {
      this.showProgress(t("uploading", { percent: 0, size: formatBytes(this.file.size) }), 0);
      const job = await upload("/v1/video", this.makeForm(), {
        headers: { Prefer: "respond-async", "Idempotency-Key": makeKey() },
        onProgress: (sent, total) => this.showUpload(sent, total),
        signal,
      });
      if (signal.aborted) return deleteJob(job.id);
      history.replaceState(null, "", `#job=${job.id}`);
      await this.follow(job.id, signal);
    });
  }

  /** Go on with the job in the page's address, as after a reload; false when there is none. */
  resume() {
    const [, id] = JOB_IN_ADDRESS.exec(location.hash) ?? [];
    if (!id || this.working || this.jobId === id) return Boolean(id);
    byId("clip-empty").hidden = true;
    this.work((signal) => this.follow(id, signal));
    return true;
  }

  async follow(id, signal) {
    this.jobId = id;
    this.announced = null; // the state that screen readers were told
    this.showProgress(t("storing"), null);
    const ended = await followJob(id, { onState: (job) => this.showJob(job), signal });
    if (ended.state === "succeeded") await this.showResults(ended);
    else throw ended.error ?? new Error(ended.state);
  }

  async work(task) {
    clearProblem();
    const own = (this.working = new AbortController());
    byId("clip-progress").hidden = false;
    byId("clip-progress").scrollIntoView({ block: "nearest" });
    byId("clip-cancel").focus({ preventScroll: true });
    byId("clip-done").hidden = byId("clip-result").hidden = true;
    this.update();
    try {
      await task(own.signal);
    } catch (error) {
      if (error.name === "AbortError") return;
      const [id, isLost] = [this.jobId, error instanceof Problem && mayPass(error)];
      showProblem(error, id && isLost ? () => this.work((signal) => this.follow(id, signal)) : null);
      this.forget(isLost || error.status === 401);
    } finally {
      if (this.working === own) this.end();
    }
  }

  /** Let go of the job; its address is kept where it can be followed another time. */
  forget(isAddressKept = false) {
    this.jobId = null;
    if (!isAddressKept && JOB_IN_ADDRESS.test(location.hash)) history.replaceState(null, "", location.pathname);
  }

  end() {
    this.working = null;
    const isFocused = document.activeElement === byId("clip-cancel");
    byId("clip-progress").hidden = true;
    this.update();
    if (isFocused) byId("clip-start").focus({ preventScroll: true });
  }

  /** Stop the upload or the job; what was made of it is removed. */
  cancel() {
    if (!this.working) return;
    this.working.abort();
    if (this.jobId) deleteJob(this.jobId);
    this.forget();
    this.end();
    announce(t("canceled"));
  }

  showUpload(sent, total) {
    const isSent = sent >= total;
    const percent = Math.floor((100 * sent) / total);
    this.showProgress(isSent ? t("storing") : t("uploading", { percent, size: formatBytes(total) }), isSent ? null : sent / total);
  }

  showJob(job) {
    if (job.state !== this.announced) announce(t(job.state === "queued" ? "queued" : "matting"));
    this.announced = job.state;
    if (job.state === "queued") return this.showProgress(t("queued"), null);
    const { frames_done: done, frames_total: total, eta_s: left, progress } = job;
    const text = total ? t("running", { done, total }) : t("runningUnknown", { done });
    this.showProgress(left ? t("eta", { text, time: formatTime(left) }) : text, progress);
  }

  showProgress(text, share) {
    byId("progress-text").textContent = text;
    if (share === null) byId("progress-bar").removeAttribute("value");
    else byId("progress-bar").value = share;
  }

  async showResults(job) {
    const played = PLAYED_FIRST.map((name) => job.results.find((result) => result.name === name)).find(Boolean);
    const video = byId("clip-after");
    if (video.src.startsWith("blob:")) URL.revokeObjectURL(video.src);
    if (played) video.src = await toSource(played.url);
    byId("clip-before").controls = !played;
    byId("clip-result").hidden = !played;
    byId("clip-original").hidden = !this.file; // unknown after a reload
    byId("players").hidden = false;
    const done = byId("clip-done");
    const width = Math.max(280, done.parentElement.clientWidth - CARD_PADDING);
    done.replaceChildren(this.makeLinks(job, played), drawReport(job.report, width));
    done.hidden = false;
    announce(t("clipReady"));
  }

  makeLinks(job, played) {
    const links = job.results.map((result) => {
      const text = t("resultLink", { name: result.name, size: formatBytes(result.bytes) });
      const link = make("a", { href: result.url, download: result.name, click: (event) => this.saveResult(event, result) }, text);
      return make("li", {}, link);
    });
    const card = make("section", { class: "card" }, make("h2", {}, t("results")), make("ul", { class: "links" }, ...links));
    if (!played) card.append(make("p", { class: "note" }, t("noPlayer")));
    card.append(make("button", { type: "button", id: "clip-delete", click: () => this.deleteResults() }, t("deleteResults")));
    return card;
  }

  deleteResults() {
    deleteJob(this.jobId);
    this.forget();
    byId("clip-done").hidden = byId("clip-result").hidden = true;
    byId("clip-before").controls = true;
    announce(t("deleted"));
  }

  async saveResult(event, result) {
    event.preventDefault(); // a link alone would send no key
    try {
      save(await toSource(result.url), result.name);
    } catch (error) {
      showProblem(error);
    }
  }
}

function deleteJob(id) {
  request(`/v1/jobs/${id}`, { method: "DELETE" }).catch(() => {}); // it ends by itself otherwise
}

/** Return a key that no other request has; `randomUUID` exists only on https and localhost. */
function makeKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
