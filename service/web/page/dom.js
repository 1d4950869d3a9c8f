// Small helpers for elements, numbers and messages to the reader.
import { t } from "./strings.js";

export const byId = (id) => document.getElementById(id);

/** Make an element; `attributes` that are functions listen to the event of that name. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Tell screen readers what has happened. */
export function announce(text) {
  byId("status").textContent = text;
}

/** Show a problem document, or another error, above the controls; `again` is what a button to try again does. */
export function showProblem(problem, again = null) {
  const { title, detail, hint, type, instance, limit, actual } = describe(problem);
  const card = make("section", { class: "card problem" }, make("h2", {}, title), make("p", {}, toSentence(detail)));
  if (hint) card.append(make("p", { class: "note" }, toSentence(hint)));
  const isTold = [limit, actual].every((value) => detail.includes(String(value)));
  if (limit !== undefined && actual !== undefined && !isTold) card.append(make("p", { class: "note" }, t("limits", { limit, actual })));
  if (type) {
    const more = make("a", { href: type, target: "_blank", rel: "noopener" }, t("problemMore"));
    card.append(make("p", { class: "note" }, more, instance ? ` · ${t("problemId", { id: instance })}` : ""));
  }
  if (again) card.append(make("div", { class: "row" }, make("button", { type: "button", click: again }, t("again"))));
  card.append(make("button", { type: "button", class: "link", click: clearProblem }, t("dismiss")));
  byId("problem").replaceChildren(card);
  card.scrollIntoView({ block: "nearest" });
}

/** Return the problem of a file that the service would refuse, before it is sent. */
export function describeTooLarge(file, maxBytes) {
  const values = { name: file.name, size: formatBytes(file.size), limit: formatBytes(maxBytes) };
  return { title: t("tooLargeTitle"), detail: t("tooLarge", values) };
}

export function clearProblem() {
  byId("problem").replaceChildren();
}

/** Return a text of the service as a sentence of the page. */
function toSentence(text) {
  const whole = text.replace(/^[a-z](?=[a-z]* )/, (letter) => letter.toUpperCase()); // not the name of an option
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}

function describe(problem) {
  if (problem.title) return problem;
  return { title: t("unknownTitle"), detail: problem.message ?? String(problem) };
}

/** Show a message of the page itself. */
export function say(title, detail) {
  showProblem({ title: t(title), detail });
}

export function formatBytes(bytes) {
  if (bytes >= 1e9) return `${(bytes / 1e9).toFixed(1)} GB`;
  if (bytes < 1e6) return `${Math.max(1, Math.round(bytes / 1e3))} kB`;
  return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
}

export function formatTime(seconds) {
  const whole = Math.max(1, Math.round(seconds));
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

/** Have the browser save a blob, or what an address leads to. */
export function save(source, name) {
  const address = typeof source === "string" ? source : URL.createObjectURL(source);
  const link = make("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  if (address !== source) setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/** Fill a card with a title and radio buttons side by side; `changed` gets the value chosen. */
export function makeSegments(title, name, choices, changed) {
  const id = `${name}-title`;
  const group = make("div", { class: "segments", role: "radiogroup", "aria-labelledby": id });
  choices.forEach(([value, label], index) => {
    const input = make("input", { type: "radio", name, value, checked: index === 0, change: () => changed(value) });
    group.append(make("label", {}, input, make("span", {}, label)));
  });
  return [make("h2", { id }, title), group];
}
