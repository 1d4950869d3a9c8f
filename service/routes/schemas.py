"""Options and answers as clients see them."""

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from PIL import ImageColor
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from service.errors import InvalidOption
from service.media.images import ImageFormat

MIN_REF_SIZE, MAX_REF_SIZE = 64, 1024


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

    background: Colour = Field("white", description="colour behind `composite`")
    ref_size: int | None = Field(
        None,
        ge=MIN_REF_SIZE,
        le=MAX_REF_SIZE,
        multiple_of=32,
        description="shorter side at the network, pixels; default: the model's own",
    )

    @property
    def background_rgb(self) -> tuple[int, int, int]:
        red, green, blue = ImageColor.getrgb(self.background)[:3]
        return red, green, blue


class ImageOptions(MattingOptions):
    """Options of `POST /v1/image`."""

    output: Literal["alpha", "cutout", "composite"] = Field(
        "alpha",
        description="`alpha`: 8-bit grey; `cutout`: straight RGBA; `composite`: over `background`",
    )
    format: ImageFormat = "png"
    quality: int = Field(90, ge=1, le=100, description="of JPEG and WebP")
    compression: int = Field(1, ge=0, le=9, description="of PNG")

    @model_validator(mode="after")
    def refuse_idle_options(self) -> "ImageOptions":
        """An option without effect is a mistake somebody would search for long."""
        given = self.model_fields_set
        if "background" in given and self.output != "composite":
            raise ValueError("background needs output=composite")
        if "quality" in given and self.format == "png":
            raise ValueError("quality needs format=jpeg or webp; png takes compression")
        if "compression" in given and self.format != "png":
            raise ValueError("compression needs format=png")
        return self


class VideoOptions(MattingOptions):
    """Options of `POST /v1/video`."""

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


Options = TypeVar("Options", bound=BaseModel)


def parse_options(kind: type[Options], given: Mapping[str, str]) -> Options:
    """Check options that came as text; raises InvalidOption with the nearest valid name."""
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
        return kind.model_validate(dict(given))
    except ValidationError as error:
        found = [
            {
                "loc": ".".join(str(part) for part in item["loc"]) or "options",
                "msg": item["msg"].removeprefix("Value error, "),
            }
            for item in error.errors(include_url=False, include_context=False)
        ]
        raise InvalidOption(f"{found[0]['loc']}: {found[0]['msg']}", errors=found) from None


def describe_upload(
    options: type[BaseModel], media: str, aliases: tuple[str, ...], *extra: str
) -> dict[str, Any]:
    """Return the OpenAPI request body and query parameters of an upload route.

    The routes read bodies themselves (a file may be raw bytes), so the framework cannot.
    """
    schema = options.model_json_schema(ref_template="#/components/schemas/{model}")
    fields = schema["properties"]
    file = {
        "type": "string",
        "contentMediaType": "application/octet-stream",
        "description": f"the {media}; `{'` and `'.join(aliases[1:])}` are accepted names too",
    }
    files = {"file": file} | {name: file | {"description": "optional"} for name in extra}
    form = {"type": "object", "required": ["file"], "properties": files | fields}
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": form},
                f"{media}/*": {"schema": {"type": "string", "format": "binary"}},
            },
        },
        "parameters": [
            {
                "name": name,
                "in": "query",
                "required": False,
                "description": field.get("description", ""),
                "schema": field,
            }
            for name, field in fields.items()
        ],
    }
