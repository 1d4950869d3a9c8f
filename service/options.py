"""Options that clients may give: what stills and clips share, and those of clips."""

from typing import Annotated, Literal

from PIL import ImageColor
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

MIN_REF_SIZE, MAX_REF_SIZE = 64, 1024


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


Colour = Annotated[str, AfterValidator(check_colour), Field(examples=["#00b140"], max_length=64)]


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


class VideoOptions(MattingOptions):
    """Options of `POST /v1/video`."""

    background: Colour = Field("white", description="colour behind `composite`")
    outputs: Literal["composite", "alpha"] = Field(
        "composite", description="H.264 MP4 over `background`, or of the matte in grey"
    )
    smoothing: Literal["ofd", "off"] = Field("ofd", description="one-frame delay against flicker")
    ofd_threshold: float = Field(0.1, gt=0, lt=1, description="difference that counts as flicker")
    audio: Literal["keep", "drop"] = "keep"
    crf: int = Field(20, ge=0, le=51, description="x264's constant rate factor; lower is better")
    preset: Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow"] = (
        "veryfast"
    )

    @model_validator(mode="after")
    def refuse_idle_options(self) -> "VideoOptions":
        given = self.model_fields_set
        if "background" in given and self.outputs != "composite":
            raise ValueError("background needs outputs=composite")
        if "ofd_threshold" in given and self.smoothing == "off":
            raise ValueError("ofd_threshold needs smoothing=ofd")
        return self

    @property
    def background_rgb(self) -> tuple[int, int, int]:
        return parse_colour(self.background)
