"""From the options of a request to the plan of a clip."""

from typing import BinaryIO

from service.api.dependencies import Services
from service.clips.matte import ClipPlan
from service.clips.options import VideoOptions
from service.errors import MattingError, UnsupportedMedia
from service.frames.background_clip import BackgroundClip
from service.frames.render import Pixels, make_render_options
from service.limits import refuse_size
from service.media.decoder.client import Decoder
from service.stills.matte import BACKGROUND, decode_picture

# Enough for the header of a picture, and for a decoder to say that it is none.
HEAD_BYTES = 4096
MOVING = ("GIF",)  # pictures that are read as clips


async def read_background(
    services: Services, file: BinaryIO | None
) -> Pixels | BackgroundClip | None:
    """Decode the picture to put behind the person, (h, w, 3) uint8 of any size.

    What is no picture is taken for a clip, which is opened when the work begins. Raises
    PayloadTooLarge and the errors of the decoder.
    """
    if file is None:
        return None
    head = await services.workers.run(file.read, HEAD_BYTES)
    async with services.decoders.borrow("still") as decoder:
        if await is_clip(services, decoder, head):
            return BackgroundClip(file)
        limit_bytes = services.settings.image_max_bytes
        data = head + await services.workers.run(file.read, limit_bytes + 1)
        if len(data) > limit_bytes:
            raise refuse_size(BACKGROUND, limit_bytes, len(data))
        picture = await decode_picture(services, decoder, BACKGROUND, data)
    return picture.flat


async def is_clip(services: Services, decoder: Decoder, head: bytes) -> bool:
    """Say whether a file that begins so is no picture, or one that moves."""
    try:
        info = await services.workers.run(decoder.open_image, head)
    except UnsupportedMedia:
        return True
    except MattingError:  # a picture, cut short here or broken
        return False
    return info.format in MOVING


def make_plan(options: VideoOptions, background: Pixels | BackgroundClip | None) -> ClipPlan:
    """Return the plan; `background` is what came as a file."""
    return ClipPlan(
        outputs=options.outputs,
        render_options=make_render_options(
            options,
            background
            if isinstance(background, BackgroundClip)
            else options.choose_background(background),
        ),
        ref_size=options.ref_size,
        ofd_threshold=options.threshold,
        keep_audio=options.audio == "keep",
        crf=options.crf,
        preset=options.preset,
        start_s=options.start or 0.0,
        end_s=options.end,
        max_fps=options.max_fps,
    )
