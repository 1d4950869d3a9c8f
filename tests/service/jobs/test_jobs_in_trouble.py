"""Jobs on full disks, with results that are not what they seem, and after crashes."""

import asyncio
import hashlib
import os
import sqlite3

import pytest

from service.clips.matte import ResultFile
from service.errors import InsufficientStorage
from service.jobs import changes
from service.jobs import run as job_run
from service.jobs.rows.store import JobStore
from tests.clips import make_clip, truncate
from tests.fakes import BlockedEngine, SlowEngine
from tests.jobs import Bench, Clock, run_with_jobs
from tests.service.jobs.test_job_files import DiskRecorder


def test_refusal_ends_the_run_at_the_next_frame():
    progress = job_run.Progress(Clock().tell_elapsed)
    progress.count_frame()
    progress.refusal = InsufficientStorage("full")
    with pytest.raises(InsufficientStorage):
        progress.count_frame()


def test_disk_that_is_full_while_a_job_runs_fails_it(tmp_path, long_clip, clip, monkeypatch):
    monkeypatch.setattr("service.jobs.run.PROGRESS_S", 0.05)
    limit = len(long_clip) + 2000

    async def story(bench: Bench):
        job = await bench.wait(await bench.bring(long_clip, crf=0))
        assert job.state == "failed" and job.error["code"] == "insufficient-storage"
        assert job.error["limit"] == limit
        await bench.settle()  # its files go after it is called failed
        assert (await bench.wait(await bench.bring(clip))).state == "succeeded", "room is back"

    run_with_jobs(tmp_path, story, SlowEngine(), jobs_max_bytes=limit, job_max_retries=0)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_disk_that_fails_at_the_results_fails_the_job(tmp_path, clip, monkeypatch, step):
    async def story(bench: Bench):
        with bench.services.slots.enter():
            job = await bench.bring(clip)
            disk = DiskRecorder(monkeypatch, tmp_path)
            disk.fails_at = step
        done = await bench.wait(job)
        assert len(disk.steps) == step and "results" in disk.steps[0]
        assert (done.state, done.error["code"]) == ("failed", "insufficient-storage")
        await bench.settle()
        assert bench.store.files.list_ids() == []
        assert (await bench.wait(await bench.bring(clip))).state == "succeeded"

    run_with_jobs(tmp_path, story, max_videos=1, job_max_retries=0)


def test_full_database_at_the_end_is_waited_for(tmp_path, clip, monkeypatch):
    monkeypatch.setattr(changes, "RETRY_S", 0.01)
    engine = BlockedEngine()
    refused = asyncio.Event()

    async def story(bench: Bench):
        job = await bench.bring(clip)
        await asyncio.to_thread(engine.entered.wait, 30)
        update, is_full = bench.store.update, [True]

        def fail(job_id, **columns):
            if not is_full[0]:
                return update(job_id, **columns)
            loop.call_soon_threadsafe(refused.set)
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error

        loop = asyncio.get_running_loop()
        bench.store.update = fail
        engine.release.set()
        await refused.wait()
        assert (await bench.find_row(job)).state == "running"
        is_full[0] = False
        assert (await bench.wait(job)).state == "succeeded"

    run_with_jobs(tmp_path, story, engine)


def test_no_room_for_the_row_leaves_no_files(tmp_path, clip):
    async def story(bench: Bench):
        connection = bench.store._connection
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(InsufficientStorage):
            for _ in range(100):
                await bench.bring(clip, text="x" * 1000)
        kept = {job.id for job in bench.store.list_all()}
        assert set(bench.store.files.list_ids()) == kept
        connection.execute("PRAGMA max_page_count = 100000")
        await bench.bring(clip)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)

    with_no_place = {"max_videos": 1}

    async def without_runs(bench: Bench):
        with bench.services.slots.enter():
            await story(bench)

    run_with_jobs(tmp_path, without_runs, **with_no_place)


# Results that are not what they seem.


