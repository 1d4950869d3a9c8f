// Talking to the service: the key, problem documents, uploads with progress, events of jobs.
import { t } from "./strings.js";

const state = { key: "" }; // in memory only: no storage, no cookie
const TERMINAL = new Set(["succeeded", "failed", "canceled", "expired"]);

export function setKey(key) {
  state.key = key.trim();
}

export const hasKey = () => state.key !== "";

/** An error that carries the members of a problem document (RFC 9457). */
export class Problem extends Error {
  constructor(members) {
    super(members.detail);
    Object.assign(this, members);
  }
}

/** Whether the same request may be answered another time. */
export const mayPass = (problem) => problem.code === "offline" || [408, 429, 503, 504].includes(problem.status);

const headersOf = (more = {}) => (state.key ? { ...more, Authorization: `Bearer ${state.key}` } : more);

const offline = () =>
  new Problem({ title: t("offlineTitle"), detail: t("offlineDetail"), hint: t("offlineHint"), code: "offline" });

function readProblem(status, text, retryAfter) {
  let members = {};
  try {
    members = JSON.parse(text);
  } catch {
    // a proxy between may answer with something else
  }
  const problem = { title: t("unknownTitle"), detail: `HTTP ${status}`, status, ...members };
  if (retryAfter) problem.hint = [problem.hint, t("retryAfter", { seconds: retryAfter })].filter(Boolean).join(" · ");
  if (status === 401) document.dispatchEvent(new CustomEvent("key-needed"));
  return new Problem(problem);
}

/** Return a good response; throws Problem, or AbortError when `signal` was used. */
export async function request(path, { headers, ...options } = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: headersOf(headers) });
  } catch (error) {
    throw error.name === "AbortError" ? error : offline();
  }
  if (response.ok) return response;
  throw readProblem(response.status, await response.text(), response.headers.get("Retry-After"));
}

export const getJson = async (path) => (await request(path)).json();

/** Return the JSON that answers a form; `onProgress(sent, total)` follows the bytes sent. */
export function upload(path, form, { headers = {}, onProgress, signal }) {
  return new Promise((resolve, reject) => {
    const sending = new XMLHttpRequest(); // fetch tells nothing about what has been sent
    sending.open("POST", path);
    for (const [name, value] of Object.entries(headersOf(headers))) sending.setRequestHeader(name, value);
    sending.upload.onprogress = (event) => onProgress(event.loaded, event.total);
    sending.onload = () =>
      sending.status < 300
        ? resolve(JSON.parse(sending.responseText))
        : reject(readProblem(sending.status, sending.responseText, sending.getResponseHeader("Retry-After")));
    sending.onerror = () => reject(offline());
    sending.onabort = () => reject(new DOMException("", "AbortError"));
    signal.addEventListener("abort", () => sending.abort());
    sending.send(form);
  });
}

/** Return the finished job; `onState(job)` sees each state. A connection that breaks is taken up again. */
export async function followJob(id, { onState, signal }) {
  for (let failures = 0; ; ) {
    try {
      const response = await request(`/v1/jobs/${id}/events`, { signal });
      for await (const job of readEvents(response.body)) {
        failures = 0;
        onState(job);
        if (TERMINAL.has(job.state)) return job;
      }
      const job = await getJson(`/v1/jobs/${id}`);
      if (TERMINAL.has(job.state)) return job;
    } catch (error) {
      if (error.name === "AbortError" || (error.status && error.status < 500)) throw error;
      failures += 1;
      if (failures > 5) throw error instanceof Problem ? error : offline();
    }
    await new Promise((resolve) => setTimeout(resolve, 1000 * Math.max(1, failures)));
  }
}

async function* readEvents(stream) {
  // EventSource can send no key, so the lines of server-sent events are read here.
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const events = text.split("\n\n");
    text = events.pop();
    for (const event of events) {
      const data = event.split("\n").find((line) => line.startsWith("data: "));
      if (data) yield JSON.parse(data.slice(6));
    }
  }
}

/** Return an address that elements can load: the path itself, or a copy where a key is needed. */
export async function toSource(path) {
  if (!hasKey()) return path;
  return URL.createObjectURL(await (await request(path)).blob());
}
