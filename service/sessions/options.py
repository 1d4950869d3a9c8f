"""Options of `POST /v1/sessions`, and which of them go together."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from service.frames.options import SmoothedOptions
from service.matting.placement import ORIGINAL
from service.media.video.types import MAX_SIDE
from service.options import BLUR, Requirements, check_background
from service.settings import AUTO_MODEL


class SessionOptions(SmoothedOptions):
    """Options of `POST /v1/sessions`."""

    requirements: ClassVar[Requirements] = {
        "background": (lambda o: o.output == "composite", "output=composite"),
        "blur_radius": (lambda o: o.background == BLUR, "background=blur"),
        "foreground": (lambda o: o.output != "alpha", "another output than alpha"),
        "shadow": (lambda o: o.output != "alpha", "another output than alpha"),
        "scale": (lambda o: o.output != "alpha", "another output than alpha"),
        "position": (lambda o: o.scale != ORIGINAL, "scale"),
        "prefer": (lambda o: o.model == AUTO_MODEL, "model=auto"),
        "ofd_threshold": (lambda o: o.smoothing == "ofd", "smoothing=ofd"),
        "format": (lambda o: o.packaging == "frames", "packaging=frames"),
        "keep_metadata": (lambda o: o.packaging == "fmp4", "packaging=fmp4"),
    }

    output: Literal["composite", "alpha", "cutout"] = Field(
        "composite",
        description="over `background`, the matte in grey, or straight RGBA (packaging=frames)",
    )
    packaging: Literal["fmp4", "frames"] = Field(
        "fmp4",
        description="answers are pieces of one fragmented H.264 MP4, or multipart/mixed with a "
        "picture a frame",
    )
    format: Literal["png", "webp", "jpeg"] = Field(
        "png", description="pictures of packaging=frames; no JPEG for a cutout"
    )
    fps: float = Field(
        30,
        ge=0.1,
        le=240,
        allow_inf_nan=False,
        description="rate of chunks of pictures, and of clips that do not say theirs",
    )
    timestamps: Literal["continue", "absolute"] = Field(
        "continue",
        description="a clip begins where the chunk before ended, or at its own times",
    )
    width: int | None = Field(
        None, ge=1, le=MAX_SIDE, description="pixels of the frames to come; with height"
    )
    height: int | None = Field(
        None, ge=1, le=MAX_SIDE, description="pixels of the frames to come; with width"
    )
    keep_metadata: bool = Field(
        False, description="keep the date, place and title of the first chunk's clip"
    )
    background: Annotated[str, AfterValidator(check_background)] = Field(
        "white",
        max_length=64,
        examples=["#00b140", "blur"],
        description="behind `composite`: #rrggbb, a CSS colour name, or `blur`",
    )

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of the frames, if they were told."""
        if self.height is None or self.width is None:
            return None
        return self.height, self.width

    @model_validator(mode="after")
    def refuse_half_a_size(self) -> Self:
        if (self.width is None) != (self.height is None):
            raise ValueError("width and height go together")
        return self
