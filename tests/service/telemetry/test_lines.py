"""The lines of requests and jobs: who, how much, what came of it, and when."""

import datetime
import json
import re
import time
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from service.access import make_key
from service.log import format_time
from tests.clips import make_clip
from tests.fakes import FakeEngine
from tests.helpers import encode, post_image, start_live_server, wait_until

RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def image(portrait) -> bytes:
    return encode(portrait[:100, :200], "PNG")


def read_lines(caplog: pytest.LogCaptureFixture, message: str) -> list[dict]:
    return [record.fields for record in caplog.records if record.message == message]


def test_line_of_a_request_says_who_how_much_and_what_came_of_it(
    make_client, image, tmp_path, caplog
):
    caplog.set_level("INFO")
    text = make_key("studio")
    key = re.search(r"once: (\S+)", text)[1]
    (tmp_path / "keys").write_text(text)
    client = make_client(FakeEngine(), keys_file=tmp_path / "keys")
    client.headers["X-API-Key"] = key
    answer = post_image(client, image)
    assert answer.status_code == 200
    files = [("file", ("a.png", image)), ("file", ("b.png", image))]
    assert client.post("/v1/image", files=files).status_code == 200
    assert post_image(client, b"no picture").status_code == 415
    assert client.get("/v1/image/none").status_code in (404, 405)
    del client.headers["X-API-Key"]
    assert post_image(client, image).status_code == 401
    good, batch, bad, wrong, unknown = read_lines(caplog, "request")
    assert good["key"] == "studio" and good["megapixels"] == 0.02 and "error" not in good
    assert good["bytes_in"] == len(image) and good["bytes_out"] == len(answer.content)
    assert batch["megapixels"] == 0.04 and batch["bytes_in"] > 2 * len(image)
    assert bad["error"] == "unsupported-media" and "megapixels" not in bad
    assert wrong["error"] in ("not-found", "method-not-allowed")
    assert unknown["error"] == "unauthorized" and "key" not in unknown


def test_each_run_of_a_job_has_a_line_for_its_start_and_its_end(make_client, tmp_path, caplog):
    caplog.set_level("INFO")
    clip = make_clip(tmp_path / "clip.mp4", seconds=0.5, fps=12, tone=False).read_bytes()
    client = make_client(FakeEngine())
    answers = [
        client.post("/v1/video", files={"file": data}, headers={"Prefer": "respond-async"})
        for data in (clip, clip[:-2000])
    ]
    wait_until(lambda: len(read_lines(caplog, "job ended")) == 2, 60)
    for answer, state in zip(answers, ("succeeded", "failed"), strict=True):
        job_id = answer.json()["id"]
        (started,) = (f for f in read_lines(caplog, "job started") if f["job"] == job_id)
        assert started["key"] == "anonymous" and started["attempt"] == 1
        (ended,) = (f for f in read_lines(caplog, "job ended") if f["job"] == job_id)
        assert ended["state"] == state and ended["duration_ms"] > 0
        if state == "succeeded":
            assert ended["frames_done"] == 6 and ended["video_seconds"] == 0.5
        else:
            assert ended["error"] == "undecodable-media"


def test_times_are_rfc_3339(tmp_path: Path) -> None:
    assert format_time(1_800_000_000.0625) == "2027-01-15T08:00:00.062Z"
    before_s = time.time()
    server = start_live_server(tmp_path / "log", data_dir=tmp_path)
    assert server.stop() == 0
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert len(lines) > 1
    for line in lines:
        assert RFC_3339.fullmatch(line["time"]), line
        assert datetime.datetime.fromisoformat(line["time"]).timestamp() > before_s - 1


def read_exemplars(client, name: str) -> list[dict]:
    text = client.get("/metrics", headers=OPENMETRICS).text
    return [
        sample.exemplar.labels
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and sample.exemplar
    ]


def test_histograms_lead_to_a_trace_or_to_a_line(make_client, image):
    client = make_client(FakeEngine())
    traced = {"traceparent": TRACEPARENT, "Content-Type": "image/png"}
    assert client.post("/v1/image", content=image, headers=traced).status_code == 200
    for name in ("matting_request_duration_seconds", "matting_stage_duration_seconds"):
        assert {"trace_id": TRACE_ID} in read_exemplars(client, f"{name}_bucket")
    named = {"X-Request-ID": "r-1", "Content-Type": "image/png"}
    assert client.post("/v1/image", content=image, headers=named).status_code == 200
    assert {"request_id": "r-1"} in read_exemplars(client, "matting_stage_duration_seconds_bucket")
    long = {"X-Request-ID": "r" * 128, "Content-Type": "image/png"}
    assert client.post("/v1/image", content=image, headers=long).status_code == 200


def test_every_family_is_valid_openmetrics(client):
    text = client.get("/metrics", headers=OPENMETRICS).text
    assert text.endswith("# EOF\n")
    assert len(list(text_string_to_metric_families(text))) > 20
