// The webcam over the live socket: what is drawn, how late and how often, and advice when it is too slow.
import { request } from "./api.js";
import { BackgroundChoice } from "./background.js";
import { blurBackground, cutOut, drawComposite } from "./compose.js";
import { byId, clearProblem, make, say, showProblem } from "./dom.js";
import { closeCamera, openCamera } from "./intake.js";
import { LiveLink } from "./live_link.js";
import { fillModels } from "./models.js";
import { makeFacts } from "./report.js";
import { explainClose, t } from "./strings.js";

const SIZES = [128, 192, 256, 320, 512];
const CAMERA = { width: { ideal: 640 }, height: { ideal: 360 }, facingMode: "user" };
const BLUR_SIDE = 320; // the camera's picture is made this small before it is blurred, each frame anew
const FACTS_EVERY_MS = 500;
// Below this video no longer looks like video, above that talking to somebody becomes hard.
const SLOW_FPS = 10;
const SLOW_MS = 500;
const PATIENCE_MS = 3000; // before anything is called slow

export class WebcamMode {
  constructor() {
    this.stream = null;
    this.link = null;
    this.background = new BackgroundChoice(byId("webcam-background"), "webcam", ["blur", "colour", "picture", "none"], () => {});
    byId("webcam-start").addEventListener("click", () => (this.stream ? this.stop() : this.start()));
    byId("webcam-model").addEventListener("change", () => this.fillSizes());
    for (const id of ["webcam-model", "webcam-size", "webcam-smoothing"]) byId(id).addEventListener("change", () => this.reconnect());
    window.addEventListener("pagehide", () => this.stop());
  }

  setModels(models) {
    this.models = models;
    fillModels(byId("webcam-model"), models, (model) => model.default_for_speed);
    this.fillSizes();
  }

  /** Offer the sizes of the chosen model: its own, unless one was chosen, and no other where it takes no other. */
  fillSizes() {
    const select = byId("webcam-size");
    const chosen = select.selectedOptions[0]?.defaultSelected ? "" : select.value;
    const { ref_size: own, fixed_size: fixed } = this.models.find((model) => model.name === byId("webcam-model").value);
    const sizes = fixed ? [own] : [...new Set([...SIZES, own])].sort((a, b) => a - b);
    const options = sizes.map((size) => new Option(t(size === own ? "networkSizeDefault" : "networkSizeOption", { size }), size, size === own, size === own));
    select.replaceChildren(...options);
    if (chosen && !fixed) select.value = chosen;
  }

  async start() {
    clearProblem();
    byId("webcam-start").disabled = true;
    this.stream = await openCamera(CAMERA);
    byId("webcam-start").disabled = false;
    if (!this.stream) return;
    this.video = make("video", { muted: true, playsinline: true });
    this.video.srcObject = this.stream;
    await this.video.play();
    byId("webcam-start").textContent = t("webcamStop");
    byId("webcam-wait").textContent = t("webcamStarting");
    await this.connect();
  }

  stop() {
    closeCamera(this.stream);
    this.stream = null;
    this.disconnect();
    byId("webcam-start").textContent = t("webcamStart");
    byId("webcam-wait").textContent = t("webcamEmpty");
    byId("webcam-view").hidden = byId("webcam-facts").hidden = byId("webcam-slow").hidden = true;
    byId("webcam-empty").hidden = false;
  }

