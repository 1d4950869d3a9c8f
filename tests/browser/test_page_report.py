"""The picture of a clip's report on the start page."""

from playwright.sync_api import Page

DRAW_REPORT = """
async (report) => {
  const { drawReport } = await import("/page/report.js");
  const svg = drawReport(report, 424).querySelector("svg");
  const find = (name, read) => [...svg.querySelectorAll(name)].map(read);
  const readAt = (place) => (mark) => [mark.getAttribute(place), mark.textContent];
  const [coverage, smoothed] = find("path.main", (line) => line.getAttribute("d"));
  const marks = {cuts: find("line.cut", readAt("x1")), flags: find("circle.flag", readAt("cx"))};
  return {...marks, coverage, smoothed};
}
"""


def test_picture_of_the_report_marks_cuts_and_frames_to_look_at(page: Page) -> None:
    report = {
        "frames": 4,
        "duration_s": 4.0,
        "mean_coverage": 0.5,
        "flicker_raw": 2.0,
        "flicker_smoothed": 1.0,
        "scene_cuts": [{"time_s": 1.0}, {"time_s": 3.0}],
        "scene_cuts_total": 2,
        "suspicious": [{"time_s": 2.0, "reason": "jump"}],
        "suspicious_total": 1,
        "timeline": {
            "time_s": [0.0, 1.0, 2.0, 3.0],
            "coverage": [0.0, 0.5, 1.0, 0.5],
            "flicker_raw": [None, 1.0, 2.0, 1.0],
            "flicker_smoothed": [None, 1.0, 1.0, 1.0],
        },
    }
    drawn = page.evaluate(DRAW_REPORT, report)
    assert drawn["cuts"] == [["110", "scene cut, 1 s"], ["314", "scene cut, 3 s"]]
    assert drawn["flags"] == [["212", "look at this frame, 2 s: jump"]]
    assert drawn["coverage"] == "M8.0 138.0L110.0 89.0L212.0 40.0L314.0 89.0"
    assert drawn["smoothed"] == "M110.0 233.0L212.0 233.0L314.0 233.0"
