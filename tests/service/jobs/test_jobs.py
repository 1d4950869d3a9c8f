"""Running jobs: their turn, their end, and every way in which they do not get there."""

import asyncio
import hashlib
import sqlite3
import stat

import pytest

from service.errors import NotFound, Overloaded
from service.jobs import jobs
from service.jobs import run as job_run
from service.jobs.rows.store import DATABASE, FOLDER, JobStore
from service.media.decoder.client import Decoder
from tests.clips import make_clip
from tests.fakes import BlockedEngine, BrokenEngine, SlowEngine
from tests.jobs import Bench, Clock, list_files, run_with_jobs
from tests.service.jobs.test_job_files import DiskRecorder


def count_jobs(bench: Bench, state: str) -> float | None:
    return bench.metrics.registry.get_sample_value("matting_jobs", {"state": state})


def test_job_ends_with_results_that_can_be_believed(tmp_path, clip):
    async def story(bench: Bench):
        job = await bench.bring(clip, crf=30)
        assert (job.state, job.options, job.attempts) == ("queued", {"crf": 30}, 0)
        done = await bench.wait(job)
        assert done.state == "succeeded" and done.attempts == 1
        assert (done.frames_done, done.frames_total, done.report["frames"]) == (4, 4, 4)
        (result,) = done.results
        path = bench.store.files.path(job.id, "results", result.name)
        content = path.read_bytes()
        assert (result.name, result.content_type) == ("composite.mp4", "video/mp4")
        assert result.sha256 == hashlib.sha256(content).hexdigest()
        assert result.bytes == len(content) and stat.S_IMODE(path.stat().st_mode) == 0o600
        assert done.expires_s == bench.clock.day_s + 86_400
        assert count_jobs(bench, "succeeded") == 1 and count_jobs(bench, "queued") == 0
        await bench.settle()
        assert list_files(bench) == ["results/composite.mp4"], "the upload has gone"

    run_with_jobs(tmp_path, story)


def test_results_without_sound_are_read_back_too(tmp_path, clip):
    async def story(bench: Bench):
        done = await bench.wait(await bench.bring(clip, outputs="gif,webp,frames"))
        assert [result.name for result in done.results] == [
            "cutout.gif",
            "cutout.webp",
            "frames.zip",
        ]

    run_with_jobs(tmp_path, story)


def test_rows_are_committed_after_the_files_they_speak_of(tmp_path, clip, monkeypatch):
    async def story(bench: Bench):
        disk = DiskRecorder(monkeypatch, bench.store.files.folder)

        def note(statement: str) -> None:
            if statement.startswith(("COMMIT", "UPDATE jobs SET state = 'succeeded'")):
                disk.steps.append(statement[:6])

        bench.store._connection.set_trace_callback(note)
        await bench.services.slots.wait()
        job = await bench.bring(clip)
        assert disk.steps[:4] == [
            f"fsync {job.id}/input.part",
            f"rename {job.id}/input.part {job.id}/input",
            f"fsync {job.id}",
            "fsync .",
        ]
        assert disk.steps[-1] == "COMMIT" and disk.steps.count("COMMIT") == 1
        disk.steps.clear()
        bench.services.slots.leave()
        await bench.wait(job)
        assert disk.steps == [
            f"fsync {job.id}/results.part/composite.mp4",
            f"fsync {job.id}/results.part",
            f"rename {job.id}/results.part {job.id}/results",
            f"fsync {job.id}",
            "UPDATE",
        ]

    run_with_jobs(tmp_path, story, max_videos=1)


def test_jobs_wait_their_turn_while_requests_are_refused(tmp_path, clip):
    async def story(bench: Bench):
        places = bench.services.slots
        with places.enter():
            first, second = await bench.bring(clip), await bench.bring(clip)
            assert [(await bench.find_row(job)).state for job in (first, second)] == ["queued"] * 2
            assert list(bench.jobs.queue.ids) == [first.id, second.id] and places.taken == 1
            with pytest.raises(Overloaded):
                places.check()
        with pytest.raises(Overloaded):  # the place went to the job that has waited
            places.check()
        await bench.wait(second, "running")
        assert (await bench.find_row(first)).state == "succeeded"
        await bench.wait(second)
        await bench.jobs.delete("a", second.id)  # and by now its place is free
        assert places.taken == 0
        places.check()

    run_with_jobs(tmp_path, story, max_videos=1)


