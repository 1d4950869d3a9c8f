"""The client's clips: jobs, their events, downloads that go on, and clips that are waited for."""

import hashlib
from pathlib import Path

import pytest

from matting_client import (
    Client,
    DamagedDownload,
    InvalidOption,
    JobFailed,
    NotFound,
    Progress,
    Retry,
    Unreachable,
)
from tests.fakes import FakeEngine, SlowEngine
from tests.sockets import serve
from tests.storage import needs_storage, run_s3
from tests.tcp_proxy import Cut, Proxy, open_proxy
from tests.videos import Clip


@pytest.fixture
def port(fake_service: str) -> int:
    return int(fake_service.rsplit(":", 1)[1])


def read_ranges(proxy: Proxy) -> list[bytes]:
    """Return the ranges asked for by requests for results, empty for the whole."""
    lines = [bytes(request).split(b"\r\n") for request in proxy.requests]
    return [
        b"".join(line for line in head if line.lower().startswith(b"range:"))
        for head in lines
        if b"/results/" in head[0]
    ]


def list_jobs(url: str, key: str) -> set[str]:
    with Client(url, key) as client:
        return {job.id for job in client.list_jobs(limit=100)}


def test_clip_is_matted_into_a_file(connect, fake_service, clip, tmp_path: Path) -> None:
    told: list[Progress] = []
    before = list_jobs(fake_service, "a")
    video = connect(fake_service, "a").matte_video(
        clip, tmp_path / "out.mp4", progress=told.append, background="teal"
    )
    assert video.path == tmp_path / "out.mp4" and video.report["frames"] == 6
    assert Clip(video.path.read_bytes()).times == Clip(clip).times
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
    assert list(dict.fromkeys(one.stage for one in told)) == ["upload", "matte", "download"]
    ends = {one.stage: one for one in told}
    assert ends["upload"].done == ends["upload"].total == len(clip)
    assert ends["matte"].done == 6
    assert ends["download"].done == video.path.stat().st_size
    assert list_jobs(fake_service, "a") <= before, "the job is deleted"


def test_several_outputs_go_into_a_folder(connect, fake_service, clip, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip)
    outputs = ("alpha", "webm")
    video = connect(fake_service, "a").matte_video(path, tmp_path / "out", outputs=outputs)
    assert video.files == {n: tmp_path / "out" / n for n in ("alpha.mp4", "cutout.webm")}
    assert all(path.stat().st_size > 500 for path in video.files.values())


def test_missing_folder_is_made_before_the_clip_is_sent(
    connect, fake_service, clip, tmp_path: Path
) -> None:
    client = connect(fake_service, "a")
    video = client.matte_video(clip, tmp_path / "new" / "out.mp4")
    assert video.path.stat().st_size > 500
    told: list[Progress] = []
    with pytest.raises(OSError, match=r"out\.mp4"):
        client.matte_video(clip, video.path / "other.mp4", progress=told.append)
    assert told == [], "nothing was sent"


def test_job_is_followed_and_found_again(connect, fake_service, clip, tmp_path: Path) -> None:
    client = connect(fake_service, "a")
    job = client.submit(clip, outputs="alpha")
    states = list(job.events())
    assert states[-1].state == "succeeded" and states[-1].is_finished
    assert all(not state.is_finished for state in states[:-1])
    again = client.job(job.id)
    assert again.status.results == job.status.results == job.wait().results
    (result,) = again.status.results
    content = again.download(result.name, tmp_path / "alpha.mp4").read_bytes()
    assert hashlib.sha256(content).hexdigest() == result.sha256
    with pytest.raises(NotFound, match="its results: alpha.mp4"):
        again.download("composite.mp4", tmp_path / "x")
    again.cancel()
    again.cancel()  # what is gone is gone
    with pytest.raises(NotFound):
        client.job(job.id)


