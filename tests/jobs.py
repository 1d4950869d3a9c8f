"""Jobs outside of HTTP: the parts of an app with clocks that a test sets, and waiting for ends."""

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from service.api.dependencies import Services
from service.app import start_services, stop_services
from service.jobs.files.folder import INPUT
from service.jobs.intake import JobIntake
from service.jobs.jobs import Jobs
from service.jobs.opening import open_job_store
from service.jobs.rows.store import Job, JobStore
from service.metrics import Metrics
from service.settings import Settings
from tests.conftest import TEST_SETTINGS
from tests.fakes import FakeEngine

END_TIMEOUT_S = 60


class Clock:
    """The time of day and, apart from it, the time since some start, seconds."""

    def __init__(self) -> None:
        self.day_s = 1_800_000_000.0
        self.elapsed_s = 500.0

    def tell_day(self) -> float:
        return self.day_s

    def tell_elapsed(self) -> float:
        return self.elapsed_s


@dataclass(frozen=True)
class Bench:
    """Jobs in a running app."""

    services: Services
    jobs: Jobs
    intake: JobIntake
    store: JobStore
    clock: Clock

    @property
    def metrics(self) -> Metrics:
        """The metrics of these jobs alone."""
        return self.services.runtime.metrics

    async def bring(self, clip: bytes, owner: str = "a", key: str | None = None, **options) -> Job:
        """Submit a clip as a client does."""
        async with self.intake.admit(owner, key) as admission:
            return await self.intake.submit(
                admission, {INPUT: io.BytesIO(clip)}, options, ("composite",)
            )

    async def wait(self, job: Job, *states: str) -> Job:
        """Return the job once it is in one of the states, finished if none is named."""
        async with asyncio.timeout(END_TIMEOUT_S):
            async for found in self.jobs.watch(job):
                if found and (found.state in states or (found.is_finished and not states)):
                    return found
        raise AssertionError(f"the job ended and was never {states}")

    async def settle(self) -> None:
        """Return when no job is running: their ends are told a moment before."""
        if tasks := [run.task for run in self.jobs._running.values()]:
            await asyncio.wait(tasks, timeout=END_TIMEOUT_S)

    async def find_row(self, job: Job) -> Job | None:
        return await self.store.ask(self.store.load, job.id)


def run_with_jobs(
    data_dir: Path,
    story: Callable[[Bench], Awaitable[None]],
    engine: FakeEngine | None = None,
    clock: Clock | None = None,
    **settings: object,
) -> None:
    """Run the coroutine function `story(bench)` in an app on `data_dir`, and end the app."""

    async def main() -> None:
        async with open_jobs(data_dir, engine or FakeEngine(), clock or Clock(), settings) as bench:
            await story(bench)

    asyncio.run(main())


@asynccontextmanager
async def open_jobs(
    data_dir: Path, engine: FakeEngine, clock: Clock, settings: dict[str, object]
) -> AsyncIterator[Bench]:
    own = Settings(**(TEST_SETTINGS | {"data_dir": data_dir} | settings))
    elsewhere = data_dir / "of-the-app"  # whose own jobs have clocks that nobody sets
    elsewhere.mkdir(exist_ok=True)
    app = await start_services(own, Metrics(), engine, JobStore.open(elsewhere))
    store = open_job_store(own)
    runtime = replace(app.runtime, metrics=Metrics())
    jobs = Jobs(store, runtime, app.slots, clock=clock.tell_day, timer=clock.tell_elapsed)
    intake = JobIntake(jobs, runtime, clock=clock.tell_day)
    services = replace(app, runtime=runtime, jobs=jobs, intake=intake)
    await jobs.start()
    try:
        yield Bench(services, jobs, intake, store, clock)
    finally:
        await jobs.aclose()
        await stop_services(app)


def list_files(bench: Bench) -> list[str]:
    """Return the files of all jobs, without their ids."""
    root = bench.store.files.folder
    found = [path.relative_to(root) for path in root.rglob("*") if path.is_file()]
    return sorted(str(Path(*path.parts[1:])) for path in found)
