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
from service.errors import ImpossibleOutput, UnsupportedMedia
from service.inference.batcher import Matte
from service.limits import refuse_size
from service.routes.schemas import check_picture_behind, describe_upload, parse_options
from service.routes.uploads import Accepted, read_upload, run_until_disconnect
from service.still.pipeline import BACKGROUND, decode_picture
from service.video.clip import ClipPlan, MattedClip, Network, matte_clip
from service.video.options import VideoOptions
from service.video.render import Look, Pixels

router = APIRouter(tags=["video"])
FILE_NAMES = ("file", "video_file")
CHUNK_BYTES = 1 << 18
FRAME_TIMEOUT_S = 60.0


@router.post(
    "/v1/video",
    summary="Matte one video",
    response_class=Response,
    responses={200: {"content": {"video/mp4": {}}}},
    openapi_extra=describe_upload(VideoOptions, "video", FILE_NAMES, BACKGROUND),
)
async def matte_video(request: Request, services: ServicesDependency) -> Response:
    """Take a clip (MP4, MOV, Matroska, WebM, MPEG-TS, GIF) and answer an H.264 MP4 of the person
    over a colour, or of the matte: the same frames at the same times, upright, with the sound."""
    if services.engine.info.takes_trimap:
        raise ImpossibleOutput("the model needs a trimap for each picture, a clip brings none")
    services.videos.check()  # before a long upload
    limit_bytes = services.settings.video_max_bytes
    accepted = Accepted("video", FILE_NAMES, limit_bytes, extra=(BACKGROUND,))
    async with read_upload(request, accepted) as upload:
        options = parse_options(VideoOptions, upload.options)
        check_picture_behind(options, BACKGROUND, upload.extra)
        with services.videos.enter():
            picture = await read_background(services, upload.extra.get(BACKGROUND))
            work = make_video(services, upload.file, make_plan(options, picture))
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


async def read_background(services: Services, file: BinaryIO | None) -> Pixels | None:
    """Decode the picture to put behind the person, (h, w, 3) uint8 of any size.

    Raises ImpossibleOutput for what is no picture, PayloadTooLarge and the errors of the decoder.
    """
    if file is None:
        return None
    limit_bytes = services.settings.image_max_bytes
    data = await services.workers.run(file.read, limit_bytes + 1)
    if len(data) > limit_bytes:
        raise refuse_size(BACKGROUND, limit_bytes, len(data))
    try:
        async with services.decoders.borrow("still") as decoder:
            picture = await decode_picture(services, decoder, BACKGROUND, data)
    except UnsupportedMedia as error:
        raise ImpossibleOutput(
            error.detail, hint="send a picture; a video behind the person is not possible yet"
        ) from None
    return picture.flat


def make_plan(options: VideoOptions, picture: Pixels | None) -> ClipPlan:
    return ClipPlan(
        output=options.outputs,
        look=Look(
            background=options.choose_background(picture),
            refines=options.refine == "auto",
            estimates_foreground=options.foreground == "auto",
        ),
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
