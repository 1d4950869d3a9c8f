"""Jobs over HTTP: bringing a clip, following it, fetching and deleting what came of it."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clips import make_clip
from tests.conftest import open_client
from tests.fakes import BlockedEngine, FakeEngine
from tests.helpers import Exchange, assert_problem, encode, read_metric, wait_until
from tests.videos import Clip, list_leftovers

ASYNC = {"Prefer": "respond-async"}
MEMBERS = {
    "id state progress frames_done frames_total eta_s created_at expires_at results report error "
    "outputs options"
}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return make_clip(path, seconds=0.5, fps=12).read_bytes()


@pytest.fixture(scope="module")
def app() -> Iterator:
    with open_client(FakeEngine(), api_keys="one,two") as client:
        client.headers["X-API-Key"] = "one"
        yield client


@pytest.fixture(scope="module")
def finished(app, clip: bytes) -> dict:
    """One job that has succeeded, as `GET` shows it."""
    return wait_for_end(app, bring(app, clip, crf=25).headers["location"])


def bring(client, clip: bytes, headers: dict[str, str] = ASYNC, **options):
    return client.post("/v1/video", params=options, files={"file": clip}, headers=headers)


def wait_for_end(client, url: str) -> dict:
    return wait_until(
        lambda: (job := client.get(url).json())["state"] not in ("queued", "running") and job, 30
    )


def read_events(text: str) -> list[dict]:
    """Return the server-sent events of a stream as their fields."""
    blocks = [block for block in text.split("\n\n") if block and not block.startswith(":")]
    return [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]


def test_accepted_job_is_answered_with_its_address(app, clip):
    response = bring(app, clip, {"Prefer": "wait=10, Respond-Async; foo=bar"}, crf=30)
    job = response.json()
    assert response.status_code == 202, response.text
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    assert int(response.headers["retry-after"]) >= 1
    assert response.headers["preference-applied"] == "respond-async"
    assert {" ".join(job)} == MEMBERS
    assert (job["state"], job["progress"], job["results"]) == ("queued", 0, [])
    assert (job["outputs"], job["options"]) == (["composite"], {"crf": 30})
    assert TIME.fullmatch(job["created_at"]) and TIME.fullmatch(job["expires_at"])
    assert job["created_at"] < job["expires_at"]


def test_finished_job_tells_all_about_itself(finished, clip):
    assert {" ".join(finished)} == MEMBERS
    assert (finished["state"], finished["progress"], finished["eta_s"]) == ("succeeded", 1, None)
    assert finished["frames_done"] == finished["frames_total"] == len(Clip(clip).times)
    assert finished["report"]["frames"] == 6 and finished["report"]["model"] == "fake"
    (result,) = finished["results"]
    assert list(result) == ["name", "url", "bytes", "sha256", "content_type"]
    assert result["url"] == f"/v1/jobs/{finished['id']}/results/composite.mp4"


def test_result_is_the_answer_of_a_request_that_waits(app, finished, clip):
    (result,) = finished["results"]
    response = app.get(result["url"])
    assert response.status_code == 200 and response.headers["content-type"] == "video/mp4"
    assert hashlib.sha256(response.content).hexdigest() == result["sha256"]
    assert int(response.headers["content-length"]) == len(response.content) == result["bytes"]
    assert response.headers["content-disposition"] == 'attachment; filename="composite.mp4"'
    assert response.headers["etag"] == f'"{result["sha256"]}"'
    waited = bring(app, clip, {}, crf=25)
    assert waited.status_code == 200
    assert Clip(response.content).times == Clip(waited.content).times == Clip(clip).times


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-9", 0, 9),
        ("bytes=5-", 5, None),
        ("bytes=-7", -7, None),
        ("bytes=3-999999999", 3, None),
    ],
)
def test_range_is_the_piece_of_the_file(app, finished, asked, first, last):
    url, size = finished["results"][0]["url"], finished["results"][0]["bytes"]
    whole = app.get(url).content
    piece = whole[first : None if last is None else last + 1]
    response = app.get(url, headers={"Range": asked})
    assert response.status_code == 206 and response.content == piece
    start = first if first >= 0 else size + first
    assert response.headers["content-range"] == f"bytes {start}-{start + len(piece) - 1}/{size}"
    head = app.head(url, headers={"Range": asked})
    assert (head.status_code, head.content) == (206, b"")
    assert head.headers["content-length"] == str(len(piece))
    etag = response.headers["etag"]
    assert app.get(url, headers={"Range": asked, "If-Range": etag}).status_code == 206
    assert app.get(url, headers={"Range": asked, "If-Range": '"other"'}).content == whole


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=9-3",
        "bytes=-",
        "bytes=0-1,4-5",
        "items=0-1",
        "bytes=a-b",
        "0-1",
        "bytes=" + "0-1," * 999,
    ],
)
def test_what_is_no_single_range_is_answered_whole(app, finished, asked):
    url, size = finished["results"][0]["url"], finished["results"][0]["bytes"]
    response = app.get(url, headers={"Range": asked})
    assert response.status_code == 200 and len(response.content) == size


@pytest.mark.parametrize("asked", ["bytes=99999999-", "bytes=-0"])
def test_range_beyond_the_file_is_416(app, finished, asked):
    url, size = finished["results"][0]["url"], finished["results"][0]["bytes"]
    response = app.get(url, headers={"Range": asked})
    assert_problem(response, 416, "range-not-satisfiable")
    assert response.headers["content-range"] == f"bytes */{size}"


def test_unchanged_result_is_304(app, finished):
    url, etag = finished["results"][0]["url"], f'"{finished["results"][0]["sha256"]}"'
    for tags in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        response = app.get(url, headers={"If-None-Match": tags})
        assert (response.status_code, response.content) == (304, b"")
        assert response.headers["etag"] == etag
    assert app.get(url, headers={"If-None-Match": '"x"'}).status_code == 200
    head = app.head(url)
    assert head.status_code == 200 and head.content == b"" and head.headers["etag"] == etag


@pytest.mark.parametrize("name", ["alpha.mp4", "..%2f..%2f..%2fjobs.sqlite3", "composite.mp4%00"])
def test_unknown_result_is_not_found(app, finished, name):
    assert_problem(app.get(f"/v1/jobs/{finished['id']}/results/{name}"), 404, "not-found")


def test_names_of_the_results_are_told_for_a_wrong_one(app, finished):
    problem = app.get(f"/v1/jobs/{finished['id']}/results/alpha.mp4").json()
    assert "composite.mp4" in problem["hint"]


def test_job_of_another_key_is_not_there(app, finished):
    url = f"/v1/jobs/{finished['id']}"
    other = {"X-API-Key": "two"}
    for path in (url, f"{url}/events", f"{url}/results/composite.mp4", "/v1/jobs/unknown"):
        assert_problem(app.get(path, headers=other), 404, "not-found")
    assert_problem(app.delete(url, headers=other), 404, "not-found")
    assert app.get("/v1/jobs", headers=other).json() == {"jobs": [], "next": None}
    assert app.get(f"/v1/jobs?before={finished['id']}", headers=other).status_code == 404
    assert app.get(url).status_code == 200
    assert_problem(app.get(url, headers={"X-API-Key": "no"}), 401, "unauthorized")


def test_jobs_are_listed_newest_first_page_by_page(make_client, clip):
    client = make_client(FakeEngine())
    ids = [bring(client, clip).json()["id"] for _ in range(5)]
    assert [job["id"] for job in client.get("/v1/jobs").json()["jobs"]] == ids[::-1]
    found, url = [], "/v1/jobs?limit=2"
    while url:
        page = client.get(url).json()
        assert len(page["jobs"]) <= 2
        found += [job["id"] for job in page["jobs"]]
        url = page["next"]
    assert found == ids[::-1]
    for query in ("limit=0", "limit=101", "limit=x"):
        assert_problem(client.get(f"/v1/jobs?{query}"), 422, "invalid-option")


def test_events_end_with_the_finished_job(app, clip):
    url = bring(app, clip).headers["location"]
    response = app.get(f"{url}/events")
    assert response.headers["content-type"].startswith("text/event-stream")
    *before, last = read_events(response.text)
    assert {event["event"] for event in before} <= {"progress"} and last["event"] == "end"
    assert json.loads(last["data"]) == app.get(url).json()
    ids = [event["id"] for event in (*before, last)]
    assert len(set(ids)) == len(ids)


def test_events_go_on_after_the_last_one_seen(app, finished):
    url = f"/v1/jobs/{finished['id']}/events"
    (event,) = read_events(app.get(url).text)
    again = app.get(url, headers={"Last-Event-ID": event["id"]})
    assert (again.status_code, again.content) == (204, b""), "browsers stop at this"
    (missed,) = read_events(app.get(url, headers={"Last-Event-ID": "running-1-2"}).text)
    assert missed == event


def test_results_before_the_end_are_a_conflict_and_deleting_ends_the_job(make_client, clip):
    engine = BlockedEngine()
    client = make_client(engine, max_videos=1)
    running = bring(client, clip).headers["location"]
    waiting = bring(client, clip).headers["location"]
    assert engine.entered.wait(30)
    problem = assert_problem(client.get(f"{running}/results/composite.mp4"), 409, "conflict")
    assert "running" in problem["detail"]
    assert_problem(client.get(f"{waiting}/results/composite.mp4"), 409, "conflict")
    assert_problem(bring(client, clip, {}), 429, "overloaded")
    assert read_metric(client, "matting_jobs", state="running") == 1
    assert read_metric(client, "matting_jobs", state="queued") == 1
    assert client.delete(waiting).status_code == 204
    assert_problem(client.delete(waiting), 404, "not-found")
    engine.release.set()
    assert client.delete(running).status_code == 204
    assert_problem(client.get(running), 404, "not-found")
    assert read_metric(client, "matting_jobs", state="running") == 0
    assert client.get("/readyz?verbose").json()["videos"] == 0


def test_failed_job_has_the_problem_document(app, finished):
    job = wait_for_end(app, bring(app, b"no clip").headers["location"])
    assert (job["state"], job["results"]) == ("failed", [])
    error = job["error"]
    assert (error["code"], error["status"]) == ("undecodable-media", 422)
    assert error["type"] == "/problems/undecodable-media" and error["instance"] == job["id"]
    assert_problem(app.get(f"/v1/jobs/{job['id']}/results/composite.mp4"), 404, "not-found")


def test_job_may_be_longer_than_a_request_may_wait_for(make_client, clip, tmp_path):
    client = make_client(FakeEngine(), sync_video_max_s=0.2, video_max_s=1, data_dir=tmp_path)
    problem = assert_problem(bring(client, clip, {}), 422, "media-limit-exceeded")
    assert "respond-async" in problem["hint"]
    job = wait_for_end(client, bring(client, clip).headers["location"])
    assert job["state"] == "succeeded"
    long = make_clip(tmp_path / "long.mp4", seconds=1.5, fps=12).read_bytes()
    job = wait_for_end(client, bring(client, long).headers["location"])
    assert (job["error"]["code"], job["error"]["limit"]) == ("media-limit-exceeded", 1)
    (tmp_path / "long.mp4").unlink()
    assert list_leftovers(tmp_path) == []


def test_several_outputs_are_a_job_without_being_asked(make_client, clip):
    client, outputs = make_client(FakeEngine()), "prores,composite,frames,webm"
    response = bring(client, clip, {}, outputs=outputs)
    assert response.status_code == 202 and "preference-applied" not in response.headers
    assert response.json()["outputs"] == outputs.split(",")
    job = wait_for_end(client, response.headers["location"])
    names = [result["name"] for result in job["results"]]
    assert names == ["cutout.mov", "composite.mp4", "frames.zip", "cutout.webm"]
    for result in job["results"]:
        got = client.get(result["url"])
        assert got.headers["content-type"] == result["content_type"]
        assert hashlib.sha256(got.content).hexdigest() == result["sha256"]
    assert job["report"]["frames"] == job["frames_done"] == len(Clip(clip).images)


def test_part_of_a_clip_is_counted_as_such(make_client, clip):
    client = make_client(FakeEngine())
    job = wait_for_end(client, bring(client, clip, end=0.25).headers["location"])
    assert job["state"] == "succeeded" and job["options"] == {"end": 0.25}
    assert job["frames_total"] == job["report"]["frames"] == 3


def test_bad_option_is_refused_at_once_and_makes_no_job(make_client, clip):
    client = make_client(FakeEngine())
    assert_problem(bring(client, clip, crf=99), 422, "invalid-option")
    assert_problem(client.post("/v1/video", content=b"x", headers=ASYNC), 415, "unsupported-media")
    assert client.get("/v1/jobs").json()["jobs"] == []
    assert client.app.state.services.jobs.store.files.list_ids() == []


def test_picture_behind_is_kept_with_the_clip(make_client, clip):
    import numpy as np

    client = make_client(FakeEngine(lambda b: np.zeros((len(b), *b.shape[2:]), np.float32)))
    green = encode(np.full((9, 9, 3), (0, 255, 0), np.uint8), "PNG")
    files = {"file": clip, "background_file": green}
    keyed = ASYNC | {"Idempotency-Key": "k"}
    response = client.post("/v1/video", files=files, headers=keyed)
    job = wait_for_end(client, response.headers["location"])
    image = Clip(client.get(job["results"][0]["url"]).content).images[0]
    assert image[..., 1].mean() > 220 and image[..., 0].mean() < 40
    files["background_file"] = green + b"x"
    problem = client.post("/v1/video", files=files, headers=keyed)
    assert_problem(problem, 422, "idempotency-key-reused")


def test_disk_without_room_refuses_jobs_and_nothing_else(make_client, clip, portrait_jpeg):
    client = make_client(FakeEngine(), disk_min_free_percent=100)
    response = bring(client, clip)
    problem = assert_problem(response, 507, "insufficient-storage")
    assert problem["limit"] > problem["actual"] and response.headers["retry-after"]
    assert client.post("/v1/image", files={"file": portrait_jpeg}).status_code == 200


@pytest.mark.parametrize(
    "how", [{"files": {"file": b"x" * (2 << 20)}}, {"content": b"x" * (2 << 20)}]
)
def test_disk_that_is_full_while_the_upload_is_spooled_is_507(make_client, monkeypatch, how):
    import errno
    import tempfile

    def refuse(*args, **more):
        raise OSError(errno.ENOSPC, "No space left on device")

    client = make_client(FakeEngine())
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", refuse)
    headers = ASYNC | ({"Content-Type": "video/mp4"} if "content" in how else {})
    response = client.post("/v1/video", headers=headers, **how)
    assert_problem(response, 507, "insufficient-storage")
    monkeypatch.undo()
    assert client.get("/v1/jobs").json()["jobs"] == []


# Idempotency keys.


def test_same_key_and_request_is_the_same_answer(app, clip):
    keyed = ASYNC | {"Idempotency-Key": "same"}
    first = bring(app, clip, keyed, crf=33)
    wait_for_end(app, first.headers["location"])
    again = bring(app, clip, keyed, crf=33)
    assert (again.status_code, again.json()) == (202, first.json())
    assert again.headers["location"] == first.headers["location"]
    raw = keyed | {"Content-Type": "video/mp4"}
    as_raw_body = app.post("/v1/video?crf=33", content=clip, headers=raw)
    assert as_raw_body.json() == first.json(), "the same clip, whatever its wrapping"


def test_same_key_with_another_request_is_422(app, clip):
    keyed = ASYNC | {"Idempotency-Key": "other"}
    assert bring(app, clip, keyed).status_code == 202
    for response in (bring(app, clip + b"x", keyed), bring(app, clip, keyed, crf=1)):
        assert_problem(response, 422, "idempotency-key-reused")
    of_another = keyed | {"X-API-Key": "two"}
    assert bring(app, clip, of_another).status_code == 202


def test_key_that_is_being_received_is_409_and_free_when_the_client_leaves(make_client, clip):
    client = make_client(FakeEngine())
    headers = [(b"prefer", b"respond-async"), (b"idempotency-key", b"k")]
    exchange = Exchange(client, "/v1/video", clip[:100], is_whole=False, headers=headers)
    keyed = ASYNC | {"Idempotency-Key": "k"}
    wait_until(lambda: client.app.state.services.intake._keys_in_use)
    response = bring(client, clip, keyed)
    assert_problem(response, 409, "in-progress")
    assert response.headers["retry-after"] == "1"
    exchange.disconnect()
    exchange.wait()
    assert bring(client, clip, keyed).status_code == 202
    assert len(client.get("/v1/jobs").json()["jobs"]) == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
def test_key_that_is_none_is_400(app, clip, key):
    response = bring(app, clip, ASYNC | {"Idempotency-Key": key})
    problem = assert_problem(response, 400, "bad-request")
    assert "Idempotency-Key" in problem["detail"]


def test_api_document_describes_the_routes(app):
    document = app.get("/openapi.json").json()
    paths = document["paths"]
    assert set(paths["/v1/jobs/{job_id}"]) == {"get", "delete"}
    for path in ("/v1/jobs", "/v1/jobs/{job_id}/events", "/v1/jobs/{job_id}/results/{name}"):
        assert paths[path]["get"]["description"]
    accepted = paths["/v1/video"]["post"]["responses"]["202"]["content"]["application/json"]
    assert accepted["schema"]["$ref"].endswith("/JobDocument")
    members = document["components"]["schemas"]["JobDocument"]["properties"]
    assert {" ".join(members)} == MEMBERS


def test_key_of_the_owner_is_nowhere_on_the_disk(make_client, clip, tmp_path: Path):
    client = make_client(FakeEngine(), api_keys="the-secret-key", data_dir=tmp_path)
    client.headers["Authorization"] = "Bearer the-secret-key"
    wait_for_end(client, bring(client, clip).headers["location"])
    content = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert len(content) > 10_000 and b"the-secret-key" not in content
