"""The application: its parts, their life, and the layers around the routes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Response
from starlette.requests import ClientDisconnect
from starlette.staticfiles import StaticFiles

from service import __version__
from service.api.auth import AuthLayer, Keys
from service.api.compat import routes as compat
from service.api.dependencies import Services
from service.api.routes import (
    image,
    jobs,
    live,
    operations,
    page,
    problem_pages,
    sessions,
    video,
)
from service.api.uploads import ClientDisconnected
from service.clips.slots import VideoSlots
from service.errors import install_error_handlers
from service.inference.batcher import Batcher
from service.inference.engine import Engine, OnnxEngine
from service.inference.health import Health
from service.inference.providers import count_threads
from service.jobs.intake import JobIntake
from service.jobs.jobs import Jobs
from service.jobs.store import JobStore
from service.limits import AdmissionGate, BodyLayer
from service.log import RequestLayer
from service.media.decoder.pool import DecoderPool
from service.metrics import Metrics
from service.sessions.store import SessionStore
from service.settings import Settings
from service.stills.result_store import ResultStore
from service.threads import Workers

DESCRIPTION = """Trimap-free portrait matting with MODNet: photo in, alpha out; clip in, matted clip
out. Errors are `application/problem+json` (RFC 9457)."""


def create_app(
    settings: Settings, engine: Engine | None = None, job_store: JobStore | None = None
) -> FastAPI:
    """Build the ASGI app; an engine or a job store that is not given is opened when it starts.

    Starting raises ModelError or DeviceError when the model or the device cannot be used,
    JobStoreError when the jobs cannot.
    """
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        services = await start_services(settings, metrics, engine, job_store)
        app.state.services = services
        yield
        await stop_services(services)

    app = FastAPI(
        title="Matting service",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    # The last one added is the outermost: ids and logs, then the key, then the body.
    app.add_middleware(BodyLayer, settings=settings, metrics=metrics)
    app.add_middleware(AuthLayer, keys=Keys(settings.api_keys), metrics=metrics)
    app.add_middleware(RequestLayer, metrics=metrics)
    install_error_handlers(app)
    for left in (ClientDisconnected, ClientDisconnect):  # with the body sent, and inside it
        app.add_exception_handler(left, on_client_disconnect)
    for routes in (image, video, jobs, sessions, live, compat, operations):
        app.include_router(routes.router)
    app.include_router(page.router)
    app.include_router(problem_pages.router)
    app.mount("/assets", StaticFiles(directory=operations.ASSETS))
    return app


async def on_client_disconnect(request: object, error: Exception) -> Response:
    """End a request whose client has left; 499 is only for the log."""
    return Response(status_code=499)


async def start_services(
    settings: Settings, metrics: Metrics, engine: Engine | None, job_store: JobStore | None
) -> Services:
    """Load the model, warm it up, start the decoder children, go on with the jobs."""
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
    if engine is None:
        engine = await asyncio.to_thread(OnnxEngine, settings)
    await asyncio.to_thread(engine.warm_up)
    if job_store is None:
        job_store = await asyncio.to_thread(JobStore.open, settings.data_dir)
    await decoders.start()  # last: a network that fails above must not leave children behind
    gate = AdmissionGate(
        max_requests=settings.max_requests,
        max_megapixels=settings.max_megapixels,
        queue_s=settings.queue_s,
        metrics=metrics,
    )
    batcher = Batcher(engine, metrics, health, on_speed=gate.observe)
    batcher.start()
    info = engine.info
    metrics.model_info.labels(info.name, info.sha256, engine.provider, info.precision).set(1)
    health.started = True
    metrics.ready.set(1)
    workers = Workers(stills + cores)
    jobs = Jobs(job_store, settings, metrics)
    services = Services(
        settings=settings,
        metrics=metrics,
        health=health,
        gate=gate,
        engine=engine,
        batcher=batcher,
        decoders=decoders,
        workers=workers,
        videos=VideoSlots(settings.max_videos, metrics),
        results=ResultStore(settings.data_dir, settings.result_store_mb * 2**20, workers),
        sessions=SessionStore(settings, metrics),
        jobs=jobs,
        intake=JobIntake(jobs, job_store, settings, metrics, workers),
    )
    await jobs.start(services)
    return services


async def stop_services(services: Services) -> None:
    """End in the order of the data path; what waits for the network is answered 503.

    Jobs end first: they go on when the service starts again.
    """
    services.health.draining = True
    services.metrics.ready.set(0)
    await services.jobs.aclose()
    await services.batcher.aclose()
    services.videos.threads.shutdown(wait=False)
    await services.results.aclose()
    await services.sessions.aclose()
    await services.decoders.aclose()
    services.workers.close()
