"""Jobs, written once: submission, events, downloads that go on where they stopped."""

import hashlib
import json
import os
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import httpx

from matting_client.core import Call, Core
from matting_client.errors import DamagedDownload, JobFailed, MattingError, NotFound
from matting_client.inputs import File, split_options, take_file, take_photo
from matting_client.results import (
    JobResult,
    JobStatus,
    MattedVideo,
    Progress,
    read_job,
)

JOBS = "/v1/jobs"
Report = Callable[[Progress], None]
EVENTS_TIMEOUT_S = 60  # the service says every 15 s that it is still there
PIECE_BYTES = 1 << 20


async def submit(
    core: Core, clip: File, given: Mapping[str, Any], progress: Report | None, key: str | None
) -> "JobCore":
    """Send a clip as a job. It is one job, however often it has to be sent."""
    texts, files = split_options(given)
    parts = [("file", await core.transport.work(take_file, clip))]
    parts += [(name, await core.transport.work(take_photo, file)) for name, file in files.items()]

    def report(done: int, total: int) -> None:
        if progress is not None:
            progress(Progress("upload", done, total))

    headers = {"Prefer": "respond-async", "Idempotency-Key": key or uuid.uuid4().hex}
    call = Call("POST", "/v1/video", texts, tuple(parts), headers, progress=report)
    return JobCore(core, read_job((await core.send(call)).json()))


async def matte_video(
    core: Core, clip: File, target: str | Path, given: Mapping[str, Any], progress: Report | None
) -> MattedVideo:
    """Send a clip, wait, download its results and delete the job, whatever comes in between."""
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)  # or fail now, not when all is done
    job = await submit(core, clip, given, progress, None)
    try:
        status = await job.wait(progress)
        files = await job.download_all(target, progress)
        return MattedVideo(files, status.report or {})
    finally:
        with suppress(MattingError):
            await job.cancel()


async def find(core: Core, job_id: str) -> "JobCore":
    """Return a job by its id; raises NotFound."""
    return JobCore(core, read_job(await core.get_document(f"{JOBS}/{job_id}")))


async def list_jobs(core: Core, limit: int) -> list[JobStatus]:
    """Return the jobs of the key, newest first."""
    found = await core.get_document(f"{JOBS}?limit={limit}")
    return [read_job(document) for document in found["jobs"]]


class JobCore:
    """One job; `status` is what was last heard of it."""

    def __init__(self, core: Core, status: JobStatus) -> None:
        self._core = core
        self.status = status

    @property
    def path(self) -> str:
        return f"{JOBS}/{self.status.id}"

    async def refresh(self) -> JobStatus:
        self.status = read_job(await self._core.get_document(self.path))
        return self.status

    async def events(self) -> AsyncGenerator[JobStatus]:
        """Yield the job as it is now, and at each change, until it is finished."""
        seen, failures = "", 0
        while not self.status.is_finished or not seen:
            headers = {"Last-Event-ID": seen} if seen else {}
            path = f"{self.path}/events"
            call = Call("GET", path, headers=headers, read_timeout_s=EVENTS_TIMEOUT_S)
            try:
                async with (
                    self._core.open(call) as body,
                    aclosing(body.lines()) as lines,
                ):
                    if body.response.status_code == 204:
                        return
                    async for line in lines:
                        name, _, value = line.partition(": ")
                        if name == "id":
                            seen = value
                        elif name == "data":
                            failures = 0
                            self.status = read_job(json.loads(value))
                            yield self.status
                            if self.status.is_finished:
                                return
                raise httpx.RemoteProtocolError("the events ended before the job")
            except httpx.TransportError as error:
                failures += 1
                await self._core.pause(error, failures)

    async def wait(self, progress: Report | None = None) -> JobStatus:
        """Return the job once it has succeeded; raises JobFailed."""
        async with aclosing(self.events()) as states:
            async for state in states:
                if progress is not None:
                    done, total = state.frames_done, state.frames_total
                    progress(Progress("matte", done, total, state.eta_s))
        if self.status.state != "succeeded":
            raise JobFailed(self.status.state, self.status.error or {})
        return self.status

    async def cancel(self) -> None:
        """Stop the job if it is not finished, and remove its files; nothing if it is gone."""
        with suppress(NotFound):
            await self._core.send(Call("DELETE", self.path))

    async def download_all(self, target: Path, progress: Report | None) -> dict[str, Path]:
        """Download all results: into a folder, or the only one to a path."""
        results = self.status.results
        to_folder = len(results) > 1 or target.is_dir()
        if to_folder:
            target.mkdir(parents=True, exist_ok=True)
        return {
            result.name: await self.download(
                result.name, target / result.name if to_folder else target, progress
            )
            for result in results
        }

    async def download(self, name: str, target: Path, progress: Report | None = None) -> Path:
        """Write a result to a path, checked by its SHA-256.

        What has come lies beside it, as `NAME.part`; a download that was cut off, by whatever end
        of the program, goes on from there. Raises DamagedDownload and NotFound.
        """
        result = self.find_result(name)
        part = target.with_name(target.name + ".part")
        is_resumed = part.exists()
        await self._fetch(result, part, progress)
        if await self._core.transport.work(hash_file, part) != result.sha256 and is_resumed:
            part.unlink()  # of another job or another version
            await self._fetch(result, part, progress)
        if await self._core.transport.work(hash_file, part) != result.sha256:
            part.unlink()
            raise DamagedDownload(f"{name} was not downloaded as the service has it")
        os.replace(part, target)
        return target

    def find_result(self, name: str) -> JobResult:
        for result in self.status.results:
            if result.name == name:
                return result
        names = ", ".join(result.name for result in self.status.results) or "none"
        problem = {"detail": f"the job has no result {name}", "hint": f"its results: {names}"}
        raise NotFound(404, problem | {"code": "not-found"})

    async def _fetch(self, result: JobResult, part: Path, progress: Report | None) -> None:
        """Append to `part` until it is as long as the result."""
        failures, before = 0, -1
        while (have := part.stat().st_size if part.exists() else 0) < result.bytes:
            failures = 0 if have > before else failures
            before = have
            headers = {"Accept-Encoding": "identity"}
            if have:
                headers |= {"Range": f"bytes={have}-", "If-Range": f'"{result.sha256}"'}
            call = Call("GET", f"{self.path}/results/{result.name}", headers=headers)
            try:
                async with (
                    self._core.open(call) as body,
                    aclosing(body.chunks()) as chunks,
                ):
                    is_rest = body.response.status_code == 206
                    with part.open("ab" if is_rest else "wb") as file:
                        async for chunk in chunks:
                            file.write(chunk)
                            if progress is not None:
                                progress(Progress("download", file.tell(), result.bytes))
                        if file.tell() < result.bytes:
                            raise httpx.RemoteProtocolError("the download ended early")
            except httpx.TransportError as error:
                failures += 1
                await self._core.pause(error, failures)


def hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
