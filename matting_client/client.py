"""The synchronous client."""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self, Unpack

import httpx

from matting_client import jobs, live, sessions
from matting_client.core import Core
from matting_client.inputs import File, Photo
from matting_client.options import ImageOptions, RenderOptions, SessionOptions, VideoOptions
from matting_client.results import Frame, JobStatus, LiveMatte, Matte, MattedVideo
from matting_client.retry import Retry
from matting_client.transport import BlockingTransport, iterate, run

DEFAULT_URL = "http://localhost:8000"
TIMEOUT_S = 300.0


class Client:
    """A client of one service; threads may share it.

    `url` is the service's address, `key` one of its API keys. `timeout_s` is the longest silence
    that is waited through, `retry` says how often requests are sent again. `http` is an
    httpx.Client of your own, for proxies and certificates.

    All methods raise ProblemError for an answer that is an error, Unreachable for none.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        key: str | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        retry: Retry | None = None,
        http: httpx.Client | None = None,
    ) -> None:
        transport = BlockingTransport(http or httpx.Client())
        self._core = Core(transport, url, key, timeout_s, retry or Retry())

    def matte(self, photo: Photo, **options: Unpack[ImageOptions]) -> Matte:
        """Return the result of a photo: its alpha matte, unless `output` says otherwise.

        A photo is a path, bytes, an open file, a numpy array (H, W, 3) uint8 or a Pillow image.
        """
        return run(self._core.matte(photo, "/v1/image", options))

    def rerender(self, result_id: str, **options: Unpack[RenderOptions]) -> Matte:
        """Return another look of a photo that was sent with `keep_s`; the network does not run."""
        return run(self._core.matte(None, f"/v1/image/{result_id}", options))

    def matte_video(
        self,
        clip: File,
        target: str | os.PathLike[str],
        *,
        progress: jobs.Report | None = None,
        **options: Unpack[VideoOptions],
    ) -> MattedVideo:
        """Matte a clip into the file `target`, or into that folder where there are several outputs.

        Folders that are missing are made. The clip goes as a job, which is deleted afterwards, and
        when it is interrupted. Raises JobFailed.
        """
        return run(jobs.matte_video(self._core, clip, Path(target), options, progress))

    def submit(
        self,
        clip: File,
        *,
        progress: jobs.Report | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[VideoOptions],
    ) -> "Job":
        """Send a clip as a job; the same `idempotency_key` never makes a second one."""
        return Job(run(jobs.submit(self._core, clip, options, progress, idempotency_key)))

    def job(self, job_id: str) -> "Job":
        """Return a job by its id."""
        return Job(run(jobs.find(self._core, job_id)))

    def list_jobs(self, limit: int = 20) -> list[JobStatus]:
        """Return the jobs of the key, newest first, at most 100; without a key there is no list."""
        return run(jobs.list_jobs(self._core, limit))

    def open_session(self, **options: Unpack[SessionOptions]) -> "Session":
        """Open a session for a video in chunks."""
        return Session(run(sessions.open_session(self._core, options)))

    def open_live(self, **options: Unpack[SessionOptions]) -> "Live":
        """Open a live connection; its answers are pictures in the session's `format`."""
        return Live(run(live.open_live(self._core, options)))

    def capabilities(self) -> Mapping[str, Any]:
        """Return formats, codecs and limits of the service."""
        return run(self._core.get_document("/v1/capabilities"))

    def models(self) -> Mapping[str, Any]:
        """Return the models that the service has."""
        return run(self._core.get_document("/v1/models"))

    def close(self) -> None:
        run(self._core.transport.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Job:
    """A clip that the service works on, whether anybody waits or not."""

    def __init__(self, core: jobs.JobCore) -> None:
        self._core = core

    @property
    def id(self) -> str:
        return self._core.status.id

    @property
    def status(self) -> JobStatus:
        """What was last heard of it; `refresh` asks."""
        return self._core.status

    def refresh(self) -> JobStatus:
        """Ask for the job as it is now."""
        return run(self._core.refresh())

    def events(self) -> Iterator[JobStatus]:
        """Yield the job as it is now and at each change until it is finished."""
        return iterate(self._core.events())

    def wait(self, progress: jobs.Report | None = None) -> JobStatus:
        """Return the job once it has succeeded; raises JobFailed."""
        return run(self._core.wait(progress))

    def download(
        self,
        name: str,
        target: str | os.PathLike[str],
        progress: jobs.Report | None = None,
    ) -> Path:
        """Write a result to a file, checked by its SHA-256.

        What was cut off lies beside it as `NAME.part`, and the next download goes on from there.
        """
        return run(self._core.download(name, Path(target), progress))

    def cancel(self) -> None:
        """Stop the job and remove its files."""
        run(self._core.cancel())


class Session:
    """A video in chunks; leaving its `with` block forgets what has not ended."""

    def __init__(self, core: sessions.SessionCore) -> None:
        self._core = core

    @property
    def id(self) -> str:
        return self._core.id

    @property
    def mime(self) -> str | None:
        """What Media Source Extensions call the pieces; None with packaging="frames"."""
        return self._core.mime

    def frames(self, chunks: Iterable[sessions.Chunk]) -> Iterator[Frame]:
        """Yield each frame of all chunks, in order, and end the session; packaging="frames"."""
        return iterate(self._core.frames(chunks))

    def pieces(self, chunks: Iterable[sessions.Chunk]) -> Iterator[bytes]:
        """Yield the pieces of one MP4, to be written one after another, and end the session."""
        return iterate(self._core.pieces(chunks))

    def send(self, chunk: sessions.Chunk) -> sessions.ChunkAnswer:
        """Send the next chunk: a clip of its own, or a list of pictures."""
        return run(self._core.send(chunk))

    def finish(self) -> sessions.ChunkAnswer:
        """End the session and get the frame that waited."""
        return run(self._core.finish())

    def close(self) -> None:
        """Forget the session."""
        run(self._core.drop())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Live:
    """Live frames; one thread may send while another one receives."""

    def __init__(self, core: live.LiveCore) -> None:
        self._core = core

    @property
    def id(self) -> str:
        """The id of its session."""
        return self._core.session.id

    def mattes(self, frames: Iterable[Photo]) -> Iterator[LiveMatte]:
        """Yield the matte of each frame and end the session.

        Frames are taken as the service gets done with those before, so that none is dropped.
        """
        return iterate(self._core.mattes(frames))

    def send(self, frame: Photo) -> None:
        """Send a frame; the service leaves out what it cannot do in time."""
        run(self._core.send(frame))

    def receive(self) -> LiveMatte:
        """Return the next answer, in order; raises ProblemError for a frame that is no picture."""
        return run(self._core.receive())

    def finish(self) -> LiveMatte | None:
        """End the session and return the frame that waited, if one did."""
        return run(self._core.finish())

    def close(self) -> None:
        """Forget the session."""
        run(self._core.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
