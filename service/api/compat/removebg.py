"""remove.bg's parameters, mapped to ours.

Names, values and codes are those of its OpenAPI document, version 1.0.0. What we do not do is
refused with its own kind of error, never accepted and ignored.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from PIL import ImageColor
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from service.errors import InvalidOption
from service.matting.placement import parse_placement
from service.options import Position, Scale, parse_options
from service.stills.options import Format, ImageOptions, check_margin

Rgba = tuple[int, int, int, int]
HEX = re.compile(r"#?([0-9a-fA-F]{8}|[0-9a-fA-F]{6}|[0-9a-fA-F]{4}|[0-9a-fA-F]{3})")
NAME = re.compile(r"[a-zA-Z]+")
# Theirs and ours; their largest result has 25 megapixels unless 50 are asked for by name.
SIZES = {
    "preview": "preview",
    "small": "preview",
    "regular": "preview",
    "medium": "1.5MP",
    "hd": "4MP",
    "full": "25MP",
    "4k": "25MP",
    "auto": "25MP",
    "50MP": "50MP",
}
FORMATS: dict[str, Format] = {"png": "png", "jpg": "jpeg", "webp": "webp", "zip": "zip"}


def parse_bg_color(text: str) -> Rgba:
    """Return the channels, 0 to 255, of 3, 4, 6 or 8 hex digits or a CSS name; raises ValueError.

    The `#` may be left out.
    """
    if found := HEX.fullmatch(text):
        digits = found[1] if len(found[1]) > 4 else "".join(digit * 2 for digit in found[1])
        red, green, blue, alpha = bytes.fromhex(digits.ljust(8, "f"))
        return red, green, blue, alpha
    if not NAME.fullmatch(text):
        raise ValueError("must be 3, 4, 6 or 8 hex digits or a colour name")
    red, green, blue = ImageColor.getrgb(text)[:3]
    return red, green, blue, 255


def check_bg_color(text: str) -> str:
    try:
        alpha = parse_bg_color(text)[3]
    except ValueError:
        raise ValueError("must be 3, 4, 6 or 8 hex digits or a colour name") from None
    if alpha not in (0, 255):
        raise ValueError("this server does no half-transparent backgrounds, only opaque ones")
    return text


def check_type(text: str) -> str:
    if text not in ("auto", "person"):
        raise ValueError(f"`{text[:32]}` is not supported, this server finds people: auto, person")
    return text


def check_shadow_type(text: str) -> str:
    if text not in ("none", "drop"):
        raise ValueError(f"`{text[:32]}` is not supported by this server: none, drop")
    return text


def allow_only(*values: str) -> AfterValidator:
    """Return the check of a parameter whose default is all we do."""

    def check(value: object) -> object:
        if str(value).lower() not in values:
            allowed = f"only `{values[0]}`, the default" if values else "leave it out"
            raise ValueError(f"not supported by this server: {allowed}")
        return value

    return AfterValidator(check)


WHOLE_IMAGE = [f"{x} {y} 100% 100%" for x in ("0%", "0px", "0") for y in ("0%", "0px", "0")]


class RemoveBgOptions(BaseModel):
    """Parameters of `POST /v1.0/removebg` beside the pictures."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    size: Literal["preview", "small", "regular", "medium", "hd", "full", "4k", "auto", "50MP"] = (
        Field(
            "preview",
            description="largest result, never enlarged: `preview`, `small`, `regular` 0.25 MP; "
            "`medium` 1.5 MP; `hd` 4 MP; `full`, `4k`, `auto` 25 MP; `50MP`",
        )
    )
    type: Annotated[str, AfterValidator(check_type)] = Field(
        "auto", description="`auto` or `person`; others are refused"
    )
    type_level: Annotated[Literal["none", "1", "2", "latest"], BeforeValidator(str)] = Field(
        "1", description="`none`: no header X-Type"
    )
    format: Literal["auto", "png", "jpg", "zip", "webp"] = Field(
        "auto",
        description="`auto`: jpg where a background fills the picture, else png; `jpg`: over white "
        "unless a background is given; `zip`: color.jpg and alpha.png",
    )
    channels: Literal["rgba", "alpha"] = Field("rgba", description="the picture, or the matte")
    bg_color: Annotated[str | None, AfterValidator(lambda v: v and check_bg_color(v))] = Field(
        None,
        max_length=64,
        examples=["81d4fa", "#fff", "green"],
        description="3, 4, 6 or 8 hex digits, with or without #, or a colour name; opaque (or "
        "wholly transparent: no background)",
    )
    crop: bool = Field(False, description="crop to the person")
    crop_margin: Annotated[str, AfterValidator(check_margin)] = Field(
        "0",
        max_length=64,
        examples=["30px", "10%"],
        description="around the person, with crop=true; ends at the image's border",
    )
    roi: Annotated[str, allow_only(*WHOLE_IMAGE)] = Field(
        "0% 0% 100% 100%", description="only the whole image"
    )
    scale: Scale = Field(
        "original",
        max_length=16,
        examples=["80%"],
        description="the person's size: `original`, or 10% to 100% of the picture, then in its "
        "centre",
    )
    position: Position = Field(
        "auto",
        max_length=32,
        examples=["center", "50% 100%"],
        description="`original`, `center`, or one or two of 0% to 100%, horizontally and "
        "vertically; not given: `original`, with `scale` `center`",
    )
    add_shadow: bool = Field(False, description="true: as shadow_type=drop")
    shadow_type: Annotated[str, AfterValidator(check_shadow_type)] = Field(
        "none", max_length=32, description="`none`, `drop`; others are refused"
    )
    shadow_method: Annotated[str, allow_only("latest")] = Field(
        "latest", description="only `latest`, without meaning"
    )
    shadow_opacity: Annotated[str | None, allow_only()] = Field(None, description="refused")
    semitransparency: Annotated[bool, allow_only("true")] = Field(True, description="only true")

    @property
    def canvas(self) -> dict[str, str]:
        """What changes the person's place and shadow, by our names; empty for nothing."""
        shadow = "drop" if self.add_shadow else self.shadow_type
        changes = {} if shadow == "none" else {"shadow": shadow}
        if parse_placement(self.scale, self.position) is not None:
            changes |= {"scale": self.scale, "position": self.position}
        return changes

    @property
    def background(self) -> str | None:
        """The colour behind the person as #rrggbb, None for none."""
        if self.bg_color is None:
            return None
        red, green, blue, alpha = parse_bg_color(self.bg_color)
        return f"#{red:02x}{green:02x}{blue:02x}" if alpha else None


