"""The asynchronous client."""

import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Self, Unpack

import httpx

from matting_client import jobs, live, sessions
from matting_client.client import DEFAULT_URL, TIMEOUT_S
from matting_client.core import Core
from matting_client.inputs import File, Photo
from matting_client.options import ImageOptions, RenderOptions, SessionOptions, VideoOptions
from matting_client.results import Frame, JobStatus, LiveMatte, Matte, MattedVideo
from matting_client.retry import Retry
from matting_client.transport import AsyncTransport


class AsyncClient:
    """What Client is, for asyncio; its methods are described there."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        key: str | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        retry: Retry | None = None,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        transport = AsyncTransport(http or httpx.AsyncClient())
        self._core = Core(transport, url, key, timeout_s, retry or Retry())

    async def matte(self, photo: Photo, **options: Unpack[ImageOptions]) -> Matte:
        return await self._core.matte(photo, "/v1/image", options)

    async def rerender(self, result_id: str, **options: Unpack[RenderOptions]) -> Matte:
        return await self._core.matte(None, f"/v1/image/{result_id}", options)

    async def matte_video(
        self,
        clip: File,
        target: str | os.PathLike[str],
        *,
        progress: jobs.Report | None = None,
        **options: Unpack[VideoOptions],
    ) -> MattedVideo:
        return await jobs.matte_video(self._core, clip, Path(target), options, progress)

    async def submit(
        self,
        clip: File,
        *,
        progress: jobs.Report | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[VideoOptions],
    ) -> "AsyncJob":
        return AsyncJob(await jobs.submit(self._core, clip, options, progress, idempotency_key))

    async def job(self, job_id: str) -> "AsyncJob":
        return AsyncJob(await jobs.find(self._core, job_id))

    async def list_jobs(self, limit: int = 20) -> list[JobStatus]:
        return await jobs.list_jobs(self._core, limit)

    async def open_session(self, **options: Unpack[SessionOptions]) -> "AsyncSession":
        return AsyncSession(await sessions.open_session(self._core, options))

    async def open_live(self, **options: Unpack[SessionOptions]) -> "AsyncLive":
        return AsyncLive(await live.open_live(self._core, options))

    async def capabilities(self) -> Mapping[str, Any]:
        return await self._core.get_document("/v1/capabilities")

    async def models(self) -> Mapping[str, Any]:
        return await self._core.get_document("/v1/models")

    async def close(self) -> None:
        await self._core.transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()


class AsyncJob:
    """What Job is, for asyncio."""

    def __init__(self, core: jobs.JobCore) -> None:
        self._core = core

    @property
    def id(self) -> str:
        return self._core.status.id

    @property
    def status(self) -> JobStatus:
        return self._core.status

    async def refresh(self) -> JobStatus:
        return await self._core.refresh()

    def events(self) -> AsyncIterator[JobStatus]:
        return self._core.events()

    async def wait(self, progress: jobs.Report | None = None) -> JobStatus:
        return await self._core.wait(progress)

    async def download(
        self,
        name: str,
        target: str | os.PathLike[str],
        progress: jobs.Report | None = None,
    ) -> Path:
        return await self._core.download(name, Path(target), progress)

    async def cancel(self) -> None:
        await self._core.cancel()


class AsyncSession:
    """What Session is, for asyncio; chunks may come from an asynchronous iterator."""

    def __init__(self, core: sessions.SessionCore) -> None:
        self._core = core

    @property
    def id(self) -> str:
        return self._core.id

    @property
    def mime(self) -> str | None:
        return self._core.mime

    def frames(self, chunks: sessions.Source[sessions.Chunk]) -> AsyncIterator[Frame]:
        return self._core.frames(chunks)

    def pieces(self, chunks: sessions.Source[sessions.Chunk]) -> AsyncIterator[bytes]:
        return self._core.pieces(chunks)

    async def send(self, chunk: sessions.Chunk) -> sessions.ChunkAnswer:
        return await self._core.send(chunk)

    async def finish(self) -> sessions.ChunkAnswer:
        return await self._core.finish()

    async def close(self) -> None:
        await self._core.drop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()


class AsyncLive:
    """What Live is, for asyncio; one task may send while another one receives."""

    def __init__(self, core: live.LiveCore) -> None:
        self._core = core

    @property
    def id(self) -> str:
        return self._core.session.id

    def mattes(self, frames: sessions.Source[Photo]) -> AsyncIterator[LiveMatte]:
        return self._core.mattes(frames)

    async def send(self, frame: Photo) -> None:
        await self._core.send(frame)

    async def receive(self) -> LiveMatte:
        return await self._core.receive()

    async def finish(self) -> LiveMatte | None:
        return await self._core.finish()

    async def close(self) -> None:
        await self._core.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()
