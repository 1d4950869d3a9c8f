"""Options that stills and clips share."""

import difflib
import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import ImageColor
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from service.errors import InvalidOption
from service.matting.composite import Background, Blur
from service.matting.crop import Box
from service.matting.hint import Region, parse_roi
from service.matting.placement import ORIGINAL, parse_position, parse_scale
from service.matting.shadow import ShadowName
from service.settings import AUTO_MODEL

MIN_REF_SIZE, MAX_REF_SIZE = 64, 1024
REF_SIZE_STEP = 32
Options = TypeVar("Options", bound=BaseModel)
BLUR = "blur"
MAX_BRUSH = 100  # pixels of erode, dilate and feather


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


def check_roi(value: str | None) -> str | None:
    if value is not None:
        parse_roi(value)
    return value


def check_scale(value: str) -> str:
    parse_scale(value)
    return value


def check_position(value: str) -> str:
    parse_position(value)
    return value


Scale = Annotated[str, AfterValidator(check_scale)]
Position = Annotated[str, AfterValidator(check_position)]


def check_background(value: str) -> str:
    return value if value == BLUR else check_colour(value)


# By option: when it has an effect, and what it needs for one.
Requirements = Mapping[str, tuple[Callable[[Any], Any], str]]


class MattingOptions(BaseModel):
    """Options that stills and clips share."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    requirements: ClassVar[Requirements]

    model: str = Field(
        AUTO_MODEL,
        max_length=128,
        description="a name from /v1/models; auto: the first, for speed on a CPU the fast one",
    )
    ref_size: int | None = Field(
        None,
        ge=MIN_REF_SIZE,
        le=MAX_REF_SIZE,
        multiple_of=REF_SIZE_STEP,
        description="shorter side at the network, pixels; default: the model's own, for photos "
        "its `photo_ref_sizes` where /v1/models names them: two passes, and for live frames four "
        "fifths of it on a CPU",
    )
    foreground: Literal["auto", "off"] = Field(
        "auto", description="estimate the person's own colour where alpha is between 0 and 1"
    )
    background: Annotated[str, AfterValidator(check_background)] = Field(
        "white",
        max_length=64,
        examples=["#00b140", "blur"],
        description="behind `composite`: #rrggbb, a CSS colour name, `blur`, or send the part "
        "`background_file`",
    )
    blur_radius: float | None = Field(
        None,
        gt=0,
        le=500,
        allow_inf_nan=False,
        description="pixels of the result, for background=blur; default: 1/40 of the longer side",
    )

    roi: Annotated[str | None, AfterValidator(check_roi)] = Field(
        None,
        max_length=48,
        examples=["16,0,32,48", "25%,0%,50%,100%"],
        description="left,top,width,height in pixels of the upright picture, or all in percent of "
        "it: the person is looked for there alone, and the rest is removed",
    )
    shadow: ShadowName = Field(
        "none",
        description="black, under the person: `soft` around, `drop` to the lower right; part of "
        "a cutout's alpha",
    )
    scale: Scale = Field(
        ORIGINAL,
        max_length=16,
        examples=["80%"],
        description="the person's size: `original`, or the part of the result, 10% to 100%, that "
        "their box fits into; then they are in the centre unless `position` says otherwise",
    )
    position: Position = Field(
        "auto",
        max_length=32,
        examples=["center", "50% 100%"],
        description="where the person is: `original`, `center`, or one or two percentages of the "
        "room beside and above as `background-position` of CSS has them; `auto`: `original`, with "
        "`scale` `center`",
    )
    threshold: float | None = Field(
        None, gt=0, lt=1, description="make alpha 0 or 1 at this value; default: keep it soft"
    )
    erode: int = Field(0, ge=0, le=MAX_BRUSH, description="shrink the matte, pixels of the result")
    dilate: int = Field(0, ge=0, le=MAX_BRUSH, description="grow the matte, pixels of the result")
    feather: float = Field(
        0,
        ge=0,
        le=MAX_BRUSH,
        allow_inf_nan=False,
        description="blur the matte, sigma in pixels of the result",
    )
    keep_largest: bool = Field(False, description="keep only the largest piece of the matte")
    existing_alpha: Literal["multiply", "ignore", "return"] = Field(
        "multiply",
        description="what transparency of the file does: multiply the matte, nothing, or be the "
        "matte without running the network",
    )

    @property
    def region(self) -> Region | None:
        """The part of the picture in which the person is looked for, None for all of it."""
        return None if self.roi is None else parse_roi(self.roi)

    @property
    def cleanup(self) -> dict[str, Any]:
        """The corrections of the matte, as `clean_alpha` takes them."""
        return {
            "threshold": self.threshold,
            "erode": self.erode,
            "dilate": self.dilate,
            "feather": self.feather,
            "keep_largest": self.keep_largest,
        }

    def choose_background(self, picture: NDArray[np.uint8] | None) -> Background:
        """Return what is behind the person; `picture` is the part `background_file`."""
        if picture is not None:
            return picture
        if self.background == BLUR:
            return Blur(self.blur_radius)
        return parse_colour(self.background)

    def is_changed(self, name: str) -> bool:
        """Say whether an option was given another value than its default."""
        value = getattr(self, name)
        return name in self.model_fields_set and value != type(self).model_fields[name].default

    @model_validator(mode="after")
    def check_ineffective_options(self) -> Self:
        """An option without effect is a mistake somebody would search for long.

        At its default value it asks for nothing: forms send all their fields.
        """
        for name, (is_used, need) in self.requirements.items():
            if self.is_changed(name) and not is_used(self):
                raise ValueError(f"{name} needs {need}")
        return self


def parse_options(kind: type[Options], given: Mapping[str, Any]) -> Options:
    """Check options that came as text or JSON; raises InvalidOption with the nearest valid name."""
    names = list(kind.model_fields)
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
            raise InvalidOption(
                f"there is no option `{name[:64]}`",
                hint=f"did you mean `{near[0]}`?" if near else f"options: {', '.join(names)}",
                errors=[{"loc": name[:64], "msg": "unknown option"}],
            )
    try:
        # JSON's null is how many clients write "not given".
        return kind.model_validate({k: value for k, value in given.items() if value is not None})
    except ValidationError as error:
        found = [
            {
                "loc": ".".join(str(part) for part in item["loc"]) or "options",
                "msg": item["msg"].removeprefix("Value error, "),
            }
            for item in error.errors(include_url=False, include_context=False)
        ]
        raise InvalidOption(f"{found[0]['loc']}: {found[0]['msg']}", errors=found) from None


def find_region(region: Region, image: NDArray[np.uint8]) -> Box:
    """Return where a region of interest is in a picture (H, W, C).

    Raises InvalidOption when the picture does not hold it.
    """
    try:
        return region.find_box(image.shape)
    except ValueError as error:
        raise InvalidOption(str(error)) from None


def check_background_file(options: MattingOptions, part: str, files: Mapping[str, Any]) -> None:
    """Refuse a background that came as the file `part` and would not be seen.

    Raises InvalidOption.
    """
    if part not in files:
        return
    is_seen, need = options.requirements["background"]
    if not is_seen(options):
        raise InvalidOption(f"{part} needs {need}")
    if options.is_changed("background"):
        raise InvalidOption(f"background and {part} are both given", hint="leave out one")


IMAGE, TRIMAP, BACKGROUND = "the image", "trimap_file", "background_file"
HINT = "hint_file"


def describe_option(schema: Mapping[str, Any]) -> str:
    """Return what an option means, its default at the end."""
    default = schema.get("default")
    if isinstance(default, list):
        default = ",".join(default)
    text = default if isinstance(default, str) else json.dumps(default)
    parts = [schema.get("description"), None if default is None else f"default: {text}"]
    return "; ".join(part for part in parts if part)
