"""One uploaded picture: its header, the limits on its size, its pixels."""

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
    longest = max(info.width, info.height)
    size = f"{name} is {info.width} x {info.height} pixels"
    if longest > settings.image_max_side:
        raise MediaLimitExceeded(
            f"{size}; the longest side may have {settings.image_max_side}",
            hint="send a smaller image",
            limit=settings.image_max_side,
            actual=longest,
        )
    if info.megapixels > settings.image_max_megapixels:
        raise MediaLimitExceeded(
            f"{size}, {info.megapixels:.1f} megapixels; the limit is "
            f"{settings.image_max_megapixels:g}",
            hint="send a smaller image",
            limit=settings.image_max_megapixels,
            actual=round(info.megapixels, 3),
        )
