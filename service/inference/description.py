"""What a network wants to be shown and what its output means: ONNX metadata or a TOML file.

Files of `matte export` say it in their metadata. For a network of others a small TOML file lies
beside it, with the same name: `u2netp.onnx` and `u2netp.toml`.
"""

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Number = Annotated[float, Field(allow_inf_nan=False)]
Colours = Number | tuple[Number, Number, Number]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class DescriptionError(ValueError):
    """A description that cannot be used; the text names the field."""


class Description(BaseModel):
    """How to feed a network and how to read its output."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=128)
    version: str = Field("1", max_length=64)
    licence: str = Field(min_length=1, max_length=128, description="SPDX identifier")
    precision: str = Field("fp32", max_length=16, description="of the weights in the file")
    size: tuple[int, int] | None = Field(
        None, description="(height, width) of the input where it is fixed; pictures are stretched"
    )
    ref_size: int = Field(512, ge=32, le=4096, description="shorter side where it is not fixed")
    photo_ref_sizes: tuple[int, int] | None = Field(
        None, description="of two passes over a photo: for what is the person, for its outline"
    )
    stride: int = Field(32, ge=1, le=256, description="both sides are multiples of it")
    mean: Colours = Field(description="of values in [0, 1]; one, or one for each channel")
    std: Colours = Field(description="what the values are divided by after that")
    channel_order: Literal["rgb", "bgr"] = "rgb"
    output: int | str = Field(0, description="number or name of the output that is the matte")
    activation: Literal["none", "sigmoid"] = Field("none", description="applied to the output")
    bfloat16: bool = Field(
        False,
        description="whether precision=auto may run it in bfloat16, where its matte stays good",
    )
    stretch: float | None = Field(
        None,
        ge=0,
        lt=0.5,
        description="the values at this quantile and at one minus it become 0 and 1; 0: the least "
        "and the greatest; what is all below 0.5 stays so",
    )
    states: dict[str, str] = Field({}, description="recurrent: inputs and the outputs for them")
    constants: dict[str, tuple[Number, ...]] = Field({}, description="other inputs and their value")

    @model_validator(mode="after")
    def check_numbers(self) -> Self:
        if min(self.std if isinstance(self.std, tuple) else (self.std,)) <= 0:
            raise ValueError("std must be greater than 0")
        first, second = self.photo_ref_sizes or (32, 64)
        if not 32 <= first < second <= 4096:
            raise ValueError("photo_ref_sizes must be two sizes from 32 to 4096, the smaller first")
        if self.size is not None and min(self.size) < 1:
            raise ValueError("size must be two numbers of pixels, height and width")
        return self


# What the published ONNX files of well-known networks want; name and licence come from the user.
PRESETS: dict[str, dict[str, Any]] = {
    "modnet": {"licence": "Apache-2.0", "mean": 0.5, "std": 0.5, "ref_size": 512, "stride": 32},
    "u2net": {
        "licence": "Apache-2.0",
        "size": (320, 320),
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
        "stretch": 0.0,
    },
    "isnet": {
        "licence": "Apache-2.0",
        "size": (1024, 1024),
        "mean": 0.5,
        "std": 1.0,
        "stretch": 0.0,
    },
    "birefnet": {
        "licence": "MIT",
        "size": (1024, 1024),
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
        "activation": "sigmoid",
    },
    "rvm": {
        "licence": "GPL-3.0-only",
        "mean": 0.0,
        "std": 1.0,
        "output": "pha",
        "states": {f"r{n}i": f"r{n}o" for n in range(1, 5)},
        "constants": {"downsample_ratio": (1.0,)},
    },
}


def parse_description(fields: dict[str, Any]) -> Description:
    """Check the fields of a description; raises DescriptionError."""
    try:
        return Description(**fields)
    except ValidationError as error:
        errors = error.errors()
        # A field that does not exist comes first: one that is missing may be meant by it.
        first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
        place = ".".join(str(part) for part in first["loc"])
        text = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            near = difflib.get_close_matches(place, Description.model_fields, n=1)
            text = "is not a field" + (f"; did you mean `{near[0]}`?" if near else "")
        raise DescriptionError(f"{place}: {text}" if place else text) from None


def read_description(path: Path) -> Description | None:
    """Read the TOML file, None when there is none; raises DescriptionError that names it."""
    try:
        fields = tomllib.loads(path.read_text())
        return parse_description(fields)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DescriptionError(f"{path}: {error.strerror}") from None
    except ValueError as error:  # of TOML, of Unicode, and of the fields
        raise DescriptionError(f"{path}: {error}") from None


def format_description(description: Description) -> str:
    """Return the TOML text of a description, without what it does not say."""
    lines = []
    for name, value in description.model_dump(exclude_defaults=True).items():
        lines.append(f"{name} = {_format_value(value)}")
    return "\n".join(lines) + "\n"


def _format_value(value: object) -> str:
    if isinstance(value, dict):
        pairs = (f'"{name}" = {_format_value(item)}' for name, item in value.items())
        return "{ " + ", ".join(pairs) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_format_value(item) for item in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)
