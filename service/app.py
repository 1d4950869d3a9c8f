"""The application: its parts, their life, and the layers around the routes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI, Response
from starlette.requests import ClientDisconnect
from starlette.staticfiles import StaticFiles

from service import __version__
from service.api.auth import AuthLayer, Keys
from service.api.body_layer import BodyLayer
from service.api.compat import routes as compat
from service.api.dependencies import Services
from service.api.disconnect import ClientDisconnected
from service.api.problems import install_error_handlers
from service.api.request_layer import RequestLayer
from service.api.routes import image, jobs, live, operations, sessions, video
from service.clips.slots import VideoSlots
from service.inference.engine import Engine
from service.inference.registry import ModelSource
from service.jobs.intake import JobIntake
from service.jobs.jobs import Jobs
from service.jobs.store import JobStore
from service.metrics import Metrics
from service.runtime import Runtime
from service.sessions.store import SessionStore
from service.settings import Settings
from service.stills.result_store import ResultStore

DESCRIPTION = """Trimap-free portrait matting with MODNet: photo in, alpha out; clip in, matted clip
out. Errors are `application/problem+json` (RFC 9457)."""


def create_app(
    settings: Settings,
    engine: Engine | None = None,
    job_store: JobStore | None = None,
    sources: Sequence[ModelSource] | None = None,
) -> FastAPI:
    """Build the ASGI app; an engine or a job store that is not given is opened when it starts.

    Starting raises ModelError or DeviceError when the model or the device cannot be used,
    JobStoreError when the jobs cannot.
    """
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        services = await start_services(settings, metrics, engine, job_store, sources)
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
    app.mount("/assets", StaticFiles(directory=operations.ASSETS))
    return app


async def on_client_disconnect(request: object, error: Exception) -> Response:
    """End a request whose client has left; 499 is only for the log."""
    return Response(status_code=499)


async def start_services(
    settings: Settings,
    metrics: Metrics,
    engine: Engine | None,
    job_store: JobStore | None,
    sources: Sequence[ModelSource] | None = None,
) -> Services:
    """Start the runtime and all that works on it, and go on with the jobs."""
    if job_store is None:
        job_store = await asyncio.to_thread(JobStore.open, settings.data_dir)
    try:
        runtime = await Runtime.start(settings, metrics, engine, sources)
    except BaseException:
        await asyncio.to_thread(job_store.close)
        raise
    slots = VideoSlots(settings.max_videos, metrics)
    jobs = Jobs(job_store, runtime, slots)
    services = Services(
        runtime=runtime,
        slots=slots,
        results=ResultStore(settings.data_dir, settings.result_store_mb * 2**20, runtime.files),
        sessions=SessionStore(settings, metrics),
        jobs=jobs,
        intake=JobIntake(jobs, runtime),
    )
    await jobs.start()
    runtime.health.started = True
    metrics.ready.set(1)
    return services


async def stop_services(services: Services) -> None:
    """End in the order of the data path; what waits for the network is answered 503.

    Jobs end first: they go on when the service starts again.
    """
    runtime = services.runtime
    runtime.health.draining = True
    runtime.metrics.ready.set(0)
    await services.jobs.aclose()
    await runtime.stop_network()
    services.slots.threads.shutdown(wait=False)
    await services.results.aclose()
    await services.sessions.aclose()
    await runtime.aclose()
