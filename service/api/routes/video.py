"""`POST /v1/video`: a clip in, the matted clip or a job out."""

import tempfile
from pathlib import Path
from typing import BinaryIO

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from service.api.dependencies import (
    IntakeDependency,
    OutgoingDependency,
    RuntimeDependency,
    SlotsDependency,
)
from service.api.disconnect import run_until_disconnect
from service.api.downloads import stream_file
from service.api.fetched import check_deliveries, read_file
from service.api.openapi import describe_upload
from service.api.routes.job_documents import JobDocument
from service.api.routes.jobs import (
    MAX_KEY_CHARS,
    RESPOND_ASYNC,
    accept_job,
    prefers_job,
    read_idempotency_key,
)
from service.api.uploads import MULTIPART_TYPE, Accepted, Upload, read_content_type
from service.clips.matte import MattedClip, ProgressCallbacks
from service.clips.outputs import OUTPUTS
from service.clips.plan import ClipPlan, make_plan, read_background
from service.clips.run import TOLD, describe_clip, run_clip
from service.clips.slots import VideoSlots
from service.errors import InvalidOption, MediaLimitExceeded
from service.frames.network import choose_frame_model
from service.inference.registry import Model
from service.jobs.options import JobOptions
from service.media.video.repairs import describe_in_headers
from service.options import BACKGROUND, check_background_file, parse_options
from service.outgoing.calls import OutgoingCalls
from service.runtime import Runtime

router = APIRouter(tags=["video"])
FILE_NAMES = ("file", "video_file")
RESULT_TYPES = {
    output.content_type: {"schema": {"type": "string", "format": "binary"}}
    for output in OUTPUTS.values()
}
JOB_HEADERS = [
    {
        "name": "Prefer",
        "in": "header",
        "schema": {"type": "string", "enum": [RESPOND_ASYNC]},
        "description": "make it a job and do not wait",
    },
    {
        "name": "Idempotency-Key",
        "in": "header",
        "schema": {"type": "string", "maxLength": MAX_KEY_CHARS},
        "description": "the same key with the same request makes one job only, for 24 hours",
    },
]
RESULTS = "The result: " + ", ".join(
    f"`{output.content_type}` for `{name}`" for name, output in OUTPUTS.items()
)


@router.post(
    "/v1/video",
    summary="Matte one video",
    response_class=Response,
    responses={
        200: {"description": RESULTS, "content": RESULT_TYPES},
        202: {
            "model": JobDocument,
            "description": "a job has been made; `Location` is its address",
        },
    },
    openapi_extra=describe_upload(
        JobOptions, "video", FILE_NAMES, BACKGROUND, headers=JOB_HEADERS, takes_url=True
    ),
)
async def matte_video(
    request: Request,
    runtime: RuntimeDependency,
    slots: SlotsDependency,
    intake: IntakeDependency,
    outgoing: OutgoingDependency,
) -> Response:
    """Take a clip (MP4, MOV, Matroska, WebM, MPEG-TS, GIF) and answer the person over a colour, a
    picture, another clip or green as H.264 MP4, cut out as WebM, ProRes MOV or PNGs, or the matte:
    the same frames at the same times, upright, with the audio.

    `Prefer: respond-async` makes it a job, and so do several outputs. With an `Idempotency-Key`
    the same request makes one job only, for 24 hours."""
    limit_bytes = runtime.settings.video_max_bytes
    accepted = Accepted("video", FILE_NAMES, limit_bytes, extra=(BACKGROUND,), takes_url=True)
    owner, key = request.scope["owner"], read_idempotency_key(request)
    if prefers_job(request):
        async with intake.admit(owner, key) as admission:
            async with read_file(request, accepted) as upload:
                options = await check_upload(runtime, outgoing, upload)
                return await accept_job(request, intake, admission, upload, options)
    if not may_become_job(request):
        slots.check()  # before a long upload
    async with read_file(request, accepted) as upload:
        options = await check_upload(runtime, outgoing, upload)
        if options.is_delivered and len(options.outputs) == 1:
            raise InvalidOption(
                "webhook and put_urls need a job", hint="send `Prefer: respond-async`"
            )
        if len(options.outputs) > 1:
            async with intake.admit(owner, key) as admission:
                return await accept_job(request, intake, admission, upload, options)
        with slots.enter():
            background = await read_background(runtime, upload.extra.get(BACKGROUND))
            model = choose_frame_model(runtime, options)
            plan = make_plan(options, background)
            work = make_video(runtime, slots, model, upload.file, plan, owner)
            video, file = await run_until_disconnect(
                request, work, timeout_s=runtime.settings.video_timeout_s
            )
            runtime.access.charge(owner, "video-seconds", video.duration_s)
    return StreamingResponse(
        stream_file(runtime.files, file),
        headers=make_headers(model, video),
        media_type=video.results[0].content_type,
    )


def may_become_job(request: Request) -> bool:
    """Say whether several outputs are asked for, or may be in a form that is still to come."""
    outputs = request.query_params.get("outputs")
    if outputs is None:
        return read_content_type(request) == MULTIPART_TYPE
    return "," in outputs


def make_headers(model: Model, video: MattedClip) -> dict[str, str]:
    """Return the headers of an answer: what the report says, the unusual only where it is so."""
    told = describe_clip(model, video)
    headers = {
        "Content-Length": str(video.results[0].bytes),
        "X-Width": str(told["width"]),
        "X-Height": str(told["height"]),
        "X-Frames": str(told["frames"]),
        "X-Scene-Cuts": str(told["scene_cuts_total"]),
        "X-Rotation-Applied": str(told["rotation_applied_deg"]),
        "X-Model": told["model"],
        "X-Provider": told["provider"],
    }
    if "padding" in told:
        headers["X-Padding"] = "{},{}".format(*told["padding"])
    return headers | describe_in_headers({name: told[name] for name in TOLD if name in told})


async def check_upload(runtime: Runtime, outgoing: OutgoingCalls, upload: Upload) -> JobOptions:
    """Return the options of an upload; raises InvalidOption and ImpossibleOutput."""
    options = parse_options(JobOptions, upload.options)
    check_background_file(options, BACKGROUND, upload.extra)
    choose_frame_model(runtime, options)
    await check_deliveries(runtime.settings, outgoing, options)
    return options


async def make_video(
    runtime: Runtime, slots: VideoSlots, model: Model, file: BinaryIO, plan: ClipPlan, owner: str
) -> tuple[MattedClip, BinaryIO]:
    """Return the facts of a matted clip and its one result, open; its folder is gone already."""
    settings = runtime.settings
    sync_s = settings.sync_video_max_s
    watch = ProgressCallbacks(on_frame=runtime.metrics.frames.labels("video").inc)
    max_s = min(sync_s, settings.video_max_s)
    with tempfile.TemporaryDirectory(dir=runtime.scratch.path) as folder:
        try:
            clip = await run_clip(
                runtime, slots, model, file, plan, Path(folder), watch, max_s=max_s, owner=owner
            )
        except MediaLimitExceeded as error:
            if error.limit == sync_s:
                error.hint = (
                    f"a request may wait for {sync_s:g} s of video: send it as a job with "
                    f"`Prefer: respond-async`, up to {settings.video_max_s:g} s, or raise "
                    "MATTING_SYNC_VIDEO_MAX_S"
                )
            raise
        return clip, clip.results[0].path.open("rb")