@pytest.mark.parametrize("share", [0.0, 0.5, 0.97])
def test_result_that_is_cut_short_is_never_a_success(tmp_path, clip, monkeypatch, share, caplog):
    run = job_run.run_clip

    async def run_and_cut(*arguments, **more):
        matted = await run(*arguments, **more)
        path = matted.results[0].path
        truncate(path, path, share)
        return matted

    monkeypatch.setattr(job_run, "run_clip", run_and_cut)

    async def story(bench: Bench):
        job = await bench.wait(await bench.bring(clip))
        assert (job.state, job.error["code"]) == ("failed", "internal-error")
        assert "composite.mp4" in caplog.text
        await bench.settle()
        assert bench.store.files.list_ids() == []

    run_with_jobs(tmp_path, story)


def test_clip_at_the_limit_of_sides_is_not_refused_for_its_padding(tmp_path):
    odd = make_clip(tmp_path / "odd.mkv", seconds=0.2, size=(97, 65), pix_fmt="yuv444p")

    async def story(bench: Bench):
        job = await bench.wait(await bench.bring(odd.read_bytes()))
        assert job.state == "succeeded", job.error
        assert (job.report["width"], job.report["height"]) == (98, 66)

    run_with_jobs(tmp_path, story, video_max_side=97)


# What a crash leaves behind; crashes themselves are in test_job_crashes.


def test_start_brings_rows_and_files_in_line(tmp_path, clip):
    """Each job is left as a crash at some moment would leave it."""
    ids: dict[str, str] = {}

    async def begin(bench: Bench):
        done = await bench.wait(await bench.bring(clip))
        lost_result = await bench.wait(await bench.bring(clip))
        ids.update(done=done.id, lost_result=lost_result.id)
        await bench.settle()
        await bench.services.slots.wait()  # the only place, until the end
        for name in ("waiting", "running", "twice", "published", "lost"):
            ids[name] = (await bench.bring(clip)).id

    run_with_jobs(tmp_path, begin, max_videos=1)

    store = JobStore.open(tmp_path)
    files = store.files
    store.update(ids["running"], state="running", attempts=1)
    (files.begin_results(ids["running"]) / "composite.mp4").write_bytes(b"half")
    store.update(ids["twice"], state="running", attempts=2)
    store.update(ids["published"], state="running", attempts=1)
    path = files.begin_results(ids["published"]) / "composite.mp4"
    path.write_bytes(b"whole, but the row was not written")
    files.publish_results(ids["published"], [ResultFile(path, "video/mp4", 34)])
    files.remove(ids["lost"])
    files.path(ids["lost_result"], "results", "composite.mp4").unlink()
    files.path(ids["done"], "input").write_bytes(b"not yet removed")
    (files.folder / "orphan").mkdir()
    (files.folder / "orphan" / "input.part").write_bytes(b"never acknowledged")
    store.close()

    async def go_on(bench: Bench):
        assert not files.path("orphan").exists() and not files.path(ids["done"], "input").exists()
        found = {}
        for name, job_id in ids.items():
            found[name] = await bench.wait(await bench.jobs.find("a", job_id))
        for name in ("done", "waiting", "running", "published"):
            assert found[name].state == "succeeded", name
            (result,) = found[name].results
            content = files.path(ids[name], "results", result.name).read_bytes()
            assert hashlib.sha256(content).hexdigest() == result.sha256
        for name, code in [
            ("twice", "media-too-complex"),
            ("lost", "gone"),
            ("lost_result", "gone"),
        ]:
            assert (found[name].state, found[name].error["code"]) == ("failed", code)
            assert not files.path(ids[name]).exists()
        assert (found["running"].attempts, found["waiting"].attempts) == (2, 1)

    run_with_jobs(tmp_path, go_on)


def test_thousand_orphans_go(tmp_path):
    store = JobStore.open(tmp_path)
    for number in range(1000):
        folder = store.files.path(f"orphan-{number}")
        folder.mkdir(parents=True)
        (folder / "input").write_bytes(b"x")
    from service.jobs.recovery import recover

    assert recover(store, 2, 0) == [] and os.listdir(store.files.folder) == []
    store.close()
