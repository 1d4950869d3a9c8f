// Pictures on their way to the screen and to the service.
import { byId } from "./dom.js";

export const MAX_SHOWN_SIDE = 2048;

/** Give both canvases the size of a picture, and return them. */
export function fitCanvases({ width, height }) {
  byId("compare").style.setProperty("--ratio", width / height);
  return ["before", "after"].map((id) => Object.assign(byId(id), { width, height }));
}

/** Return a picture no larger than a screen needs. */
export async function fitToScreen(bitmap) {
  const scale = MAX_SHOWN_SIDE / Math.max(bitmap.width, bitmap.height);
  if (scale >= 1) return bitmap;
  const size = { resizeWidth: Math.round(bitmap.width * scale), resizeHeight: Math.round(bitmap.height * scale) };
  return createImageBitmap(bitmap, { ...size, resizeQuality: "high" });
}

export function toForm(options) {
  const form = new FormData();
  for (const [name, value] of options) {
    if (value instanceof File) form.append(name, value, value.name);
    else form.append(name, value);
  }
  return form;
}
