// Ways in: drop, paste, file picker, camera. All end in one function.
import { byId, say } from "./dom.js";
import { t } from "./strings.js";

const CLIP_NAMES = /\.(mp4|m4v|mov|mkv|webm|ts|mts|m2ts|avi|mpg|mpeg)$/i;

export const isClip = (file) => file.type.startsWith("video/") || (!file.type.startsWith("image/") && CLIP_NAMES.test(file.name));

/** Call `take(file)` for each photo or clip that comes in. */
export function setUpIntake(take) {
  const takeFirst = (files) => {
    if (!files.length) return;
    byId("drop-note").textContent = files.length > 1 ? t("severalFiles", { name: files[0].name }) : t("dropNote");
    take(files[0]);
  };
  const picker = byId("file");
  byId("pick").addEventListener("click", () => picker.click());
  picker.addEventListener("change", () => {
    takeFirst([...picker.files]);
    picker.value = ""; // so that the same file can be chosen again
  });
  setUpDrop(takeFirst);
  document.addEventListener("paste", (event) => takeFirst([...event.clipboardData.files]));
  byId("camera").addEventListener("click", () => takePhoto(take));
}

function setUpDrop(takeFirst) {
  let depth = 0; // enter and leave come for every element on the way
  const show = (change) => {
    depth = Math.max(0, depth + change);
    document.body.classList.toggle("dragging", depth > 0);
  };
  const carriesFiles = (event) => event.dataTransfer.types.includes("Files");
  document.addEventListener("dragenter", (event) => carriesFiles(event) && show(1));
  document.addEventListener("dragleave", (event) => carriesFiles(event) && show(-1));
  document.addEventListener("dragover", (event) => carriesFiles(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    show(-depth);
    takeFirst([...event.dataTransfer.files]);
  });
}

/** Return the camera's stream; the browser asks for permission. Says why there is none. */
export async function openCamera(constraints) {
  if (!navigator.mediaDevices) {
    say("cameraTitleNone", t("cameraInsecure"));
    return null;
  }
  try {
    return await navigator.mediaDevices.getUserMedia({ video: constraints, audio: false });
  } catch (error) {
    const reasons = { NotAllowedError: "cameraDenied", NotFoundError: "cameraMissing" };
    say("cameraTitleNone", t(reasons[error.name] ?? "cameraBusy"));
    return null;
  }
}

export const closeCamera = (stream) => stream?.getTracks().forEach((track) => track.stop());

async function takePhoto(take) {
  const stream = await openCamera({ width: { ideal: 1920 }, height: { ideal: 1080 }, facingMode: "user" });
  if (!stream) return;
  const dialog = byId("camera-dialog");
  const view = byId("camera-view");
  view.srcObject = stream;
  await view.play();
  dialog.addEventListener("close", () => closeCamera(stream), { once: true });
  byId("camera-close").onclick = () => dialog.close();
  byId("camera-shoot").onclick = async () => {
    const canvas = new OffscreenCanvas(view.videoWidth, view.videoHeight);
    canvas.getContext("2d").drawImage(view, 0, 0);
    const picture = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.95 });
    dialog.close();
    take(new File([picture], "camera.jpg", { type: "image/jpeg" }));
  };
  dialog.showModal();
}
