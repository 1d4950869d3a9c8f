"""`POST /v1/video`: one clip in, the matted MP4 out."""

import asyncio
import errno
import logging
import tempfile
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from numpy.typing import NDArray

from service.dependencies import Services, ServicesDependency
from service.errors import ImpossibleOutput, InsufficientStorage, MattingError, MediaLimitExceeded
from service.inference.batcher import Matte
from service.inference.preprocessing import resize_alpha
from service.matting.composite import composite_over_colour, quantise_alpha
from service.media.decoders import Decoder
from service.media.video_types import AudioPacket, VideoInfo
from service.media.video_writer import VideoWriteError, VideoWriter
from service.routes.image import fit_to_network
from service.routes.schemas import VideoOptions, describe_upload, parse_options
from service.routes.uploads import read_upload, run_until_disconnect
from service.settings import Settings
from service.video.pipeline import MattedFrame, Segment, SegmentReport, process_segment

log = logging.getLogger(__name__)
router = APIRouter(tags=["video"])
FILE_NAMES = ("file", "video_file")
CHUNK_BYTES = 1 << 18
FRAME_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class MattedVideo:
    """A finished MP4: an open file whose name is already gone, and the facts about it."""

    file: BinaryIO
    bytes: int
    width: int
    height: int
    info: VideoInfo
    report: SegmentReport


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
    services.videos.check()  # before a long upload
    limit = services.settings.video_max_bytes
    async with read_upload(request, media="video", names=FILE_NAMES, limit_bytes=limit) as (
        file,
        given,
    ):
        options = parse_options(VideoOptions, given)
        with services.videos.enter():
            work = make_video(services, file, options)
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


async def make_video(services: Services, file: BinaryIO, options: VideoOptions) -> MattedVideo:
    """Run one clip in a thread; a cancelled call has ended the thread and removed its files."""
    loop = asyncio.get_running_loop()
    stop = threading.Event()

    def infer(tensor: NDArray[np.float32]) -> Future[Matte]:
        matte = services.batcher.infer(tensor, timeout_s=FRAME_TIMEOUT_S)
        return asyncio.run_coroutine_threadsafe(matte, loop)

    async with services.decoders.borrow("video") as decoder:
        run = loop.run_in_executor(
            services.videos.threads, matte_clip, services, decoder, file, options, infer, stop
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


def matte_clip(
    services: Services,
    decoder: Decoder,
    file: BinaryIO,
    options: VideoOptions,
    infer: Callable[[NDArray[np.float32]], Future[Matte]],
    stop: threading.Event,
) -> MattedVideo:
    """Matte a clip into an MP4 in a folder that is gone when this returns or raises."""
    settings = services.settings
    info = open_clip(decoder, file, settings)
    segment = Segment(
        make_tensor=lambda image: fit_to_network(services, image, options.ref_size),
        infer=infer,
        ahead=services.engine.max_batch_size + 1,
        ofd_threshold=options.ofd_threshold if options.smoothing == "ofd" else None,
    )
    frames = services.metrics.frames.labels("video")
    with tempfile.TemporaryDirectory(prefix="matting-", dir=settings.data_dir) as folder:
        path = Path(folder, f"{options.outputs}.mp4")
        keep_sound = options.audio == "keep"
        try:
            with VideoWriter(
                path, info, crf=options.crf, preset=options.preset, audio=keep_sound
            ) as writer:

                def write(item: MattedFrame | AudioPacket) -> None:
                    if isinstance(item, MattedFrame):
                        writer.write_frame(
                            render_frame(item, options), item.frame.pts, item.frame.duration
                        )
                        frames.inc()
                    elif keep_sound:
                        writer.write_audio(item)

                report = process_segment(decoder.read_video(info), segment, write, stop)
        except VideoWriteError as error:
            raise explain_write_error(error) from error
        size = path.stat().st_size
        return MattedVideo(path.open("rb"), size, writer.width, writer.height, info, report)


def open_clip(decoder: Decoder, file: BinaryIO, settings: Settings) -> VideoInfo:
    """Return the facts of a clip short enough to wait for; raises MediaLimitExceeded."""
    sync_s = settings.sync_video_max_s
    try:
        info = decoder.open_video(file, max_s=min(sync_s, settings.video_max_s))
        if info.duration_s is not None and info.duration_s > sync_s:
            raise MediaLimitExceeded(
                f"the clip lasts {info.duration_s:.1f} s, the limit is {sync_s:g}",
                limit=sync_s,
                actual=round(info.duration_s, 3),
            )
    except MediaLimitExceeded as error:
        if error.limit == sync_s:
            error.hint = (
                f"a request may wait for {sync_s:g} s of video: send a shorter clip, or raise "
                "MATTING_SYNC_VIDEO_MAX_S"
            )
        raise
    return info


def explain_write_error(error: VideoWriteError) -> MattingError:
    """Return what a failed encoder or disk means for the request."""
    if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ENOSPC:
        return InsufficientStorage("the disk of the service is full", retry_after_s=60)
    log.warning("a clip could not be written", exc_info=error)
    return ImpossibleOutput(
        "this clip cannot be written as H.264 MP4", hint="convert the clip to MP4 first"
    )


def render_frame(item: MattedFrame, options: VideoOptions) -> NDArray[np.uint8]:
    """Return the picture of one output frame, (H, W, 3) uint8 RGB."""
    image = item.frame.image
    alpha = resize_alpha(item.alpha, *image.shape[:2])
    if options.outputs == "alpha":
        return np.repeat(quantise_alpha(alpha)[:, :, np.newaxis], 3, axis=2)
    return composite_over_colour(image, alpha, options.background_rgb)


async def stream_file(services: Services, file: BinaryIO) -> AsyncIterator[bytes]:
    """Yield the file in pieces and close it, also when the client leaves."""
    with file:
        while chunk := await services.workers.run(file.read, CHUNK_BYTES):
            yield chunk
