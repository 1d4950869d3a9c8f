"""One whole clip to one MP4: what a request waits for, in a thread of its own."""

import errno
import logging
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from service.errors import ImpossibleOutput, InsufficientStorage, MattingError, MediaLimitExceeded
from service.inference.batcher import Matte
from service.inference.models import ModelInfo
from service.inference.preprocessing import fit_to_network
from service.media.decoders import Decoder
from service.media.video_types import AudioPacket, VideoInfo
from service.media.video_writer import VideoWriteError, VideoWriter
from service.settings import Settings
from service.video.pipeline import MattedFrame, Segment, SegmentReport, process_segment
from service.video.render import Look, Renderer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClipPlan:
    """What is made of a clip; `ofd_threshold` None: no smoothing, `ref_size` None: the model's."""

    output: Literal["composite", "alpha"]
    look: Look
    ref_size: int | None
    ofd_threshold: float | None
    keep_sound: bool
    crf: int
    preset: str


@dataclass(frozen=True)
class MattedClip:
    """A finished MP4: an open file whose name is already gone, and the facts about it."""

    file: BinaryIO
    bytes: int
    width: int
    height: int
    info: VideoInfo
    report: SegmentReport


@dataclass(frozen=True)
class Network:
    """The network as a clip sees it: `infer` queues an input, `ahead` at once are useful."""

    info: ModelInfo
    infer: Callable[[NDArray[np.float32]], Future[Matte]]
    ahead: int


def matte_clip(
    settings: Settings,
    network: Network,
    decoder: Decoder,
    file: BinaryIO,
    plan: ClipPlan,
    on_frame: Callable[[], None],
    stop: threading.Event,
) -> MattedClip:
    """Matte a clip into an MP4 in a folder that is gone when this returns or raises.

    `on_frame` is called after each frame written. Raises the errors of the decoder and the
    batcher, ImpossibleOutput, InsufficientStorage, and SegmentStopped once `stop` is set.
    """
    info = open_clip(decoder, file, settings)
    segment = Segment(
        make_tensor=lambda image: fit_to_network(
            image, network.info, plan.ref_size, settings.network_max_megapixels
        ),
        infer=network.infer,
        ahead=network.ahead,
        ofd_threshold=plan.ofd_threshold,
    )
    renderer = Renderer(plan.look, plan.output, info.height, info.width)
    with tempfile.TemporaryDirectory(prefix="matting-", dir=settings.data_dir) as folder:
        path = Path(folder, f"{plan.output}.mp4")
        try:
            with VideoWriter(
                path, info, crf=plan.crf, preset=plan.preset, audio=plan.keep_sound
            ) as writer:

                def write(item: MattedFrame | AudioPacket) -> None:
                    if isinstance(item, AudioPacket):
                        writer.write_audio(item)
                        return
                    frame = item.frame
                    writer.write_frame(renderer.render(item), frame.pts, frame.duration)
                    on_frame()

                report = process_segment(decoder.read_video(info), segment, write, stop)
        except VideoWriteError as error:
            raise explain_write_error(error) from error
        size = path.stat().st_size
        return MattedClip(path.open("rb"), size, writer.width, writer.height, info, report)


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
