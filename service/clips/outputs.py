"""The kinds of clip results: file, codec, container, and the picture each one shows."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from service.frames.render import PictureName
from service.inference.providers import count_threads
from service.media.audio.types import Container
from service.media.video.types import VideoInfo
from service.media.video.writing.animation_writer import GifWriter, WebpWriter
from service.media.video.writing.encoders import PRORES, VP9, h264
from service.media.video.writing.frames_writer import FramesWriter
from service.media.video.writing.result_writer import ResultWriter
from service.media.video.writing.stacked_writer import StackedWriter
from service.media.video.writing.writer import VideoWriter

OutputName = Literal[
    "composite", "alpha", "webm", "prores", "frames", "green", "stacked", "gif", "webp"
]
NAMES: tuple[OutputName, ...] = get_args(OutputName)
MAX_ENCODER_THREADS = 4


@dataclass(frozen=True)
class Output:
    """One kind of result; `container` None is pictures, without audio."""

    file: str
    content_type: str
    picture: PictureName
    container: Container | None
    codec: str
    about: str
    is_joinable: bool = True

    @property
    def has_alpha(self) -> bool:
        """Whether each picture carries its own alpha."""
        return self.picture == "cutout" and self.container != "mp4"


OUTPUTS: dict[OutputName, Output] = {
    "composite": Output(
        "composite.mp4", "video/mp4", "composite", "mp4", "h264", "over `background`"
    ),
    "alpha": Output("alpha.mp4", "video/mp4", "grey", "mp4", "h264", "the matte in grey"),
    "webm": Output("cutout.webm", "video/webm", "cutout", "webm", "vp9", "straight alpha"),
    "prores": Output(
        "cutout.mov", "video/quicktime", "cutout", "mov", "prores 4444", "straight alpha"
    ),
    "frames": Output(
        "frames.zip", "application/zip", "cutout", None, "png", "straight RGBA, timestamps.csv"
    ),
    "green": Output("green.mp4", "video/mp4", "green", "mp4", "h264", "over #00b140"),
    "stacked": Output(
        "stacked.mp4", "video/mp4", "cutout", "mp4", "h264", "colour above, the matte below"
    ),
    "gif": Output(
        "cutout.gif",
        "image/gif",
        "cutout",
        None,
        "gif",
        "animated, pixels opaque or transparent",
        False,
    ),
    "webp": Output(
        "cutout.webp",
        "image/webp",
        "cutout",
        None,
        "webp",
        "animated, straight alpha",
        is_joinable=False,
    ),
}


def list_containers(names: Iterable[OutputName]) -> tuple[Container, ...]:
    """Return the containers of these results, each once."""
    found = [container for name in names if (container := OUTPUTS[name].container)]
    return tuple(dict.fromkeys(found))


def open_writer(
    name: OutputName, folder: Path, info: VideoInfo, *, crf: int, preset: str
) -> ResultWriter:
    """Begin the file of one result in `folder`; raises VideoWriteError."""
    output = OUTPUTS[name]
    path = folder / output.file
    # Every further thread of an encoder adds to its work and its memory: no more than are of use
    # beside the network and the other stages.
    threads = max(1, min(MAX_ENCODER_THREADS, count_threads() // 2))
    if name == "stacked":
        return StackedWriter(path, info, h264(crf, preset), threads=threads)
    if name == "gif":
        return GifWriter(path, info)
    if name == "webp":
        return WebpWriter(path, info)
    match output.container:
        case None:
            return FramesWriter(path, info)
        case "mp4":
            return VideoWriter(path, info, h264(crf, preset), threads=threads)
        case "webm":
            return VideoWriter(path, info, VP9, threads=threads)
        case "mov":
            return VideoWriter(path, info, PRORES, threads=threads)
