"""Options of `POST /v1/video`, and which of them go together."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from service.options import BLUR, MattingOptions, check_background, parse_colour


class VideoOptions(MattingOptions):
    """Options of `POST /v1/video`."""

    outputs: Literal["composite", "alpha"] = Field(
        "composite", description="H.264 MP4 over `background`, or of the matte in grey"
    )
    background: Annotated[str, AfterValidator(check_background)] = Field(
        "white",
        max_length=64,
        examples=["#00b140", "blur"],
        description="behind `composite`: #rrggbb, a CSS colour name, `blur`, or send a picture as "
        "the part `background_file`",
    )
    blur_radius: float | None = Field(
        None,
        gt=0,
        le=500,
        allow_inf_nan=False,
        description="pixels, for background=blur; default: 1/40 of the longer side",
    )
    refine: Literal["auto", "off"] = Field(
        "auto", description="bring the mattes to the clip's size along its edges, or linearly"
    )
    foreground: Literal["auto", "off"] = Field(
        "auto", description="estimate the person's own colour where alpha is between 0 and 1"
    )
    smoothing: Literal["ofd", "off"] = Field("ofd", description="one-frame delay against flicker")
    ofd_threshold: float = Field(0.1, gt=0, lt=1, description="difference that counts as flicker")
    audio: Literal["keep", "drop"] = "keep"
    crf: int = Field(20, ge=0, le=51, description="x264's constant rate factor; lower is better")
    preset: Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow"] = (
        "veryfast"
    )

    @property
    def background_rgb(self) -> tuple[int, int, int]:
        return parse_colour(self.background)

    @model_validator(mode="after")
    def refuse_idle_options(self) -> "VideoOptions":
        """An option without effect is a mistake somebody would search for long."""
        for name, (is_used, need) in _NEEDS.items():
            if name in self.model_fields_set and not is_used(self):
                raise ValueError(f"{name} needs {need}")
        return self


_NEEDS: dict[str, tuple[Callable[[VideoOptions], Any], str]] = {
    "background": (lambda o: o.outputs == "composite", "outputs=composite"),
    "blur_radius": (lambda o: o.background == BLUR, "background=blur"),
    "foreground": (lambda o: o.outputs != "alpha", "another output than alpha"),
    "ofd_threshold": (lambda o: o.smoothing == "ofd", "smoothing=ofd"),
}