def test_job_that_fails_says_why(connect, fake_service, clip, tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match="not a complete MP4") as failed:
        connect(fake_service, "a").matte_video(clip[: len(clip) // 8], tmp_path / "out.mp4")
    assert failed.value.state == "failed" and failed.value.code
    assert not list(tmp_path.iterdir())
    with pytest.raises(InvalidOption):
        connect(fake_service, "a").submit(clip, outputs="alpha", background="red")


def test_clip_is_one_job_however_often_it_is_sent(connect, fake_service, port, clip) -> None:
    """The first connection breaks inside the request, the second one before its answer."""
    before = list_jobs(fake_service, "b")
    with open_proxy(port, Cut(sent=len(clip) // 2), Cut(answered=10)) as proxy:
        client = connect(proxy.url, "b")
        job = client.submit(clip)
        client.close()
    assert len(proxy.requests) == 3
    assert list_jobs(fake_service, "b") - before == {job.id}


def test_key_of_the_caller_makes_one_job(connect, fake_service, clip) -> None:
    client = connect(fake_service, "a")
    first = client.submit(clip, idempotency_key="mine")
    assert client.submit(clip, idempotency_key="mine").id == first.id
    first.cancel()


def test_events_go_on_after_a_lost_connection(connect, fake_service, port, clip) -> None:
    job_id = connect(fake_service, "a").submit(clip).id
    with open_proxy(port, Cut(), Cut(answered=700), Cut(answered=100)) as proxy:
        client = connect(proxy.url, "a")
        job = client.job(job_id)
        assert job.wait().state == "succeeded"
        client.close()


@pytest.fixture
def frames(fake_service: str, clip: bytes):
    """A job with a result of some size."""
    with Client(fake_service, "a") as client:
        job = client.submit(clip, outputs="frames")
        job.wait()
        yield job
        job.cancel()


def test_download_goes_on_where_it_stopped(connect, port, frames, tmp_path: Path) -> None:
    (result,) = frames.status.results
    cut = Cut(answered=result.bytes // 3)
    with open_proxy(port, cut, cut) as proxy:
        client = connect(proxy.url, "a")
        job = client.job(frames.id)
        path = job.download("frames.zip", tmp_path / "frames.zip")
        client.close()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == result.sha256
    ranges = read_ranges(proxy)
    assert len(ranges) >= 2 and all(ranges[1:]), "the later requests ask for the rest"
    assert [path.name for path in tmp_path.iterdir()] == ["frames.zip"]


def test_download_goes_on_in_another_run(connect, fake_service, port, frames, tmp_path) -> None:
    (result,) = frames.status.results
    with open_proxy(port, *[Cut(answered=result.bytes // 3)] * 9) as proxy:
        client = connect(proxy.url, "a", retry=Retry(tries=1))
        job = client.job(frames.id)
        with pytest.raises(Unreachable):
            job.download("frames.zip", tmp_path / "frames.zip")
        client.close()
    begun = (tmp_path / "frames.zip.part").stat().st_size
    assert 0 < begun < result.bytes
    seen: list[Progress] = []
    job = connect(fake_service, "a").job(frames.id)
    path = job.download("frames.zip", tmp_path / "frames.zip", seen.append)
    assert seen[0].done > begun, "it goes on behind what was there"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == result.sha256


def test_beginning_of_another_file_is_thrown_away(connect, fake_service, frames, tmp_path) -> None:
    (result,) = frames.status.results
    (tmp_path / "frames.zip.part").write_bytes(b"another")
    path = connect(fake_service, "a").job(frames.id).download("frames.zip", tmp_path / "frames.zip")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == result.sha256


def test_damaged_download_is_not_taken_for_the_result(
    connect, fake_service, frames, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("matting_client.jobs.hash_file", lambda path: "0" * 64)
    job = connect(fake_service, "a").job(frames.id)
    with pytest.raises(DamagedDownload, match="frames.zip"):
        job.download("frames.zip", tmp_path / "frames.zip")
    assert not list(tmp_path.iterdir())


def test_interrupted_clip_leaves_no_job(connect, long_clip, tmp_path: Path) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.stage == "matte":
            raise KeyboardInterrupt

    with serve(SlowEngine(), api_keys=("a",)) as http:
        client = connect(str(http.base_url), "a")
        with pytest.raises(KeyboardInterrupt):
            client.matte_video(long_clip, tmp_path / "out.mp4", progress=interrupt)
        assert list_jobs(str(http.base_url), "a") == set()


@needs_storage
def test_download_follows_to_the_storage_and_takes_no_key_there(
    connect, clip, tmp_path: Path, monkeypatch
) -> None:
    with run_s3() as server, open_proxy(server.port) as proxy:
        for name, value in server.environ.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        url = server.make_bucket()
        with serve(FakeEngine(), api_keys=("the-key-of-a",), storage_url=url) as http:
            client = connect(str(http.base_url), "the-key-of-a")
            video = client.matte_video(clip, tmp_path / "out.mp4")
            client.close()
        assert Clip(video.path.read_bytes()).times == Clip(clip).times
    downloads = [request for request in proxy.requests if b"X-Amz-Signature" in request]
    assert len(downloads) == 1 and b"GET /bucket" in downloads[0]
    assert not any(b"the-key-of-a" in request for request in proxy.requests)
