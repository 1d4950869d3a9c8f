// The report of a clip as a picture: coverage and flicker over time, scene cuts, frames to look at.
import { formatTime, make } from "./dom.js";
import { t } from "./strings.js";

const PANEL = 110;
const GAP = 34;
const LEFT = 8;
const SVG = "http://www.w3.org/2000/svg";

/** Return a card with the facts of a report and its picture, so many pixels wide that texts keep their size. */
export function drawReport(report, width) {
  const values = {
    seconds: report.duration_s,
    coverage: (100 * report.mean_coverage).toFixed(0),
    raw: report.flicker_raw.toFixed(2),
    smoothed: report.flicker_smoothed.toFixed(2),
    cuts: report.scene_cuts_total,
    flagged: report.suspicious_total,
  };
  const card = make("section", { class: "card", id: "report" }, make("h2", {}, t("report")));
  if (report.timeline?.time_s.length > 1) card.append(drawChart(report, width, t("reportAlt", values)));
  const facts = [
    ["factFrames", report.frames],
    ["factDuration", formatTime(report.duration_s)],
    ["factCoverage", t("percent", { value: values.coverage })],
    ["factFlicker", t("flickerChange", values)],
    ["factCuts", values.cuts],
    ["factFlagged", values.flagged],
  ];
  card.append(makeFacts(facts));
  return card;
}

/** Return a list of names and values; `facts` are [name of a text, value]. */
export function makeFacts(facts) {
  return make("dl", { class: "facts" }, ...facts.map(([name, value]) => make("div", {}, make("dt", {}, t(name)), make("dd", {}, String(value)))));
}

function drawChart(report, width, label) {
  const { time_s, coverage, flicker_raw, flicker_smoothed } = report.timeline;
  const end = Math.max(report.duration_s, time_s.at(-1), 0.001);
  const right = width - LEFT;
  const toX = (time) => LEFT + (time / end) * (right - LEFT);
  const svg = draw("svg", { class: "chart", viewBox: `0 0 ${width} ${2 * (PANEL + GAP)}`, role: "img", "aria-label": label });
  const percent = coverage.map((value) => 100 * value);
  const most = Math.max(...flicker_raw, ...flicker_smoothed, 0.5);
  drawPanel(svg, 0, t("chartCoverage"), Math.max(20, ...percent), [["main", percent, true]], time_s, toX, right);
  drawPanel(svg, PANEL + GAP, t("chartFlicker"), most, [["raw", flicker_raw, false, t("chartRaw")], ["main", flicker_smoothed, false, t("chartSmoothed")]], time_s, toX, right);
  for (const mark of report.scene_cuts) {
    const x = toX(mark.time_s);
    const line = draw("line", { class: "cut", x1: x, x2: x, y1: GAP - 10, y2: 2 * (PANEL + GAP) - 4 });
    line.append(makeTitle(`${t("chartCut")}, ${mark.time_s} s`));
    svg.append(line);
  }
  for (const mark of report.suspicious) {
    const dot = draw("circle", { class: "flag", cx: toX(mark.time_s), cy: GAP - 10, r: 4 });
    dot.append(makeTitle(`${t("chartFlagged")}, ${mark.time_s} s: ${mark.reason}`));
    svg.append(dot);
  }
  return svg;
}

function drawPanel(svg, top, title, most, lines, times, toX, right) {
  const toY = (value) => top + GAP + PANEL - 6 - (value / most) * (PANEL - 12);
  const text = draw("text", { x: LEFT, y: top + 16 });
  text.append(title);
  for (const [name, , , label] of lines) if (label) text.append(makeKey(name), label);
  const scale = draw("text", { x: right, y: top + 16, "text-anchor": "end" });
  scale.append(`0 – ${most.toFixed(most < 10 ? 1 : 0)}`);
  svg.append(text, scale);
  for (const value of [0, most]) svg.append(draw("line", { class: "grid", x1: LEFT, x2: right, y1: toY(value), y2: toY(value) }));
  for (const [name, values, isFilled] of lines) {
    const known = values.map((value, index) => [value, times[index]]).filter(([value]) => value !== null);
    const points = known.map(([value, time]) => `${toX(time).toFixed(1)} ${toY(value).toFixed(1)}`);
    const path = `M${points.join("L")}`;
    if (isFilled) svg.append(draw("path", { class: "area", d: `${path}L${toX(times.at(-1))} ${toY(0)}L${toX(times[0])} ${toY(0)}Z` }));
    svg.append(draw("path", { class: name, d: path }));
  }
}

function makeKey(name) {
  const key = draw("tspan", { class: `key-${name}`, dx: 14 });
  key.append("— ");
  return key;
}

function makeTitle(text) {
  const title = draw("title", {});
  title.append(text);
  return title;
}

function draw(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}