  async connect() {
    const attempt = (this.attempt = {}); // another one, or a stop, may come before the answer
    let session;
    try {
      const answer = await request("/v1/sessions", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(this.sessionOptions()),
      });
      session = await answer.json();
    } catch (error) {
      if (this.attempt !== attempt) return;
      this.stop();
      return showProblem(error);
    }
    if (this.attempt !== attempt) return endSession(session);
    this.session = session;
    const link = new LiveLink(this.session, this.video, {
      pipelined: byId("webcam-smoothing").checked ? 3 : 2,
      onResult: (matte, frame) => this.link === link && this.draw(cutOut(frame, matte), frame),
      onProblem: (problem) => showProblem(problem),
      onClose: (code) => this.link === link && this.lose(code),
    });
    this.link = link;
    this.startedMs = null; // counts from the first result: a session takes a moment to begin
    this.timer = setInterval(() => this.showFacts(), FACTS_EVERY_MS);
  }

  sessionOptions() {
    const options = { output: "alpha", packaging: "frames", format: "jpeg" }; // the colours are here already
    options.smoothing = byId("webcam-smoothing").checked ? "ofd" : "off";
    const size = byId("webcam-size").selectedOptions[0];
    if (size && !size.defaultSelected) options.ref_size = Number(size.value);
    const model = byId("webcam-model").selectedOptions[0];
    if (model && !model.defaultSelected) options.model = model.value;
    return options;
  }

  disconnect() {
    clearInterval(this.timer);
    const { link, session } = this;
    this.link = this.session = this.attempt = null;
    link?.close();
    if (session) endSession(session);
  }

  async reconnect() {
    byId("webcam-slow").hidden = true;
    if (!this.stream) return;
    this.disconnect();
    await this.connect();
  }

  lose(code) {
    this.stop();
    say("socketTitle", explainClose(code));
  }

  draw(cutout, frame) {
    const canvas = byId("webcam-view");
    this.startedMs ??= performance.now();
    if (canvas.hidden) {
      canvas.hidden = false;
      byId("webcam-empty").hidden = true;
    }
    if (canvas.width !== cutout.width || canvas.height !== cutout.height) [canvas.width, canvas.height] = [cutout.width, cutout.height];
    const { value, isComplete } = this.background;
    const blurred = value.kind === "blur" ? this.blur(frame, cutout, value.blur / 100) : null;
    drawComposite(canvas, cutout, isComplete ? value : { kind: "none" }, blurred, { isMirrored: byId("webcam-mirror").checked });
  }

  blur(frame, cutout, share) {
    const scale = BLUR_SIDE / Math.max(frame.width, frame.height);
    const small = new OffscreenCanvas(Math.round(frame.width * scale), Math.round(frame.height * scale));
    small.getContext("2d").drawImage(frame, 0, 0, small.width, small.height);
    return blurBackground(small, cutout, share);
  }

  showFacts() {
    const { latencyMs, fps, dropped } = this.link.measure();
    const facts = byId("webcam-facts");
    const isKnown = latencyMs !== null;
    const shown = makeFacts([
      ["latency", isKnown ? t("milliseconds", { value: Math.round(latencyMs) }) : t("unknown")],
      ["fps", isKnown ? t("fpsValue", { value: fps.toFixed(1) }) : t("unknown")],
      ["dropped", dropped],
    ]);
    shown.firstChild.title = t("latencyHint");
    facts.replaceChildren(...shown.children);
    facts.hidden = false;
    const isSlow = isKnown && (fps < SLOW_FPS || latencyMs > SLOW_MS);
    if (isSlow && performance.now() - this.startedMs > PATIENCE_MS) this.showSlow(fps, latencyMs);
    else if (!isSlow) byId("webcam-slow").hidden = true;
  }

  /** Say that it is too slow, and offer what helps. */
  showSlow(fps, latencyMs) {
    const card = byId("webcam-slow");
    const size = Number(byId("webcam-size").value);
    const smaller = [...byId("webcam-size").options].map((option) => Number(option.value)).filter((other) => other < size).at(-1);
    const facts = t("slowFacts", { fps: fps.toFixed(1), latency: Math.round(latencyMs) });
    if (!card.hidden) {
      card.querySelector(".note").textContent = facts;
      return;
    }
    const actions = make("div", { class: "row" });
    const fast = byId("webcam-model").querySelector("option[selected]")?.value ?? "";
    if (byId("webcam-model").value !== fast) actions.append(make("button", { type: "button", click: () => this.chooseModel(fast) }, t("slowModel", { model: fast })));
    if (smaller) actions.append(make("button", { type: "button", click: () => this.choose("webcam-size", smaller) }, t("slowSmaller", { size: smaller })));
    if (byId("webcam-smoothing").checked) actions.append(make("button", { type: "button", click: () => this.choose("webcam-smoothing", false) }, t("slowSmoothing")));
    const advice = make("p", {}, t(smaller ? "slowAlso" : "slowElse"));
    card.replaceChildren(make("h2", {}, t("slowTitle")), make("p", { class: "note" }, facts), actions, advice);
    card.hidden = false;
  }

  chooseModel(name) {
    byId("webcam-model").value = name;
    this.fillSizes();
    this.reconnect();
  }

  choose(id, value) {
    const control = byId(id);
    if (typeof value === "boolean") control.checked = value;
    else control.value = value;
    this.reconnect();
  }
}

function endSession(session) {
  request(`/v1/sessions/${session.id}`, { method: "DELETE", keepalive: true }).catch(() => {});
}
