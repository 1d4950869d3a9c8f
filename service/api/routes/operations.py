"""Probes, metrics, models, capabilities and the API documents."""

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse
from prometheus_client import CONTENT_TYPE_LATEST
from prometheus_client.exposition import choose_encoder

import service
from service import __version__
from service.api.dependencies import RuntimeDependency, SlotsDependency
from service.api.negotiation import OFFERS
from service.api.routes.live import PROTOCOL
from service.clips.outputs import OUTPUTS, Output
from service.errors import MattingError, NotReady, refuse_draining
from service.inference.registry import Model
from service.jobs.intake import IDEMPOTENCY_S
from service.jobs.options import JobOptions
from service.media.audio.types import CARRIED_AUDIO
from service.media.image.types import FORMATS
from service.media.video.container.formats import CONTAINERS
from service.media.video.writing.animation_writer import MAX_MEGAPIXELS
from service.options import BACKGROUND, HINT, MAX_REF_SIZE, MIN_REF_SIZE, TRIMAP
from service.runtime import Runtime
from service.sessions.chunk import PICTURE_FORMATS
from service.sessions.inbox import WAITING_FRAMES
from service.sessions.options import SessionOptions
from service.stills.options import MAX_KEEP_S, ImageOptions

router = APIRouter(tags=["operations"])
WEB = Path(service.__file__).parent / "web"
ASSETS = WEB / "assets"
PROBE_SIDE = 64


class MetricsResponse(Response):
    """What Prometheus reads, with the version of its format in the media type."""

    media_type = CONTENT_TYPE_LATEST


@router.get("/livez", summary="Is the process alive")
async def live(runtime: RuntimeDependency) -> dict[str, str]:
    """Answer 200 as long as the event loop turns, and 503 once the network hangs for good."""
    if runtime.health.stalled:
        raise NotReady("the network hangs", hint="restart the service")
    return {"status": "ok"}


@router.get("/readyz", summary="Does the service take work")
@router.get("/healthz", name="health", summary="The same as /readyz")
async def ready(
    runtime: RuntimeDependency, slots: SlotsDependency, verbose: str | None = None
) -> dict[str, Any]:
    """Answer 200, or 503 with the reason. After a failed run a probe image goes through the
    network first. `?verbose` adds the model, the provider, and why it is not CUDA."""
    if runtime.health.started:
        for name in list(runtime.health.failures):
            await probe(runtime, runtime.models[name])
    reason = runtime.health.not_ready_reason()
    runtime.metrics.ready.set(0 if reason else 1)
    if runtime.health.draining:
        raise refuse_draining()
    if reason:
        raise NotReady(f"not ready: {reason}", hint="try again soon", retry_after_s=1)
    answer: dict[str, Any] = {"status": "ok"}
    if verbose is not None:
        answer |= {
            "version": __version__,
            "model": runtime.models.default.describe(),
            "requests": runtime.gate.requests,
            "megapixels": round(runtime.gate.megapixels, 3),
            "image_s": round(runtime.gate.image_s, 4),
            "videos": slots.taken,
            "refine_fine": runtime.fine.state,
        }
    return answer


async def probe(runtime: Runtime, model: Model) -> None:
    """Run one small image; the batcher tells the health what came of it."""
    size = model.info.fixed_size or (PROBE_SIDE, PROBE_SIDE)
    (tensor,) = model.info.make_blank(1, size)
    try:
        await model.infer(tensor, timeout_s=runtime.settings.request_timeout_s)
    except MattingError:
        return


@router.get("/metrics", summary="Prometheus text", response_class=MetricsResponse)
async def metrics(runtime: RuntimeDependency, request: Request) -> Response:
    """Answer in Prometheus' text format, or in OpenMetrics, with exemplars, for `Accept`."""
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    text = encode(runtime.metrics.registry)
    return Response(text, headers={"Content-Type": content_type})


@router.get("/v1/models", summary="Models that can be asked for")
async def list_models(runtime: RuntimeDependency) -> dict[str, Any]:
    return {"models": runtime.models.describe()}


