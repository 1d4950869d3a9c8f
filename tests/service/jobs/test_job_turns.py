"""Keys take turns: the jobs of one hold up no other key's."""

import pytest

from service.errors import Overloaded
from service.jobs.queue import LocalQueue
from service.jobs.rows.store import Job
from tests.fakes import BlockedEngine
from tests.jobs import Bench, run_with_jobs


def watch_starts(bench: Bench) -> list[str]:
    """Return a list that will have the owners of the jobs in the order in which they begin."""
    started, run = [], bench.jobs._run

    async def note_and_run(job: Job, progress):
        started.append(job.owner)
        return await run(job, progress)

    bench.jobs._run = note_and_run
    return started


def test_owners_take_turns(tmp_path, clip) -> None:
    engine = BlockedEngine()

    async def story(bench: Bench):
        started = watch_starts(bench)
        jobs = [await bench.bring(clip, owner) for owner in "aaaabbc"]
        jobs.append(await bench.bring(clip, "anonymous"))
        engine.release.set()
        for job in jobs:
            assert (await bench.wait(job)).state == "succeeded"
        assert started == ["a", "b", "c", "anonymous", "a", "b", "a", "a"]

    run_with_jobs(tmp_path, story, engine, max_videos=1)


def test_full_queue_has_a_place_for_each_key_that_has_none(tmp_path, clip) -> None:
    engine = BlockedEngine()

    async def story(bench: Bench):
        await bench.wait(await bench.bring(clip, "a"), "running")
        for _ in range(2):
            await bench.bring(clip, "a")
        for owner in ("a", "anonymous"):
            with pytest.raises(Overloaded):
                await bench.bring(clip, owner)
        await bench.bring(clip, "b")
        with pytest.raises(Overloaded):
            await bench.bring(clip, "b")
        async with bench.intake.admit("c", None):
            with pytest.raises(Overloaded):
                await bench.bring(clip, "c")
        engine.release.set()

    run_with_jobs(tmp_path, story, engine, max_videos=1, max_queued_jobs=2)


def test_without_a_database_jobs_begin_as_they_came(tmp_path, clip, monkeypatch) -> None:
    async def story(bench: Bench):
        queue = LocalQueue(bench.store)
        for job_id in ("first", "second"):
            queue.put(job_id)
        monkeypatch.setattr(bench.store, "find_owners", refuse)
        assert [await queue.take() for _ in range(3)] == ["first", "second", None]

    def refuse():
        raise Overloaded("locked")

    run_with_jobs(tmp_path, story)
