"""How long jobs and their keys live, whatever the clocks do."""

import asyncio
import hashlib

import pytest

from service.api.downloads import stream_file
from service.api.routes.jobs import choose_result, open_result
from service.errors import Gone, IdempotencyKeyReused, InProgress, NotFound
from service.jobs.files.folder import INPUT
from tests.clips import make_clip
from tests.jobs import Bench, Clock, run_with_jobs

DAY_S = 86_400.0


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return make_clip(path, seconds=0.25, fps=12, tone=False).read_bytes()


def test_job_expires_and_is_forgotten_a_day_later(tmp_path, clip):
    async def story(bench: Bench):
        clock = bench.clock
        job = await bench.wait(await bench.bring(clip))
        clock.elapsed_s += 59
        await bench.jobs.sweep()
        assert (await bench.jobs.find("a", job.id)).results
        clock.elapsed_s += 1
        await bench.jobs.sweep()
        expired = await bench.jobs.find("a", job.id)
        assert (expired.state, expired.results) == ("expired", ())
        assert bench.store.files.list_ids() == []
        clock.elapsed_s += DAY_S - 1
        await bench.jobs.sweep()
        assert (await bench.jobs.find("a", job.id)).state == "expired"
        clock.elapsed_s += 1
        await bench.jobs.sweep()
        with pytest.raises(NotFound):
            await bench.jobs.find("a", job.id)

    run_with_jobs(tmp_path, story, job_ttl_s=60)


def test_waiting_job_does_not_expire(tmp_path, clip):
    async def story(bench: Bench):
        with bench.services.slots.enter():
            job = await bench.bring(clip)
            bench.clock.elapsed_s += 3600
            bench.clock.day_s += 3600
            await bench.jobs.sweep()
            assert (await bench.jobs.find("a", job.id)).state == "queued"
        done = await bench.wait(job)
        assert done.expires_s == bench.clock.day_s + 60, "its life begins at its end"

    run_with_jobs(tmp_path, story, job_ttl_s=60, max_videos=1)


def test_download_in_progress_outlives_the_job(tmp_path, clip):
    async def story(bench: Bench):
        job = await bench.wait(await bench.bring(clip))
        (result,) = job.results
        disk = bench.store.disk
        file = await open_result(bench.jobs, job, result)
        bench.clock.elapsed_s += 60
        await bench.jobs.sweep()
        with pytest.raises(Gone):
            await open_result(bench.jobs, job, result)
        with pytest.raises(Gone):
            choose_result(await bench.jobs.find("a", job.id), result.name)
        content = b"".join([piece async for piece in stream_file(disk, file)])
        assert hashlib.sha256(content).hexdigest() == result.sha256 and file.closed

    run_with_jobs(tmp_path, story, job_ttl_s=60)


@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S])
def test_clock_that_is_set_changes_no_life(tmp_path, clip, jump_s):
    async def story(bench: Bench):
        job = await bench.wait(await bench.bring(clip))
        bench.clock.day_s += jump_s
        bench.clock.elapsed_s += 59
        await bench.jobs.sweep()
        assert (await bench.jobs.find("a", job.id)).state == "succeeded"
        bench.clock.elapsed_s += 1
        await bench.jobs.sweep()
        assert (await bench.jobs.find("a", job.id)).state == "expired"

    run_with_jobs(tmp_path, story, job_ttl_s=60)


@pytest.mark.parametrize(
    ("away_s", "left_s"), [(0, 60), (45, 15), (61, 0), (-10 * DAY_S, 60)], ids=str
)
def test_life_goes_on_while_the_service_is_away(tmp_path, clip, away_s, left_s):
    """A clock that was set back meanwhile makes nothing immortal."""
    clock, ids = Clock(), []

    async def begin(bench: Bench):
        ids.append((await bench.wait(await bench.bring(clip))).id)

    async def go_on(bench: Bench):
        if left_s:
            clock.elapsed_s += left_s - 1
            await bench.jobs.sweep()
            assert (await bench.jobs.find("a", ids[0])).state == "succeeded"
            clock.elapsed_s += 1
        await bench.jobs.sweep()
        assert (await bench.jobs.find("a", ids[0])).state == "expired"

    run_with_jobs(tmp_path, begin, clock=clock, job_ttl_s=60)
    clock.day_s += away_s
    clock.elapsed_s = 7.0  # another boot
    run_with_jobs(tmp_path, go_on, clock=clock, job_ttl_s=60)


# Idempotency keys.


def test_same_request_is_the_same_job_whatever_became_of_it(tmp_path, clip):
    async def story(bench: Bench):
        first = await bench.bring(clip, key="k", crf=30)
        assert await bench.bring(clip, key="k", crf=30) == first
        await bench.wait(first)
        bench.clock.day_s += DAY_S - 1
        bench.clock.elapsed_s += DAY_S - 1
        assert await bench.bring(clip, key="k", crf=30) == first, "as it was answered first"
        assert (await bench.bring(clip, owner="b", key="k", crf=30)).id != first.id
        assert (await bench.bring(clip, crf=30)).id != first.id

    run_with_jobs(tmp_path, story)


@pytest.mark.parametrize("is_running", [True, False])
def test_key_of_another_request_is_refused(tmp_path, clip, is_running):
    async def story(bench: Bench):
        with bench.services.slots.enter():
            first = await bench.bring(clip, key="k", crf=30)
            for other, options in [(clip + b"x", {"crf": 30}), (clip, {"crf": 31}), (clip, {})]:
                with pytest.raises(IdempotencyKeyReused):
                    await bench.bring(other, key="k", **options)
        await bench.wait(first)
        with pytest.raises(IdempotencyKeyReused):
            await bench.bring(clip, key="k")
        assert len(bench.store.list_all()) == 1

    run_with_jobs(tmp_path, story, max_videos=1)


def test_fifty_at_once_make_one_job(tmp_path, clip):
    async def story(bench: Bench):
        answers = await asyncio.gather(
            *(bench.bring(clip, key="k") for _ in range(50)), return_exceptions=True
        )
        made = [answer for answer in answers if not isinstance(answer, BaseException)]
        assert {type(answer) for answer in answers if answer not in made} <= {InProgress}
        again = [await bench.bring(clip, key="k") for _ in range(3)]
        assert len({job.id for job in (*made, *again)}) == len(bench.store.list_all()) == 1
        assert len(bench.store.files.list_ids()) == 1

    run_with_jobs(tmp_path, story)


def test_key_is_free_after_a_day_a_deletion_or_an_upload_that_failed(tmp_path, clip):
    async def story(bench: Bench):
        with pytest.raises(ConnectionError):
            async with bench.intake.admit("a", "k"):
                with pytest.raises(InProgress):
                    await bench.bring(clip, key="k")
                raise ConnectionError
        first = await bench.bring(clip, key="k")
        await bench.jobs.delete("a", first.id)
        second = await bench.bring(clip, key="k")
        assert second.id != first.id
        bench.clock.day_s += DAY_S
        third = await bench.bring(clip, key="k", crf=30)
        assert third.id != second.id
        async with bench.intake.admit("a", "k") as admission:
            assert admission.earlier.id == third.id
        assert (await bench.jobs.find("a", second.id)).id == second.id

    run_with_jobs(tmp_path, story)


def test_repetition_is_answered_when_there_is_no_room(tmp_path, clip):
    async def story(bench: Bench):
        with bench.services.slots.enter():
            first = await bench.bring(clip, key="k")
            assert await bench.bring(clip, key="k") == first
        assert bench.store.files.path(first.id, INPUT).exists()

    run_with_jobs(tmp_path, story, max_videos=1, max_queued_jobs=1)