def test_more_jobs_than_may_wait_are_refused(tmp_path, clip):
    async def story(bench: Bench):
        with bench.services.slots.enter():
            waiting = [await bench.bring(clip) for _ in range(2)]
            with pytest.raises(Overloaded) as caught:
                await bench.bring(clip)
            assert (caught.value.limit, caught.value.actual) == (2, 2)
            assert "Retry-After" in caught.value.headers
            await bench.jobs.delete("a", waiting[0].id)
            async with bench.intake.admit("a", None):  # one that is being received counts
                with pytest.raises(Overloaded):
                    await bench.bring(clip)
            await bench.bring(clip)

    run_with_jobs(tmp_path, story, max_videos=1, max_queued_jobs=2)


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda path, clip: clip[: len(clip) // 3], "undecodable-media"),
        (lambda path, clip: make_clip(path, seconds=1.5).read_bytes(), "media-limit-exceeded"),
    ],
    ids=["cut", "too-long"],
)
def test_bad_clip_is_a_failed_job_without_files(tmp_path, clip, make, code):
    async def story(bench: Bench):
        job = await bench.wait(await bench.bring(make(tmp_path / "made.mp4", clip)))
        assert job.state == "failed" and job.results == () and job.attempts == 1
        assert job.error["code"] == code and job.error["instance"] == job.id
        assert (await bench.wait(await bench.bring(clip))).state == "succeeded"
        await bench.settle()
        assert list_files(bench) == ["results/composite.mp4"]

    run_with_jobs(tmp_path, story, video_max_s=1)


def test_failing_network_fails_the_job_and_nothing_else(tmp_path, clip, caplog):
    engine = BrokenEngine()

    async def story(bench: Bench):
        job = await bench.wait(await bench.bring(clip))
        assert (job.state, job.error["code"]) == ("failed", "internal-error")
        assert "secret" not in str(job.error)
        engine.broken = False
        assert (await bench.wait(await bench.bring(clip))).state == "succeeded"

    run_with_jobs(tmp_path, story, engine)


