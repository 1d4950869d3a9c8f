"""Where photos are matted: by the service's own parts in this process, or by a service."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from cli.local import Place
from cli.stills.request import StillRequest
from service import __version__
from service.inference.providers import count_threads
from service.metrics import Metrics, StageTimes
from service.options import BACKGROUND, HINT, TRIMAP
from service.runtime import Runtime
from service.settings import load_settings
from service.stills.answer import finish_answer
from service.stills.encode import pack
from service.stills.matte import StillFiles, check_model, matte_still

if TYPE_CHECKING:
    from cli.remote import RemoteService


@dataclass(frozen=True)
class StillResult:
    """The file of a result, and what is said of it (see ResultMetadata)."""

    content: bytes
    content_type: str
    metadata: dict[str, Any]


class Backend(Protocol):
    """Mattes photos, several at once."""

    async def matte(self, image: bytes, request: StillRequest) -> StillResult:
        """Return the result of a photo; raises MattingError."""
        ...

    async def identify(self, request: StillRequest, *, has_trimaps: bool = False) -> str:
        """Return what the result depends on besides the request: version and weights."""
        ...


class LocalBackend:
    """The service's own parts in this process."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def matte(self, image: bytes, request: StillRequest) -> StillResult:
        runtime, options = self._runtime, request.options
        check_model(runtime, options, request.trimap is not None)
        files = StillFiles(image, request.trimap, request.background, request.hint)
        times = StageTimes(runtime.metrics)
        with runtime.gate.try_enter(is_fine=options.refine == "fine") as ticket:
            still = await matte_still(runtime, files, options, ticket, times)
            answer = await finish_answer(runtime, still, options, request.format, times)
        content, content_type = await runtime.workers.run(
            pack, answer.encoded, answer.metadata, request.format
        )
        return StillResult(content, content_type, answer.metadata.to_json())

    async def identify(self, request: StillRequest, *, has_trimaps: bool = False) -> str:
        info = self._runtime.models.choose(request.options.model).info
        check_model(self._runtime, request.options, has_trimaps)
        return f"{__version__} {info.sha256}"


class RemoteBackend:
    """A running service."""

    def __init__(self, service: "RemoteService") -> None:
        self._service = service

    async def matte(self, image: bytes, request: StillRequest) -> StillResult:
        files = {BACKGROUND: request.background, TRIMAP: request.trimap, HINT: request.hint}
        matte, told = await self._service.matte(image, request.given | files)
        return StillResult(matte.content, matte.content_type, told)

    async def identify(self, request: StillRequest, *, has_trimaps: bool = False) -> str:
        return await self._service.identify(request.options.model)


@asynccontextmanager
async def open_backend(place: Place, photos: int) -> AsyncIterator[Backend]:
    """Open what mattes so many photos at once; raises ModelError, DeviceError, SettingsError."""
    if place.server:
        from cli.remote import open_service  # needs the extra [client]

        async with open_service(place.server, place.key) as service:
            yield RemoteBackend(service)
        return
    with tempfile.TemporaryDirectory(prefix="matte-") as folder:
        decoders = min(photos, count_threads())
        settings = load_settings(data_dir=folder, decoders=decoders, **place.settings)
        runtime = await Runtime.start(settings, Metrics())
        try:
            yield LocalBackend(runtime)
        finally:
            await runtime.stop_network()
            await runtime.aclose()
