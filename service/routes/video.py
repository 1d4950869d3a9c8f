"""`POST /v1/video`: one clip in, the matted MP4 out."""

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future
from typing import BinaryIO

import numpy as np
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from numpy.typing import NDArray

from service.dependencies import Services, ServicesDependency
from service.errors import ImpossibleOutput
from service.inference.batcher import Matte
from service.options import VideoOptions
from service.routes.schemas import describe_upload, parse_options
from service.routes.uploads import Accepted, read_upload, run_until_disconnect
from service.video.clip import ClipPlan, MattedClip, Network, matte_clip

router = APIRouter(tags=["video"])
FILE_NAMES = ("file", "video_file")
CHUNK_BYTES = 1 << 18
FRAME_TIMEOUT_S = 60.0


@router.post(
    "/v1/video",
    summary="Matte one video",
    response_class=Response,
    responses={200: {"content": {"video/mp4": {}}}},
    openapi_extra=describe_upload(VideoOptions, "video", FILE_NAMES),
)
async def matte_video(request: Request, services: ServicesDependency) -> Response:
    """Take a clip (MP4, MOV, Matroska, WebM, MPEG-TS, GIF) and answer an H.264 MP4 of the person
    over a colour, or of the matte: the same frames at the same times, upright, with the sound."""
    if services.engine.info.takes_trimap:
        raise ImpossibleOutput("the model needs a trimap for each picture, a clip brings none")
    services.videos.check()  # before a long upload
    accepted = Accepted("video", FILE_NAMES, services.settings.video_max_bytes)
    async with read_upload(request, accepted) as upload:
        options = parse_options(VideoOptions, upload.options)
        with services.videos.enter():
            work = make_video(services, upload.file, make_plan(options))
            video = await run_until_disconnect(request, services.metrics, work)
    headers = {
        "Content-Length": str(video.bytes),
        "X-Width": str(video.width),
        "X-Height": str(video.height),
        "X-Frames": str(video.report.frames),
        "X-Scene-Cuts": str(len(video.report.scene_cuts)),
        "X-Rotation-Applied": str(video.info.rotation_deg),
        "X-Model": services.engine.info.name,
        "X-Provider": services.engine.provider,
    }
    body = stream_file(services, video.file)
    return StreamingResponse(body, headers=headers, media_type="video/mp4")


def make_plan(options: VideoOptions) -> ClipPlan:
    return ClipPlan(
        output=options.outputs,
        background_rgb=options.background_rgb,
        ref_size=options.ref_size,
        ofd_threshold=options.ofd_threshold if options.smoothing == "ofd" else None,
        keep_sound=options.audio == "keep",
        crf=options.crf,
        preset=options.preset,
    )


async def make_video(services: Services, file: BinaryIO, plan: ClipPlan) -> MattedClip:
    """Run one clip in a thread; a cancelled call has ended the thread and removed its files."""
    loop = asyncio.get_running_loop()
    stop = threading.Event()

    def infer(tensor: NDArray[np.float32]) -> Future[Matte]:
        matte = services.batcher.infer(tensor, timeout_s=FRAME_TIMEOUT_S)
        return asyncio.run_coroutine_threadsafe(matte, loop)

    engine = services.engine
    network = Network(engine.info, infer, ahead=engine.max_batch_size + 1)
    on_frame = services.metrics.frames.labels("video").inc
    async with services.decoders.borrow("video") as decoder:
        run = loop.run_in_executor(
            services.videos.threads,
            lambda: matte_clip(services.settings, network, decoder, file, plan, on_frame, stop),
        )
        try:
            return await asyncio.shield(run)
        except asyncio.CancelledError:
            stop.set()
            decoder.kill()
            await asyncio.wait([run])
            if not run.cancelled() and run.exception() is None:
                run.result().file.close()
            raise


async def stream_file(services: Services, file: BinaryIO) -> AsyncIterator[bytes]:
    """Yield the file in pieces and close it, also when the client leaves."""
    with file:
        while chunk := await services.workers.run(file.read, CHUNK_BYTES):
            yield chunk