@router.get("/v1/capabilities", summary="Formats, codecs and limits")
async def list_capabilities(runtime: RuntimeDependency) -> dict[str, Any]:
    settings = runtime.settings
    return {
        "version": __version__,
        "image": {
            "input": [name.lower() for name in FORMATS],
            "outputs": {output: list(formats) for output, formats in OFFERS.items()},
            "files": ["file", TRIMAP, BACKGROUND, HINT],
            "options": [*ImageOptions.model_fields],
            "ref_size": {
                "default": runtime.models.default.info.ref_size,
                "minimum": MIN_REF_SIZE,
                "maximum": MAX_REF_SIZE,
            },
            "max_bytes": settings.image_max_bytes,
            "max_megapixels": settings.image_max_megapixels,
            "max_side": settings.image_max_side,
            "batch_max_files": settings.batch_max_files,
            "batch_max_bytes": settings.batch_max_bytes,
            "max_keep_s": MAX_KEEP_S,
            "result_store_mb": settings.result_store_mb,
        },
        "video": {
            "containers": list(CONTAINERS),
            "outputs": {name: describe_output(output) for name, output in OUTPUTS.items()},
            "options": [name for name in JobOptions.model_fields if name != "outputs"],
            "smoothing": ["ofd", "off"],
            "max_bytes": settings.video_max_bytes,
            "max_s": settings.video_max_s,
            "sync_max_s": settings.sync_video_max_s,
            "max_frames": settings.video_max_frames,
            "max_frame_megapixels": settings.video_max_frame_megapixels,
            "max_side": settings.video_max_side,
            "max_at_once": settings.max_videos,
            "result_max_mb": settings.video_result_max_mb,
            "animation_max_megapixels": MAX_MEGAPIXELS,
        },
        "session": {
            "containers": list(CONTAINERS),
            "recordings": ["webm", "mp4"],
            "frames": [name.lower() for name in PICTURE_FORMATS],
            "outputs": ["composite", "alpha", "cutout"],
            "packaging": ["fmp4", "frames"],
            "options": [*SessionOptions.model_fields],
            "smoothing": ["ofd", "off"],
            "chunk_max_bytes": settings.chunk_max_bytes,
            "chunk_max_frames": settings.chunk_max_frames,
            "max_at_once": settings.max_sessions,
            "max_per_key": settings.max_sessions_per_key,
            "max_chunks_at_once": settings.max_chunks,
            "buffer_mb": settings.session_buffer_mb,
            "disk_mb": settings.session_disk_mb,
            "idle_s": settings.session_idle_s,
            "max_s": settings.session_max_s,
        },
        "live": {
            "protocol": PROTOCOL,
            "frames": [name.lower() for name in PICTURE_FORMATS],
            "formats": ["png", "webp", "jpeg"],
            "message_max_bytes": settings.socket_message_max_bytes,
            "waiting_frames": WAITING_FRAMES,
            "max_per_session": 1,
            "ping_s": settings.socket_ping_s,
        },
        "jobs": {
            "max_s": settings.video_max_s,
            "max_queued": settings.max_queued_jobs,
            "max_attempts": settings.job_max_attempts,
            "ttl_s": settings.job_ttl_s,
            "idempotency_s": IDEMPOTENCY_S,
            "max_bytes": settings.jobs_max_bytes,
            "resumable_uploads": "tus 1.0.0",
        },
        "outgoing": {
            "url_input": settings.url_input,
            "webhooks": settings.webhook_secret is not None,
            "put_results": settings.put_results,
            "delivery_tries": settings.delivery_tries,
        },
        "network_max_megapixels": settings.network_max_megapixels,
        "queue_s": settings.queue_s,
    }


def describe_output(output: Output) -> dict[str, Any]:
    audio = sorted(CARRIED_AUDIO[output.container]) if output.container else []
    return {
        "file": output.file,
        "content_type": output.content_type,
        "container": output.container or Path(output.file).suffix[1:],
        "codec": output.codec,
        "alpha": output.has_alpha,
        "sound": audio,
    }


@router.get("/docs", include_in_schema=False)
async def show_docs() -> FileResponse:
    return FileResponse(WEB / "docs.html")
