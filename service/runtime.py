"""The runtime: settings, metrics, threads, decoders, the engine and its batcher."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.access import Access
from service.fine import FineMatting
from service.gate import AdmissionGate
from service.inference.batcher import Batcher
from service.inference.engine import Engine
from service.inference.health import Health
from service.inference.providers import count_threads
from service.inference.registry import Models, ModelSource
from service.inference.watchdog import watch_network
from service.media.decoder.pool import DecoderPool
from service.media.decoder.starter import DecoderStarter
from service.memory import keep_freed_memory
from service.metrics import Metrics
from service.scratch import ScratchFolder
from service.settings import Settings
from service.telemetry.tracing import Tracing
from service.threads import Workers

FILE_THREADS = 4
PREFIX = "matting-work-"


def count_stills(settings: Settings) -> int:
    """Return how many decoder children are kept for stills."""
    return settings.decoders or max(1, count_threads() // 2)


@dataclass(frozen=True)
class Runtime:
    """The parts of a running service that know no route, job or session.

    `workers` are threads for pixels, `files` are threads for the disk. `scratch` is for files of
    work in progress; those of a process that was killed go when the next one starts.
    """

    settings: Settings
    metrics: Metrics
    health: Health
    gate: AdmissionGate
    access: Access
    models: Models
    decoders: DecoderPool
    workers: Workers
    files: Workers
    scratch: ScratchFolder
    fine: FineMatting
    watchdog: asyncio.Task[None]
    tracing: Tracing | None = None

    @classmethod
    async def start(
        cls,
        settings: Settings,
        metrics: Metrics,
        engine: Engine | None = None,
        sources: Sequence[ModelSource] | None = None,
        *,
        keys: Access | None = None,
        health: Health | None = None,
        tracing: Tracing | None = None,
        on_stall: Callable[[], None] = lambda: None,
        starter: DecoderStarter | None = None,
    ) -> "Runtime":
        """Load the first model unless its engine is given, meanwhile start the decoder children.

        `sources` are the other models, None: read them here. `starter` may have begun decoder
        children already. `on_stall` is called when a network hangs for `engine_stall_s`. Raises
        ModelError or DeviceError when a model or the device cannot be used.
        """
        keep_freed_memory()
        cores = count_threads()
        health = health or Health()
        stills = count_stills(settings)
        decoders = DecoderPool(
            settings,
            metrics,
            stills=stills,
            videos=settings.max_videos,
            chunks=settings.max_chunks,
            starter=starter or DecoderStarter(settings, early=stills),
        )
        gate = AdmissionGate(
            max_requests=settings.max_requests,
            max_megapixels=settings.max_megapixels,
            reserved_megapixels=min(settings.image_max_megapixels, settings.max_megapixels / 2),
            queue_s=settings.queue_s,
            metrics=metrics,
        )

        def make_batcher(engine: Engine) -> Batcher:
            info = engine.info
            labels = info.name, info.sha256, engine.provider, engine.precision
            metrics.model_info.labels(*labels).set(1)
            return Batcher(engine, metrics, health)

        try:
            models = await Models.start(settings, engine, sources, make_batcher)
        except BaseException:
            await decoders.aclose()  # which have been starting meanwhile
            raise
        await decoders.start()
        watching = watch_network(models, health, settings.engine_stall_s, on_stall)
        return cls(
            settings=settings,
            metrics=metrics,
            health=health,
            gate=gate,
            access=keys or Access(settings, metrics),
            models=models,
            decoders=decoders,
            workers=Workers(stills + cores, "pixels"),
            files=Workers(FILE_THREADS, "files"),
            scratch=await asyncio.to_thread(ScratchFolder, settings.data_dir, PREFIX),
            fine=FineMatting(settings.data_dir),
            watchdog=asyncio.get_running_loop().create_task(watching),
            tracing=tracing,
        )

    async def stop_network(self) -> None:
        """End the queues of the models; what waits in them is answered 503."""
        self.watchdog.cancel()
        await self.models.aclose()

    async def aclose(self) -> None:
        """End the decoders and the threads, after everything that uses them."""
        await self.decoders.aclose()
        self.workers.close()
        self.files.close()
        self.scratch.close()
        if self.tracing is not None:
            await asyncio.to_thread(self.tracing.close)
