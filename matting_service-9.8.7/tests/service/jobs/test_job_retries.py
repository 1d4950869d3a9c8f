"""Jobs that are deleted in any turn of the loop, and errors that pass."""

import asyncio
import sqlite3

import pytest

from service.errors import DeadlineExceeded, InsufficientStorage, MattingError, NotFound, NotReady
from service.jobs import changes
from service.jobs import run as job_run
from tests.fakes import BlockedEngine
from tests.jobs import Bench, run_with_jobs


@pytest.mark.parametrize("turns", range(6))
def test_job_deleted_in_any_turn_frees_its_slot(tmp_path, clip, turns: int) -> None:
    async def story(bench: Bench):
        slots = bench.services.slots
        with slots.enter():
            job = await bench.bring(clip)
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(20):
            await bench.jobs.delete("a", job.id)
        assert slots.taken == 0
        with pytest.raises(NotFound):
            await bench.jobs.find("a", job.id)
        assert (await bench.wait(await bench.bring(clip))).state == "succeeded"

    run_with_jobs(tmp_path, story, max_videos=1)


def test_job_deleted_before_the_first_turn_of_its_task(tmp_path, clip, monkeypatch) -> None:
    """The task is cancelled before it runs a line: no number of turns above is sure to do that."""

    async def story(bench: Bench):
        started = asyncio.Event()
        slots = bench.services.slots
        with slots.enter():
            job = await bench.bring(clip)
            row = await bench.jobs.find("a", job.id)

            async def find(owner: str, job_id: str):
                while job_id not in bench.jobs._running:
                    await asyncio.sleep(0)
                return row

            monkeypatch.setattr(bench.jobs, "find", find)
            deleting = asyncio.create_task(bench.jobs.delete("a", job.id))
        async with asyncio.timeout(20):
            await deleting
        assert slots.taken == 0 and not started.is_set()

    run_with_jobs(tmp_path, story, max_videos=1)


PASSING = [
    NotReady("not now"),
    DeadlineExceeded("waited too long"),
    InsufficientStorage("full"),
]


@pytest.mark.parametrize("error", PASSING, ids=[type(error).__name__ for error in PASSING])
def test_error_that_passes_costs_no_job(tmp_path, clip, monkeypatch, error: MattingError) -> None:
    run, failures = job_run.run_clip, [error, error]

    async def run_or_fail(*arguments, **more):
        if failures:
            raise failures.pop()
        return await run(*arguments, **more)

    monkeypatch.setattr(job_run, "run_clip", run_or_fail)

    async def story(bench: Bench):
        job = await bench.wait(await bench.bring(clip))
        assert (job.state, job.attempts) == ("succeeded", 1)
        assert failures == []

    run_with_jobs(tmp_path, story, job_retry_s=0.01)


def test_error_that_does_not_pass_in_time_fails_the_job(tmp_path, clip, monkeypatch) -> None:
    tries = []

    async def fail(*arguments, **more):
        tries.append(1)
        raise NotReady("never")

    monkeypatch.setattr(job_run, "run_clip", fail)

    async def story(bench: Bench):
        job = await bench.wait(await bench.bring(clip))
        assert (job.state, job.error["code"], len(tries)) == ("failed", "not-ready", 3)

    run_with_jobs(tmp_path, story, job_retry_s=0.01, job_max_retries=2)


def test_job_that_waits_for_its_next_try_can_be_deleted(tmp_path, clip, monkeypatch) -> None:
    async def fail(*arguments, **more):
        raise NotReady("not now")

    monkeypatch.setattr(job_run, "run_clip", fail)

    async def story(bench: Bench):
        job = await bench.bring(clip)
        await bench.wait(job, "running")
        await bench.wait(job, "queued")
        await bench.jobs.delete("a", job.id)
        assert await bench.find_row(job) is None and not bench.jobs._retries._timers

    run_with_jobs(tmp_path, story, job_retry_s=1000)


def test_locked_database_is_waited_for(tmp_path, clip, monkeypatch) -> None:
    """Somebody looks into the database with a program that locks it."""
    monkeypatch.setattr(changes, "RETRY_S", 0.01)

    async def story(bench: Bench):
        with bench.services.slots.enter():
            job = await bench.bring(clip)
        real, refusals = bench.store.update, [0] * 5

        def update(job_id, **columns):
            if refusals:
                refusals.pop()
                error = sqlite3.OperationalError("database is locked")
                error.sqlite_errorcode = sqlite3.SQLITE_BUSY
                raise error
            return real(job_id, **columns)

        bench.store.update = update
        assert (await bench.wait(job)).state == "succeeded" and refusals == []

    run_with_jobs(tmp_path, story, max_videos=1, job_retry_s=0.01)


def test_locked_database_is_503_to_a_request(tmp_path) -> None:
    async def story(bench: Bench):
        def fail():
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise error

        with pytest.raises(NotReady):
            await bench.store.ask(fail)

    run_with_jobs(tmp_path, story)


def test_job_that_runs_too_long_fails(tmp_path, clip) -> None:
    engine = BlockedEngine()

    async def story(bench: Bench):
        job = await bench.bring(clip)
        await asyncio.to_thread(engine.entered.wait, 30)
        asyncio.get_running_loop().call_later(0.2, engine.release.set)
        job = await bench.wait(job)
        assert (job.state, job.error["code"]) == ("failed", "media-too-complex")

    run_with_jobs(tmp_path, story, engine, job_timeout_s=0.1)
