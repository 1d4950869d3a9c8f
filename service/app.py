"""The application: starts and stops its parts, and adds layers and routes."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.staticfiles import StaticFiles

from service import __version__
from service.access import Access
from service.api.auth import AuthLayer
from service.api.body_layer import BodyLayer
from service.api.compat import routes as compat
from service.api.dependencies import Services, get_services
from service.api.disconnect import ClientDisconnected
from service.api.openapi import install_document
from service.api.problems import install_error_handlers
from service.api.request_layer import RequestLayer
from service.api.routes import (
    image,
    jobs,
    live,
    operations,
    page,
    problem_pages,
    resumable,
    sessions,
    video,
)
from service.api.routes.job_documents import describe_job
from service.clips.segments import SegmentRunner
from service.clips.slots import VideoSlots
from service.inference.engine import Engine
from service.inference.health import Health
from service.inference.registry import ModelSource
from service.jobs.deliveries import Deliveries
from service.jobs.intake import JobIntake
from service.jobs.jobs import Jobs
from service.jobs.opening import open_job_store
from service.jobs.rows.quotas import SharedQuotas
from service.jobs.rows.store import JobStore
from service.jobs.uploads.store import UploadStore
from service.media.decoder.starter import DecoderStarter
from service.metrics import Metrics
from service.outgoing.calls import OutgoingCalls
from service.runtime import Runtime
from service.sessions.store import SessionStore
from service.settings import Settings
from service.stills.result_store import ResultStore
from service.telemetry.tracing import Tracing, start_tracing

CORS_MAX_AGE_S = 600  # browsers remember for so long what they may send
DESCRIPTION = """Trimap-free portrait matting with MODNet: photo in, alpha out; clip in, matted clip
out. Errors are `application/problem+json` (RFC 9457)."""


def create_app(
    settings: Settings,
    engine: Engine | None = None,
    job_store: JobStore | None = None,
    sources: Sequence[ModelSource] | None = None,
    on_stall: Callable[[], None] = lambda: None,
    runner: SegmentRunner | None = None,
    starter: DecoderStarter | None = None,
) -> FastAPI:
    """Build the ASGI app; an engine or a job store that is not given is opened when it starts.

    `starter` may have begun decoder children already. `on_stall` is called when the network hangs,
    which only a new process can help. `runner` mattes the clips of jobs in segments elsewhere,
    None: here.
    Starting raises ModelError or DeviceError when the model or the device cannot be used,
    JobStoreError when the jobs cannot. Raises SettingsError for keys that cannot be read, and for
    traces whose extra is not installed.
    """
    metrics, health = Metrics(), Health()
    keys = Access(settings, metrics)
    tracing = start_tracing(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        services = await start_services(
            settings,
            metrics,
            engine,
            job_store,
            sources,
            keys,
            health=health,
            tracing=tracing,
            on_stall=on_stall,
            runner=runner,
            starter=starter,
        )
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
        generate_unique_id_function=lambda route: route.name,
    )
    # The last one added is the outermost: ids and logs, then the key, then the body.
    app.add_middleware(BodyLayer, settings=settings, metrics=metrics)
    app.add_middleware(AuthLayer, keys=keys, metrics=metrics)
    if settings.cors_origins:  # outside of the key: a browser asks without one whether it may
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["*"],
            max_age=CORS_MAX_AGE_S,
        )
    app.add_middleware(RequestLayer, metrics=metrics, health=health, tracing=tracing)
    install_error_handlers(app)
    for left in (ClientDisconnected, ClientDisconnect):  # with the body sent, and inside it
        app.add_exception_handler(left, on_client_disconnect)
    for routes in (
        image,
        video,
        jobs,
        resumable,
        sessions,
        live,
        compat,
        operations,
        page,
        problem_pages,
    ):
        app.include_router(routes.router)
    install_document(app, needs_key=bool(settings.api_keys))
    app.mount("/assets", StaticFiles(directory=operations.ASSETS))
    return app


async def on_client_disconnect(request: Request, error: Exception) -> Response:
    """End a request whose client has left; 499 is only for the log."""
    metrics = get_services(request).runtime.metrics
    metrics.requests_rejected.labels("disconnected").inc()
    return Response(status_code=499)


async def start_services(
    settings: Settings,
    metrics: Metrics,
    engine: Engine | None,
    job_store: JobStore | None,
    sources: Sequence[ModelSource] | None = None,
    keys: Access | None = None,
    *,
    health: Health | None = None,
    tracing: Tracing | None = None,
    on_stall: Callable[[], None] = lambda: None,
    runner: SegmentRunner | None = None,
    starter: DecoderStarter | None = None,
) -> Services:
    """Start the runtime and all that works on it, and go on with the jobs."""
    if job_store is None:
        job_store = await asyncio.to_thread(open_job_store, settings)
    try:
        runtime = await Runtime.start(
            settings,
            metrics,
            engine,
            sources,
            keys=keys,
            health=health,
            tracing=tracing,
            on_stall=on_stall,
            starter=starter,
        )
    except BaseException:
        await asyncio.to_thread(job_store.close)
        raise
    slots = VideoSlots(settings.max_videos, metrics)
    outgoing = OutgoingCalls(settings, runtime.files)
    deliveries = Deliveries(
        job_store, runtime, outgoing, lambda job: describe_job(job).model_dump(mode="json")
    )
    jobs = Jobs(job_store, runtime, slots, on_end=deliveries.schedule, runner=runner)
    services = Services(
        runtime=runtime,
        slots=slots,
        results=ResultStore(
            settings.data_dir,
            settings.result_store_mb * 2**20,
            runtime.files,
            name_id=settings.name_id,
        ),
        sessions=SessionStore(settings, metrics),
        jobs=jobs,
        intake=JobIntake(jobs, runtime),
        outgoing=outgoing,
        deliveries=deliveries,
        uploads=UploadStore(settings, job_store.files),
        quotas=SharedQuotas(runtime.access, job_store),
    )
    await jobs.start()
    deliveries.start()
    services.quotas.start()
    runtime.health.started = True
    metrics.ready.set(1)
    return services


def drain(services: Services) -> None:
    """Take no more work, and say so; jobs that run go back to the queue of the next process."""
    services.runtime.health.draining = True
    services.runtime.metrics.ready.set(0)
    services.jobs.drain()


async def stop_services(services: Services) -> None:
    """End in the order of the data path; what waits for the network is answered 503.

    Jobs end first: they go on when the service starts again.
    """
    runtime = services.runtime
    drain(services)
    await services.deliveries.aclose()
    await services.quotas.aclose()
    await services.jobs.aclose()
    await services.outgoing.aclose()
    await runtime.stop_network()
    services.slots.threads.shutdown(wait=False)
    await services.results.aclose()
    await services.sessions.aclose()
    await runtime.aclose()
