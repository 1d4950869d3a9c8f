"""Options of `POST /v1/image`, and which of them go together."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from service.matting.crop import parse_margin
from service.matting.sizes import check_size
from service.options import BLUR, MattingOptions, Requirements

Output = Literal["alpha", "cutout", "composite", "foreground", "bundle"]
Format = Literal["png", "webp", "jpeg", "avif", "zip", "psd", "json"]
MAX_KEEP_S = 7 * 24 * 3600


def check_margin(value: str) -> str:
    parse_margin(value)
    return value


class ImageOptions(MattingOptions):
    """Options of `POST /v1/image`."""

    requirements: ClassVar[Requirements] = {
        "background": (lambda o: o.output == "composite", "output=composite"),
        "blur_radius": (lambda o: o.background == BLUR, "background=blur"),
        "foreground": (lambda o: o.has_colour, "another output than alpha"),
        "icc": (lambda o: o.has_colour, "another output than alpha"),
        "crop_margin": (lambda o: o.crop, "crop=true"),
        "shadow": (lambda o: o.shows_person, "output=cutout or composite"),
        "scale": (lambda o: o.shows_person, "output=cutout or composite"),
        "position": (lambda o: o.shows_person, "output=cutout or composite"),
    }

    output: Output = Field(
        "alpha",
        description="`alpha`: 8-bit grey; `cutout`: straight RGBA; `composite`: over `background`; "
        "`foreground`: the person's colour without the background's, RGB; "
        "`bundle`: ZIP of color.jpg and alpha.png, or a PSD",
    )
    format: Format | None = Field(
        None,
        description="default: from `Accept`, else png; `json` carries the image in base64, `psd` "
        "has the photo and the person as layers",
    )
    refine: Literal["auto", "fine", "off"] = Field(
        "auto",
        description="bring the matte to the full size along the edges, or linearly; `fine` looks "
        "for strands of hair, which takes seconds",
    )
    quality: int = Field(90, ge=1, le=100, description="of JPEG, WebP and AVIF")
    compression: int = Field(1, ge=0, le=9, description="of PNG")
    crop: bool = Field(False, description="crop to the person")
    crop_margin: Annotated[str, AfterValidator(check_margin)] = Field(
        "0",
        max_length=64,
        examples=["20px", "5%"],
        description="around the person, pixels of the image or % of the person's box; one, two or "
        "four values as in CSS",
    )
    size: Annotated[str, AfterValidator(check_size)] = Field(
        "full",
        max_length=32,
        examples=["preview", "800x600", "4MP"],
        description="`full`, `preview` (0.25 MP), a box `WxH`, or at most `NMP`; never enlarges",
    )
    icc: Literal["keep", "srgb", "strip"] = Field(
        "keep",
        description="colour profile: the image's own (composites, and colour that is described "
        "without a profile, are sRGB), sRGB, or none (the values are sRGB)",
    )
    keep_metadata: bool = Field(False, description="keep EXIF, the place included")
    keep_s: int = Field(
        0,
        ge=0,
        le=MAX_KEEP_S,
        description="seconds to keep upload and alpha, for POST /v1/image/{result_id}",
    )

    @property
    def has_colour(self) -> bool:
        """Whether the result shows the person, not only the matte."""
        return self.output != "alpha"

    @property
    def shows_person(self) -> bool:
        """Whether the result shows the person before something else, or nothing."""
        return self.output in ("cutout", "composite")

    @model_validator(mode="after")
    def check_output_format(self) -> Self:
        if self.output == "bundle" and self.format not in (None, "zip", "psd", "json"):
            raise ValueError("output=bundle is a zip; leave out format, or ask for zip, psd, json")
        if self.format in ("zip", "psd") and self.output != "bundle":
            raise ValueError(f"format={self.format} needs output=bundle")
        return self
