"""Requests that make jobs: options, keys for repetition, full disks."""

import hashlib
from pathlib import Path

import pytest

from tests.clips import make_clip
from tests.fakes import FakeEngine
from tests.helpers import Exchange, assert_problem, encode, wait_until
from tests.job_requests import ASYNC, MEMBERS, bring, wait_for_end
from tests.videos import Clip, list_leftovers


def test_job_may_be_longer_than_a_request_may_wait_for(make_client, brief, tmp_path):
    client = make_client(FakeEngine(), sync_video_max_s=0.2, video_max_s=1, data_dir=tmp_path)
    problem = assert_problem(bring(client, brief, {}), 422, "media-limit-exceeded")
    assert "respond-async" in problem["hint"]
    job = wait_for_end(client, bring(client, brief).headers["location"])
    assert job["state"] == "succeeded"
    long = make_clip(tmp_path / "long.mp4", seconds=1.5, fps=12).read_bytes()
    job = wait_for_end(client, bring(client, long).headers["location"])
    assert (job["error"]["code"], job["error"]["limit"]) == ("media-limit-exceeded", 1)
    (tmp_path / "long.mp4").unlink()
    assert list_leftovers(tmp_path) == []


def test_several_outputs_are_a_job_without_being_asked(make_client, brief):
    client, outputs = make_client(FakeEngine()), "prores,composite,frames,webm"
    response = bring(client, brief, {}, outputs=outputs)
    assert response.status_code == 202 and "preference-applied" not in response.headers
    assert response.json()["outputs"] == outputs.split(",")
    job = wait_for_end(client, response.headers["location"])
    names = [result["name"] for result in job["results"]]
    assert names == ["cutout.mov", "composite.mp4", "frames.zip", "cutout.webm"]
    for result in job["results"]:
        got = client.get(result["url"])
        assert got.headers["content-type"] == result["content_type"]
        assert hashlib.sha256(got.content).hexdigest() == result["sha256"]
    assert job["report"]["frames"] == job["frames_done"] == len(Clip(brief).images)


def test_part_of_a_clip_is_counted_as_such(make_client, brief):
    client = make_client(FakeEngine())
    job = wait_for_end(client, bring(client, brief, end=0.25).headers["location"])
    assert job["state"] == "succeeded" and job["options"] == {"end": 0.25}
    assert job["frames_total"] == job["report"]["frames"] == 3


def test_bad_option_is_refused_at_once_and_makes_no_job(make_client, brief):
    client = make_client(FakeEngine())
    assert_problem(bring(client, brief, crf=99), 422, "invalid-option")
    assert_problem(client.post("/v1/video", content=b"x", headers=ASYNC), 415, "unsupported-media")
    assert client.app.state.services.jobs.store.list_all() == []
    assert client.app.state.services.jobs.store.files.list_ids() == []


def test_picture_behind_is_kept_with_the_clip(make_client, brief):
    import numpy as np

    client = make_client(FakeEngine(lambda b: np.zeros((len(b), *b.shape[2:]), np.float32)))
    green = encode(np.full((9, 9, 3), (0, 255, 0), np.uint8), "PNG")
    files = {"file": brief, "background_file": green}
    keyed = ASYNC | {"Idempotency-Key": "k"}
    response = client.post("/v1/video", files=files, headers=keyed)
    job = wait_for_end(client, response.headers["location"])
    image = Clip(client.get(job["results"][0]["url"]).content).images[0]
    assert image[..., 1].mean() > 220 and image[..., 0].mean() < 40
    files["background_file"] = green + b"x"
    problem = client.post("/v1/video", files=files, headers=keyed)
    assert_problem(problem, 422, "idempotency-key-reused")


def test_disk_without_room_refuses_jobs_and_nothing_else(make_client, brief, portrait_jpeg):
    client = make_client(FakeEngine(), disk_min_free_percent=100)
    response = bring(client, brief)
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
    assert client.app.state.services.jobs.store.list_all() == []


def test_same_key_and_request_is_the_same_answer(app, brief):
    keyed = ASYNC | {"Idempotency-Key": "same"}
    first = bring(app, brief, keyed, crf=33)
    wait_for_end(app, first.headers["location"])
    again = bring(app, brief, keyed, crf=33)
    assert (again.status_code, again.json()) == (202, first.json())
    assert again.headers["location"] == first.headers["location"]
    raw = keyed | {"Content-Type": "video/mp4"}
    as_raw_body = app.post("/v1/video?crf=33", content=brief, headers=raw)
    assert as_raw_body.json() == first.json(), "the same brief, whatever its wrapping"


def test_same_key_with_another_request_is_422(app, brief):
    keyed = ASYNC | {"Idempotency-Key": "other"}
    assert bring(app, brief, keyed).status_code == 202
    for response in (
        bring(app, brief + b"x", keyed),
        bring(app, brief, keyed, crf=1),
    ):
        assert_problem(response, 422, "idempotency-key-reused")
    of_another = keyed | {"X-API-Key": "two"}
    assert bring(app, brief, of_another).status_code == 202


def test_key_that_is_being_received_is_409_and_free_when_the_client_leaves(make_client, brief):
    client = make_client(FakeEngine())
    headers = [(b"prefer", b"respond-async"), (b"idempotency-key", b"k")]
    exchange = Exchange(client, "/v1/video", brief[:100], is_whole=False, headers=headers)
    keyed = ASYNC | {"Idempotency-Key": "k"}
    wait_until(lambda: client.app.state.services.intake._keys_in_use)
    response = bring(client, brief, keyed)
    assert_problem(response, 409, "in-progress")
    assert response.headers["retry-after"] == "1"
    exchange.disconnect()
    exchange.wait()
    assert bring(client, brief, keyed).status_code == 202
    assert len(client.app.state.services.jobs.store.list_all()) == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
def test_key_that_is_none_is_400(app, brief, key):
    response = bring(app, brief, ASYNC | {"Idempotency-Key": key})
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


def test_key_of_the_owner_is_nowhere_on_the_disk(make_client, brief, tmp_path: Path):
    client = make_client(FakeEngine(), api_keys="the-secret-key", data_dir=tmp_path)
    client.headers["Authorization"] = "Bearer the-secret-key"
    wait_for_end(client, bring(client, brief).headers["location"])
    content = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert len(content) > 10_000 and b"the-secret-key" not in content
