// What is said while the service works on a photo.
import { announce, byId } from "./dom.js";
import { t } from "./strings.js";

const PATIENCE_S = 3; // before the seconds are counted

export class Busy {
  constructor() {
    this.timer = null;
  }

  /** Say that work has begun; one that goes on is not begun again. */
  start() {
    if (this.timer) return;
    const started = performance.now();
    byId("photo-busy").hidden = false;
    byId("photo-busy-text").textContent = t("matting");
    announce(t("matting"));
    this.timer = setInterval(() => {
      const seconds = Math.round((performance.now() - started) / 1000);
      if (seconds >= PATIENCE_S) byId("photo-busy-text").textContent = t("mattingFor", { seconds });
    }, 1000);
  }

  end() {
    clearInterval(this.timer);
    this.timer = null;
    byId("photo-busy").hidden = true;
  }
}