def kill_child_after(frames: int, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the decoder child die in the middle of a clip, so many times."""
    read, left = Decoder.read_video, [times]

    def read_and_kill(self, info):
        for count, item in enumerate(read(self, info)):
            if count == frames and left[0]:
                left[0] -= 1
                self._process.kill()
            yield item

    monkeypatch.setattr(Decoder, "read_video", read_and_kill)


@pytest.mark.parametrize(("deaths", "state"), [(1, "succeeded"), (2, "failed"), (9, "failed")])
def test_job_whose_decoder_dies_has_two_attempts(tmp_path, long_clip, monkeypatch, deaths, state):
    kill_child_after(3, deaths, monkeypatch)

    async def story(bench: Bench):
        job = await bench.wait(await bench.bring(long_clip))
        assert (job.state, job.attempts) == (state, 2)
        if state == "failed":
            assert job.error["code"] == "media-too-complex"

    run_with_jobs(tmp_path, story)


def test_attempt_is_written_down_before_the_run(tmp_path, clip):
    engine = BlockedEngine()

    async def story(bench: Bench):
        job = await bench.bring(clip)
        await asyncio.to_thread(engine.entered.wait, 30)
        connection = sqlite3.connect(tmp_path / FOLDER / DATABASE)
        row = connection.execute("SELECT state, attempts FROM jobs").fetchone()
        connection.close()
        assert row == ("running", 1)
        assert (await bench.jobs.find("a", job.id)).state == "running"
        engine.release.set()
        await bench.wait(job)

    run_with_jobs(tmp_path, story, engine)


def test_deleted_job_ends_at_once_and_leaves_nothing(tmp_path, long_clip):
    async def story(bench: Bench):
        job = await bench.bring(long_clip)
        await bench.wait(job, "running")
        watching = asyncio.ensure_future(bench.wait(job, "canceled"))
        await asyncio.sleep(0)
        deletions = (bench.jobs.delete("a", job.id) for _ in range(3))
        async with asyncio.timeout(60):  # it once went on for ever
            await asyncio.gather(*deletions, return_exceptions=True)
        assert (await watching).state == "canceled"
        assert await bench.find_row(job) is None and bench.store.files.list_ids() == []
        assert bench.services.slots.taken == 0 and count_jobs(bench, "running") == 0
        with pytest.raises(NotFound):
            await bench.jobs.delete("a", job.id)

    run_with_jobs(tmp_path, story, SlowEngine())


def test_waiting_job_can_be_deleted_but_not_by_others(tmp_path, clip):
    async def story(bench: Bench):
        with bench.services.slots.enter():
            first, second = await bench.bring(clip), await bench.bring(clip)
            with pytest.raises(NotFound):
                await bench.jobs.delete("b", first.id)
            await bench.jobs.delete("a", first.id)
            await bench.jobs.delete("a", second.id)
        third = await bench.wait(await bench.bring(clip))
        assert third.state == "succeeded"
        await bench.jobs.delete("a", third.id)
        assert bench.store.files.list_ids() == []

    run_with_jobs(tmp_path, story, max_videos=1)


def test_ending_service_lets_its_jobs_wait_for_the_next(tmp_path, long_clip):
    brought = []

    async def begin(bench: Bench):
        brought.append(await bench.bring(long_clip, key="k"))
        brought.append(await bench.bring(long_clip))
        await bench.wait(brought[0], "running")

    async def go_on(bench: Bench):
        assert (await bench.bring(long_clip, key="k")).id == brought[0].id
        for job in brought:
            done = await bench.wait(job)
            assert (done.state, done.attempts) == ("succeeded", 1), "a stop on purpose is no crash"

    run_with_jobs(tmp_path, begin, SlowEngine(), max_videos=1)
    with_store = JobStore.open(tmp_path)
    assert [(job.state, job.attempts) for job in with_store.list_all()] == [("queued", 0)] * 2
    with_store.close()
    run_with_jobs(tmp_path, go_on, max_videos=1)


def test_watcher_hears_of_progress_and_of_silence(tmp_path, long_clip, monkeypatch):
    monkeypatch.setattr("service.jobs.run.PROGRESS_S", 0.1)
    monkeypatch.setattr(jobs, "KEEP_ALIVE_S", 0.05)

    async def story(bench: Bench):
        job = await bench.bring(long_clip)
        seen, written = [], set()
        async for found in bench.jobs.watch(job):
            seen.append(found)
            written.add((await bench.find_row(job)).frames_done)
        assert None in seen and len(written) > 3, "progress is in the row, too"
        states = [found for found in seen if found]
        counts = [found.frames_done for found in states]
        assert counts == sorted(counts) and len(set(counts)) > 3
        assert {found.frames_total for found in states if found.frames_done} == {60}
        assert states[-1].state == "succeeded" and len(bench.jobs._watchers) == 0
        assert await bench.wait(job) == states[-1], "the end is told to those who come late"

    run_with_jobs(tmp_path, story, SlowEngine())


def test_time_that_is_left_follows_the_speed():
    clock = Clock()
    progress = job_run.Progress(clock.tell_elapsed)
    assert progress.estimate_s() is None
    progress.frames_total = 10
    clock.elapsed_s += 4
    for _ in range(4):
        progress.count_frame()
    assert progress.estimate_s() == pytest.approx(6)
    clock.day_s -= 86_400
    assert progress.estimate_s() == pytest.approx(6)
    for _ in range(10):
        progress.count_frame()
    assert (progress.frames_total, progress.estimate_s()) == (14, 0), "the file had lied"
