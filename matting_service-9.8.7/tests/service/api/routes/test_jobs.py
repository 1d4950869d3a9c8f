"""Jobs over HTTP: bringing a brief, following it, fetching and deleting what came of it."""

import hashlib
import json
import re

import pytest

from tests.fakes import BlockedEngine, FakeEngine
from tests.helpers import assert_problem, read_metric
from tests.job_requests import MEMBERS, bring, wait_for_end
from tests.videos import Clip

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


@pytest.fixture(scope="module")
def finished(app, brief: bytes) -> dict:
    """One job that has succeeded, as `GET` shows it."""
    return wait_for_end(app, bring(app, brief, crf=25).headers["location"])


def read_events(text: str) -> list[dict]:
    """Return the server-sent events of a stream as their fields."""
    blocks = [block for block in text.split("\n\n") if block and not block.startswith(":")]
    return [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]


def test_accepted_job_is_answered_with_its_address(app, brief):
    response = bring(app, brief, {"Prefer": "wait=10, Respond-Async; foo=bar"}, crf=30)
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


def test_finished_job_tells_all_about_itself(finished, brief):
    assert {" ".join(finished)} == MEMBERS
    assert (finished["state"], finished["progress"], finished["eta_s"]) == ("succeeded", 1, None)
    assert finished["frames_done"] == finished["frames_total"] == len(Clip(brief).times)
    assert finished["report"]["frames"] == 6 and finished["report"]["model"] == "fake"
    (result,) = finished["results"]
    assert list(result) == ["name", "url", "bytes", "sha256", "content_type"]
    assert result["url"] == f"/v1/jobs/{finished['id']}/results/composite.mp4"


def test_result_is_the_answer_of_a_request_that_waits(app, finished, brief):
    (result,) = finished["results"]
    response = app.get(result["url"])
    assert response.status_code == 200 and response.headers["content-type"] == "video/mp4"
    assert hashlib.sha256(response.content).hexdigest() == result["sha256"]
    assert int(response.headers["content-length"]) == len(response.content) == result["bytes"]
    assert response.headers["content-disposition"] == 'attachment; filename="composite.mp4"'
    assert response.headers["etag"] == f'"{result["sha256"]}"'
    waited = bring(app, brief, {}, crf=25)
    assert waited.status_code == 200
    assert Clip(response.content).times == Clip(waited.content).times == Clip(brief).times


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


def test_jobs_are_listed_newest_first_page_by_page(make_client, brief):
    client = make_client(FakeEngine(), api_keys="one")
    client.headers["X-API-Key"] = "one"
    ids = [bring(client, brief).json()["id"] for _ in range(5)]
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


def test_events_end_with_the_finished_job(app, brief):
    url = bring(app, brief).headers["location"]
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


def test_results_before_the_end_are_a_conflict_and_deleting_ends_the_job(make_client, brief):
    engine = BlockedEngine()
    client = make_client(engine, max_videos=1)
    running = bring(client, brief).headers["location"]
    waiting = bring(client, brief).headers["location"]
    assert engine.entered.wait(30)
    problem = assert_problem(client.get(f"{running}/results/composite.mp4"), 409, "conflict")
    assert "running" in problem["detail"]
    assert_problem(client.get(f"{waiting}/results/composite.mp4"), 409, "conflict")
    assert_problem(bring(client, brief, {}), 429, "overloaded")
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
