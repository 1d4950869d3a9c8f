"""The plan of a clip: request options and background, resolved."""

from dataclasses import dataclass
from typing import BinaryIO

from service.clips.options import VideoOptions
from service.clips.outputs import OutputName, list_containers
from service.decoding import decode_picture
from service.errors import (
    MattingError,
    UnsupportedMedia,
    refuse_size,
)
from service.frames.background_clip import BackgroundClip
from service.frames.render import Pixels, RenderOptions, make_render_options
from service.media.decoder.client import Decoder
from service.media.video.types import ClipSelection, Deinterlace
from service.options import BACKGROUND
from service.runtime import Runtime


@dataclass(frozen=True, eq=False)
class BackgroundFile:
    """What came to be put behind the person, (h, w, 3) uint8 of any size or a clip.

    `changes`: what of a picture was mended or converted, for people.
    """

    content: Pixels | BackgroundClip
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClipPlan:
    """What is made of a clip; `ofd_threshold` None: no smoothing, `ref_size` None: the model's.

    `start_s`, `end_s`, `max_fps`: which frames of it, as ClipSelection has it. `background_notes`:
    the changes of a BackgroundFile.
    """

    outputs: tuple[OutputName, ...]
    render_options: RenderOptions
    ref_size: int | None
    ofd_threshold: float | None
    keep_audio: bool
    crf: int
    preset: str
    start_s: float = 0.0
    end_s: float | None = None
    max_fps: float | None = None
    deinterlace: Deinterlace = "auto"
    tone_maps: bool = True
    keeps_metadata: bool = False
    background_notes: tuple[str, ...] = ()

    @property
    def selection(self) -> ClipSelection:
        """What must be read of the clip for it."""
        audio = list_containers(self.outputs) if self.keep_audio else ()
        return ClipSelection(
            audio,
            self.start_s,
            self.end_s,
            self.max_fps,
            self.deinterlace,
            self.tone_maps,
            self.keeps_metadata,
        )


# Enough for the header of a picture, and for a decoder to say that it is none.
HEAD_BYTES = 4096
MOVING = ("GIF",)  # pictures that are read as clips


async def read_background(runtime: Runtime, file: BinaryIO | None) -> BackgroundFile | None:
    """Decode the picture to put behind the person.

    What is no picture is taken for a clip, which is opened when the work begins. Raises
    PayloadTooLarge and the errors of the decoder.
    """
    if file is None:
        return None
    head = await runtime.files.run(file.read, HEAD_BYTES)
    async with runtime.decoders.borrow("still") as decoder:
        if await is_clip(runtime, decoder, head):
            return BackgroundFile(BackgroundClip(file))
        limit_bytes = runtime.settings.image_max_bytes
        data = head + await runtime.files.run(file.read, limit_bytes + 1)
        if len(data) > limit_bytes:
            raise refuse_size(BACKGROUND, limit_bytes, len(data))
        picture = await decode_picture(runtime, decoder, BACKGROUND, data)
    pixels = await runtime.workers.run(picture.lay_over_white)
    return BackgroundFile(pixels, tuple(picture.list_changes()))


async def is_clip(runtime: Runtime, decoder: Decoder, head: bytes) -> bool:
    """Say whether a file that begins so is no picture, or one that moves."""
    try:
        info = await runtime.workers.run(decoder.open_image, head)
    except UnsupportedMedia:
        return True
    except MattingError:  # a picture, cut short here or broken
        return False
    return info.format in MOVING


def make_plan(options: VideoOptions, background: BackgroundFile | None) -> ClipPlan:
    """Return the plan of a clip."""
    content = None if background is None else background.content
    return ClipPlan(
        outputs=options.outputs,
        render_options=make_render_options(
            options,
            content if isinstance(content, BackgroundClip) else options.choose_background(content),
        ),
        ref_size=options.ref_size,
        ofd_threshold=options.flicker_threshold,
        keep_audio=options.audio == "keep",
        crf=options.crf,
        preset=options.preset,
        start_s=options.start or 0.0,
        end_s=options.end,
        max_fps=options.max_fps,
        deinterlace=options.deinterlace,
        tone_maps=options.hdr == "tonemap",
        keeps_metadata=options.keep_metadata,
        background_notes=() if background is None else background.changes,
    )
