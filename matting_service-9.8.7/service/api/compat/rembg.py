"""The parameters of rembg's server (`rembg s`), mapped to ours."""

from collections.abc import Collection
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from service.errors import BadRequest
from service.settings import AUTO_MODEL
from service.stills.options import ImageOptions

# The name that rembg's clients send when nobody chose one.
DEFAULT_MODEL = "u2net"
TRIMAP_OPTIONS = ("af", "ab", "ae")


class RembgOptions(BaseModel):
    """Parameters of `POST /api/remove`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(
        DEFAULT_MODEL,
        max_length=128,
        description="a name from /v1/models, or `u2net`, rembg's default, which is this server's "
        "first model where it has none of that name; X-Model says which one ran",
    )
    a: bool = Field(
        False,
        description="alpha matting: the person's own colour along soft edges; the matte is soft "
        "either way",
    )
    af: int = Field(240, ge=0, le=255, description="only 240: no trimap is made")
    ab: int = Field(10, ge=0, le=255, description="only 10: no trimap is made")
    ae: int = Field(10, ge=0, description="only 10: no trimap is made")
    om: bool = Field(False, description="the matte alone, grey")
    ppm: bool = Field(False, description="a hard edge, without specks: threshold 0.5, opened by 1")
    bgc: str | None = Field(
        None,
        max_length=32,
        pattern=r"^\s*\d{1,3}\s*(,\s*\d{1,3}\s*){3}$",
        examples=["255,255,255,255"],
        description="background as r,g,b,a; opaque (255) or none (0)",
    )
    extras: str | None = Field(None, max_length=1024, description="only `{}`")


def map_rembg_options(asked: RembgOptions, served: Collection[str]) -> ImageOptions:
    """Return our options; `served` are the models' names.

    Raises BadRequest for what we do not do.
    """
    model = asked.model
    if model == DEFAULT_MODEL and model not in served:
        model = AUTO_MODEL
    elif model not in served:
        names = ", ".join(f"`{name}`" for name in served)
        raise BadRequest(f"there is no model `{asked.model}`", hint=f"this server has {names}")
    for name in TRIMAP_OPTIONS:
        default = RembgOptions.model_fields[name].default
        if getattr(asked, name) != default:
            raise BadRequest(
                f"{name} is not supported: the network makes the matte, without a trimap",
                hint=f"leave it out, or send {default}",
            )
    if asked.extras and asked.extras.strip() not in ("", "{}"):
        raise BadRequest("extras are not supported", hint="leave it out")
    for name in ("a", "bgc"):
        if asked.om and getattr(asked, name):
            raise BadRequest(f"om=true leaves nothing to do for {name}", hint="leave out one")
    options: dict[str, Any] = {"output": "cutout", "foreground": "auto" if asked.a else "off"}
    if asked.om:
        options = {"output": "alpha"}
    elif colour := parse_bgc(asked.bgc):
        options |= {"output": "composite", "background": colour}
    if asked.ppm:
        options |= {"threshold": 0.5, "erode": 1, "dilate": 1}
    return ImageOptions(model=model, **options)


def parse_bgc(text: str | None) -> str | None:
    """Return r,g,b,a as #rrggbb, None where it is transparent; raises BadRequest."""
    if not text:
        return None
    red, green, blue, alpha = (int(part) for part in text.split(","))
    if max(red, green, blue) > 255 or alpha not in (0, 255):
        raise BadRequest(
            "bgc is not supported in this form",
            hint="send r,g,b from 0 to 255, and 255 (opaque) or 0 (none) as the fourth number",
        )
    return f"#{red:02x}{green:02x}{blue:02x}" if alpha else None
