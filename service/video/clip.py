"""One whole clip to the files of its results, in a thread of its own."""

import errno
import logging
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
from service.video.pipeline import MattedFrame, Segment, process_segment
from service.video.render import Look, Renderer
from service.video.report import SegmentReport

log = logging.getLogger(__name__)
OutputName = Literal["composite", "alpha"]


@dataclass(frozen=True)
class ClipPlan:
    """What is made of a clip; `ofd_threshold` None: no smoothing, `ref_size` None: the model's."""

    outputs: tuple[OutputName, ...]
    look: Look
    ref_size: int | None
    ofd_threshold: float | None
    keep_sound: bool
    crf: int
    preset: str


@dataclass(frozen=True)
class ResultFile:
    """One finished file: its name as clients see it is `path.name`."""

    path: Path
    content_type: str
    bytes: int


@dataclass(frozen=True)
class MattedClip:
    """The results of a clip in the order of the plan, and the facts about it.

    `width` and `height` are those of the pictures written, padded where the codec needs it.
    """

    results: tuple[ResultFile, ...]
    width: int
    height: int
    info: VideoInfo
    report: SegmentReport


@dataclass(frozen=True)
class ClipWatch:
    """Whom to tell: `on_open` gets the facts of the clip, `on_frame` is called after each frame."""

    on_open: Callable[[VideoInfo], None] = lambda info: None
    on_frame: Callable[[], None] = lambda: None


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
    folder: Path,
    watch: ClipWatch,
    stop: threading.Event,
    *,
    max_s: float,
) -> MattedClip:
    """Matte a clip of at most `max_s` seconds into files in `folder`, none of them on an error.

    Raises the errors of the decoder and the batcher, ImpossibleOutput, InsufficientStorage, and
    SegmentStopped once `stop` is set.
    """
    info = open_clip(decoder, file, max_s)
    watch.on_open(info)
    segment = Segment(
        make_tensor=lambda image: fit_to_network(
            image, network.info, plan.ref_size, settings.network_max_megapixels
        ),
        infer=network.infer,
        ahead=network.ahead,
        ofd_threshold=plan.ofd_threshold,
    )
    output = plan.outputs[0]
    renderer = Renderer(plan.look, output, info.height, info.width)
    path = folder / name_result(output)
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
                watch.on_frame()

            report = process_segment(decoder.read_video(info), segment, write, stop)
    except VideoWriteError as error:
        raise explain_write_error(error) from error
    result = ResultFile(path, "video/mp4", path.stat().st_size)
    return MattedClip((result,), writer.width, writer.height, info, report)


def name_result(output: OutputName) -> str:
    """Return the name of an output's file."""
    return f"{output}.mp4"


def open_clip(decoder: Decoder, file: BinaryIO, max_s: float) -> VideoInfo:
    """Return the facts of a clip; raises MediaLimitExceeded for more than `max_s` seconds."""
    info = decoder.open_video(file, max_s=max_s)
    if info.duration_s is not None and info.duration_s > max_s:
        raise MediaLimitExceeded(
            f"the clip lasts {info.duration_s:.1f} s, the limit is {max_s:g}",
            limit=max_s,
            actual=round(info.duration_s, 3),
        )
    return info


def explain_write_error(error: VideoWriteError) -> MattingError:
    """Return what a failed encoder or disk means for the request."""
    if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ENOSPC:
        return InsufficientStorage("the disk of the service is full", retry_after_s=60)
    log.warning("a clip could not be written", exc_info=error)
    return ImpossibleOutput(
        "this clip cannot be written as H.264 MP4", hint="convert the clip to MP4 first"
    )
