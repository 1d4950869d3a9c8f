"""What all work runs on: settings, metrics, threads, decoders, the network and its queue."""

from collections.abc import Sequence
from dataclasses import dataclass

from service.gate import AdmissionGate
from service.inference.batcher import Batcher
from service.inference.engine import Engine
from service.inference.health import Health
from service.inference.providers import count_threads
from service.inference.registry import Models, ModelSource
from service.media.decoder.pool import DecoderPool
from service.metrics import Metrics
from service.settings import Settings
from service.threads import Workers

FILE_THREADS = 4


@dataclass(frozen=True)
class Runtime:
    """The parts of a running service that know no route, job or session.

    `workers` are threads for pixels, `files` are threads for the disk.
    """

    settings: Settings
    metrics: Metrics
    health: Health
    gate: AdmissionGate
    models: Models
    decoders: DecoderPool
    workers: Workers
    files: Workers

    @classmethod
    async def start(
        cls,
        settings: Settings,
        metrics: Metrics,
        engine: Engine | None = None,
        sources: Sequence[ModelSource] | None = None,
    ) -> "Runtime":
        """Load the first model unless its engine is given, start the decoder children.

        `sources` are the other models, None: read them here. Raises ModelError or DeviceError when
        a model or the device cannot be used.
        """
        cores = count_threads()
        health = Health()
        stills = settings.decoders or max(1, cores // 2)
        decoders = DecoderPool(
            settings,
            metrics,
            stills=stills,
            videos=settings.max_videos,
            chunks=settings.max_chunks,
        )
        gate = AdmissionGate(
            max_requests=settings.max_requests,
            max_megapixels=settings.max_megapixels,
            queue_s=settings.queue_s,
            metrics=metrics,
        )

        def make_batcher(engine: Engine) -> Batcher:
            info = engine.info
            labels = info.name, info.sha256, engine.provider, engine.precision
            metrics.model_info.labels(*labels).set(1)
            return Batcher(engine, metrics, health, on_speed=gate.observe)

        models = await Models.start(settings, engine, sources, make_batcher)
        await decoders.start()  # last: a network that fails above must not leave children behind
        return cls(
            settings=settings,
            metrics=metrics,
            health=health,
            gate=gate,
            models=models,
            decoders=decoders,
            workers=Workers(stills + cores, "pixels"),
            files=Workers(FILE_THREADS, "files"),
        )

    async def stop_network(self) -> None:
        """End the queues of the models; what waits in them is answered 503."""
        await self.models.aclose()

    async def aclose(self) -> None:
        """End the decoders and the threads, after everything that uses them."""
        await self.decoders.aclose()
        self.workers.close()
        self.files.close()
