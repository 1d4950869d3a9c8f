"""Options that stills and clips share."""

from PIL import ImageColor
from pydantic import BaseModel, ConfigDict, Field

MIN_REF_SIZE, MAX_REF_SIZE = 64, 1024
BLUR = "blur"
BLUR_SHARE = 1 / 40  # of the longer side: the radius that nobody chose


def parse_colour(value: str) -> tuple[int, int, int]:
    """Return the channels of a colour that `check_colour` has let through."""
    red, green, blue = ImageColor.getrgb(value)[:3]
    return red, green, blue


def check_colour(value: str) -> str:
    try:
        colour = ImageColor.getrgb(value)
    except ValueError:
        raise ValueError("must be #rrggbb or the name of a CSS colour") from None
    if len(colour) != 3:
        raise ValueError("must be opaque: #rrggbb or the name of a CSS colour")
    return value


def check_background(value: str) -> str:
    return value if value == BLUR else check_colour(value)


class MattingOptions(BaseModel):
    """Options that stills and clips share."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ref_size: int | None = Field(
        None,
        ge=MIN_REF_SIZE,
        le=MAX_REF_SIZE,
        multiple_of=32,
        description="shorter side at the network, pixels; default: the model's own",
    )
