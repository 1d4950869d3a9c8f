// The line between before and after: a range input over the picture, so that mouse, touch and keys move it.
import { byId } from "./dom.js";
import { t } from "./strings.js";

export function setUpSlider() {
  const input = byId("split");
  const update = () => {
    byId("compare").style.setProperty("--split", `${input.value}%`);
    input.setAttribute("aria-valuetext", t("splitValue", { percent: input.value }));
  };
  input.addEventListener("input", update);
  update();
}
