// The request that makes what is shown, as a curl command and as Python.
import { hasKey } from "./api.js";

/** `options` are [name, value] pairs of `POST /v1/image`, text or File. */
export function toCurl({ file, isSample, options, output }) {
  const lines = [];
  if (isSample) lines.push(`curl --fail -O ${quote(sampleAddress(file))}`);
  const parts = [["file", file], ...options].map(([name, value]) =>
    value instanceof Blob ? `-F ${quote(`${name}=@"${escapeName(value.name)}"`)}` : `--form-string ${quote(`${name}=${value}`)}`,
  );
  const key = hasKey() ? [`-H "Authorization: Bearer $MATTING_KEY"`] : [];
  lines.push(["curl --fail", ...key, ...parts, `-o ${quote(output)}`, quote(`${location.origin}/v1/image`)].join(" \\\n  "));
  return lines.join("\n");
}

export function toPython({ file, isSample, options, output }) {
  const text = JSON.stringify; // its strings are Python's too
  const files = [["file", file], ...options.filter(([, value]) => value instanceof Blob)];
  const fields = options.filter(([, value]) => !(value instanceof Blob));
  const read = (value) => (isSample && value === file ? `httpx.get(${text(sampleAddress(file))}).content` : `Path(${text(value.name)}).read_bytes()`);
  return [
    ...(hasKey() ? ["import os"] : []),
    "from pathlib import Path",
    "",
    "import httpx  # pip install httpx",
    "",
    "answer = httpx.post(",
    `    ${text(`${location.origin}/v1/image`)},`,
    ...(hasKey() ? [`    headers={"Authorization": f"Bearer {os.environ['MATTING_KEY']}"},`] : []),
    "    files={",
    ...files.map(([name, value]) => `        ${text(name)}: (${text(value.name)}, ${read(value)}),`),
    "    },",
    `    data={${fields.map(([name, value]) => `${text(name)}: ${text(value)}`).join(", ")}},`,
    "    timeout=120,",
    ")",
    "answer.raise_for_status()",
    `Path(${text(output)}).write_bytes(answer.content)`,
    "",
  ].join("\n");
}

const sampleAddress = (file) => `${location.origin}/page/${file.name}`;
const quote = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
const escapeName = (name) => name.replaceAll("\\", "\\\\").replaceAll('"', '\\"');

/** Copy a text; false where the browser forbids it. */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false; // no https, or not allowed
  }
}
