// One connection to the live socket: sends the camera's pictures, hands out results, measures both.

const RECENT = 30;
const JPEG_QUALITY = 0.85;
const OWN_CLOSE = 1000;

export class LiveLink {
  /** `pipelined` pictures at most are under way, so that none is late before it is sent. */
  constructor(session, video, { pipelined, onResult, onProblem, onClose }) {
    this.video = video;
    this.pipelined = pipelined;
    this.onResult = onResult;
    this.onProblem = onProblem;
    this.sent = 0;
    this.seen = -1; // the newest of the sent pictures that was answered
    this.dropped = 0;
    this.waiting = new Map(); // number of a sent picture -> {bitmap, sentMs}
    this.latencies = [];
    this.drawnMs = [];
    this.facts = null;
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const address = `${scheme}://${location.host}/v1/sessions/${session.id}/live`;
    this.socket = new WebSocket(address, ["matting.v1", `ticket.${session.ticket}`]);
    this.socket.binaryType = "blob";
    this.socket.onopen = () => this.waitForFrame();
    this.socket.onmessage = ({ data }) => this.receive(data);
    this.socket.onclose = ({ code }) => {
      this.isClosed = true;
      onClose(code);
    };
  }

  close() {
    this.socket.onclose = null;
    this.isClosed = true;
    this.socket.close(OWN_CLOSE);
    for (const { bitmap } of this.waiting.values()) bitmap.close();
  }

  waitForFrame() {
    if (this.isClosed) return;
    if (this.video.requestVideoFrameCallback) this.video.requestVideoFrameCallback((now, frame) => this.send(frame.captureTime));
    else requestAnimationFrame(() => this.send());
  }

  /** Send the picture that the camera shows; `captureMs` is when it was taken, where browsers tell. */
  async send(captureMs) {
    const isFree = this.sent - 1 - this.seen < this.pipelined;
    if (isFree && this.socket.readyState === WebSocket.OPEN) {
      const takenMs = captureMs ?? performance.now();
      const bitmap = await createImageBitmap(this.video);
      const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
      canvas.getContext("2d").drawImage(bitmap, 0, 0);
      const picture = await canvas.convertToBlob({ type: "image/jpeg", quality: JPEG_QUALITY });
      if (this.isClosed) return bitmap.close();
      this.waiting.set(this.sent, { bitmap, takenMs });
      this.sent += 1;
      this.socket.send(picture);
    }
    this.waitForFrame();
  }

  async receive(data) {
    if (typeof data === "string") {
      this.facts = JSON.parse(data);
      this.dropped = this.facts.dropped;
      this.seen = Math.max(this.seen, this.facts.frame);
      if (this.facts.problem) this.onProblem(this.facts.problem);
      return;
    }
    const { frame } = this.facts;
    const matte = await createImageBitmap(data);
    const sent = this.waiting.get(frame);
    if (sent && !this.isClosed) {
      this.onResult(matte, sent.bitmap);
      const nowMs = performance.now();
      this.latencies = [...this.latencies, nowMs - sent.takenMs].slice(-RECENT);
      this.drawnMs = [...this.drawnMs, nowMs].slice(-RECENT);
    }
    matte.close();
    this.forget(frame);
  }

  /** Let go of pictures up to `frame`; those before it were left out. */
  forget(frame) {
    for (const [number, { bitmap }] of this.waiting) {
      if (number > frame) return;
      bitmap.close();
      this.waiting.delete(number);
    }
  }

  /** Return the median latency in ms from camera to screen, null while unknown, and results a second. */
  measure() {
    const { dropped, latencies, drawnMs } = this;
    if (drawnMs.length < 2) return { latencyMs: null, fps: 0, dropped };
    const latencyMs = [...latencies].sort((a, b) => a - b)[latencies.length >> 1];
    const span = (performance.now() - drawnMs[0]) / 1000;
    return { latencyMs, fps: (drawnMs.length - 1) / span, dropped };
  }
}