def parse_removebg_options(given: Mapping[str, Any]) -> RemoveBgOptions:
    """Check the parameters; raises InvalidOption with remove.bg's code, such as `invalid_roi`."""
    try:
        return parse_options(RemoveBgOptions, given)
    except InvalidOption as error:
        name = str(error.errors[0]["loc"]) if error.errors else ""
        known = name in RemoveBgOptions.model_fields
        error.removebg_code = f"invalid_{name}" if known else "unknown_parameter"
        raise


def map_removebg_options(
    asked: RemoveBgOptions, has_picture_behind: bool
) -> tuple[ImageOptions, Format]:
    """Return our options and the format of the answer; raises InvalidOption for odd pairs."""
    has_background = has_picture_behind or asked.background is not None
    if has_picture_behind and asked.bg_color is not None:
        raise refuse("bg_color and bg_image_file are both given", "multiple_bg_sources")
    if has_background and asked.channels == "alpha":
        raise refuse("channels=alpha shows no background", "invalid_channels")
    if asked.format == "zip" and (has_background or asked.channels == "alpha"):
        raise refuse("format=zip is the whole cutout: no background, no channels", "invalid_format")
    if "crop_margin" in asked.model_fields_set and asked.crop_margin != "0" and not asked.crop:
        raise refuse("crop_margin needs crop=true", "invalid_crop_margin")
    if asked.canvas and (asked.format == "zip" or asked.channels == "alpha"):
        name = next(iter(asked.canvas))
        what = f"{name} needs a picture of the person: no format=zip, no channels=alpha"
        raise refuse(what, "invalid_shadow_type" if name == "shadow" else f"invalid_{name}")
    options: dict[str, Any] = {"size": SIZES[asked.size], "crop": asked.crop} | asked.canvas
    if asked.crop:
        options["crop_margin"] = asked.crop_margin
    format = FORMATS.get(asked.format, "jpeg" if has_background else "png")
    if asked.channels == "alpha":
        options["output"] = "alpha"
    elif format == "zip":
        options["output"] = "bundle"
    elif has_background or format == "jpeg":
        options["output"] = "composite"
        if asked.background is not None:
            options["background"] = asked.background
    else:
        options["output"] = "cutout"
    return ImageOptions(**options), format


def refuse(detail: str, code: str, hint: str | None = None) -> InvalidOption:
    """Return the error for parameters that cannot be used, under remove.bg's code."""
    return InvalidOption(detail, hint=hint, removebg_code=code)
