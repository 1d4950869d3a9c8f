"""Where photos are matted: by the service's own parts in this process, or by a service."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from cli.local import OWN_FILES, choose_network
from cli.stills.request import StillRequest
from service import __version__
from service.inference.providers import count_threads
from service.metrics import Metrics, StageTimes
from service.runtime import Runtime
from service.settings import load_settings
from service.stills.answer import finish_answer
from service.stills.encode import pack
from service.stills.matte import StillFiles, check_model, matte_still


@dataclass(frozen=True)
class StillResult:
    """The file of a result, and what is said of it (see ResultMetadata)."""

    content: bytes
    content_type: str
    metadata: dict[str, Any]


class Backend(Protocol):
    """Mattes photos, several at once."""

    async def matte(self, name: str, image: bytes, request: StillRequest) -> StillResult:
        """Return the result of the photo `name`; raises MattingError."""
        ...

    async def identify(self, request: StillRequest) -> str:
        """Return what the result depends on besides the request: version and weights."""
        ...


class LocalBackend:
    """The service's own parts in this process."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def matte(self, name: str, image: bytes, request: StillRequest) -> StillResult:
        runtime, options = self._runtime, request.options
        check_model(runtime, options, request.trimap is not None)
        files = StillFiles(image, request.trimap, request.background)
        times = StageTimes(runtime.metrics)
        with runtime.gate.try_enter(is_fine=options.refine == "fine") as ticket:
            still = await matte_still(runtime, files, options, ticket, times)
            answer = await finish_answer(runtime, still, options, request.format, times)
        content, content_type = await runtime.workers.run(
            pack, answer.encoded, answer.metadata, request.format
        )
        return StillResult(content, content_type, answer.metadata.to_json())

    async def identify(self, request: StillRequest) -> str:
        info = self._runtime.models.choose(request.options.model).info
        check_model(self._runtime, request.options, request.trimap is not None)
        return f"{__version__} {info.sha256}"


@asynccontextmanager
async def open_backend(
    model: str | None, device: str | None, photos: int
) -> AsyncIterator[Backend]:
    """Start what mattes in this process, with decoders for so many photos at once."""
    _, network = choose_network(model, device)
    decoders = min(photos, count_threads())
    with tempfile.TemporaryDirectory(prefix="matte-") as folder:
        settings = load_settings(data_dir=folder, decoders=decoders, **OWN_FILES, **network)
        runtime = await Runtime.start(settings, Metrics())
        try:
            yield LocalBackend(runtime)
        finally:
            await runtime.stop_network()
            await runtime.aclose()
