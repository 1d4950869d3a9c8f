"""Decode one uploaded picture, within the limits on its size."""

from service.errors import MattingError, MediaLimitExceeded
from service.gate import Ticket
from service.media.decoder.client import Decoder
from service.media.image.types import ImageInfo, Picture
from service.options import IMAGE
from service.runtime import Runtime
from service.settings import Settings


async def decode_picture(
    runtime: Runtime, decoder: Decoder, name: str, data: bytes, ticket: Ticket | None = None
) -> Picture:
    """Return one decoded file; `ticket` is charged with its pixels before they are decoded.

    Raises the decoder's errors and MediaLimitExceeded, which name the file unless it is the image.
    """
    try:
        info = await runtime.workers.run(decoder.open_image, data)
        check_size(name, info, runtime.settings)
        if ticket is not None:
            ticket.add_megapixels(info.megapixels)
        return await runtime.workers.run(decoder.decode_image)
    except MattingError as error:
        if name != IMAGE and name not in error.detail:
            error.detail = f"{name}: {error.detail}"
        raise


def check_size(name: str, info: ImageInfo, settings: Settings) -> None:
    """Refuse a picture over the limits before its pixels are decoded; raises MediaLimitExceeded."""
    check_dimensions(
        f"{name} is {info.width} x {info.height} pixels",
        info.width,
        info.height,
        max_side=settings.image_max_side,
        max_megapixels=settings.image_max_megapixels,
        hint="send a smaller image",
    )


def check_dimensions(
    size: str, width: int, height: int, *, max_side: int, max_megapixels: float, hint: str
) -> None:
    """Raise MediaLimitExceeded for a picture with too long a side or too many pixels.

    `size` begins the sentence that says so.
    """
    if max(width, height) > max_side:
        raise MediaLimitExceeded(
            f"{size}; the longest side may have {max_side}",
            hint=hint,
            limit=max_side,
            actual=max(width, height),
        )
    megapixels = width * height / 1e6
    if megapixels > max_megapixels:
        raise MediaLimitExceeded(
            f"{size}, {megapixels:.1f} megapixels; the limit is {max_megapixels:g}",
            hint=hint,
            limit=max_megapixels,
            actual=round(megapixels, 3),
        )
