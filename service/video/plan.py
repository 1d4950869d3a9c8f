"""From the options of a request to the plan of a clip."""

from typing import BinaryIO

from service.dependencies import Services
from service.errors import ImpossibleOutput, UnsupportedMedia
from service.limits import refuse_size
from service.still.pipeline import BACKGROUND, decode_picture
from service.video.clip import ClipPlan
from service.video.options import VideoOptions
from service.video.render import Look, Pixels


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
        outputs=options.outputs,
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
        start_s=options.start or 0.0,
        end_s=options.end,
        max_fps=options.max_fps,
    )
