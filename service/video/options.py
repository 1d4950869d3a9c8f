"""Options of `POST /v1/video`, and which of them go together."""

from typing import ClassVar, Literal

from pydantic import Field

from service.options import BLUR, MattingOptions, Needs


class VideoOptions(MattingOptions):
    """Options of `POST /v1/video`."""

    needs: ClassVar[Needs] = {
        "background": (lambda o: o.outputs == "composite", "outputs=composite"),
        "blur_radius": (lambda o: o.background == BLUR, "background=blur"),
        "foreground": (lambda o: o.outputs != "alpha", "another output than alpha"),
        "ofd_threshold": (lambda o: o.smoothing == "ofd", "smoothing=ofd"),
    }

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
