"""Options of `POST /v1/video`, and which of them go together."""

import difflib
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from service.clips.outputs import NAMES, OUTPUTS, OutputName
from service.frames.options import SmoothedOptions
from service.matting.placement import ORIGINAL
from service.options import BLUR, Requirements
from service.settings import AUTO_MODEL


def split_outputs(value: Any) -> Any:
    """Return the names in a comma list; raises ValueError for unknown ones and repeats."""
    if not isinstance(value, str):
        return value
    names = [name.strip() for name in value.split(",")]
    for name in names:
        if name not in OUTPUTS:
            raise ValueError(f"there is no output `{name[:64]}`; {suggest_output(name)}")
    if len(set(names)) < len(names):
        raise ValueError("an output is named twice")
    return tuple(names)


def suggest_output(name: str) -> str:
    """Return the outputs that a container, a codec or a picture may mean, or the nearest name."""
    near: list[str] = [
        own
        for own, o in OUTPUTS.items()
        if name.lower() in (o.container, o.codec, o.picture, *o.file.split("."))
    ]
    near = near or difflib.get_close_matches(name, NAMES, n=1)
    return f"did you mean {' or '.join(near)}?" if near else f"outputs: {', '.join(NAMES)}"


def uses(*pictures: str) -> Any:
    """Return the test whether one of the outputs shows one of these pictures."""
    return lambda options: any(OUTPUTS[name].picture in pictures for name in options.outputs)


def is_carried_by(*containers: str | None) -> Any:
    """Return the test whether one of the outputs has one of these containers."""
    return lambda options: any(OUTPUTS[name].container in containers for name in options.outputs)


SILENT = "frames, gif and webp"


class VideoOptions(SmoothedOptions):
    """Options of `POST /v1/video`."""

    requirements: ClassVar[Requirements] = {
        "background": (uses("composite"), "composite among outputs"),
        "blur_radius": (lambda o: o.background == BLUR, "background=blur"),
        "foreground": (uses("composite", "green", "cutout"), "another output than alpha"),
        "shadow": (uses("composite", "cutout"), "a composite or an output that is cut out"),
        "scale": (uses("composite", "green", "cutout"), "another output than alpha"),
        "position": (lambda o: o.scale != ORIGINAL, "scale"),
        "prefer": (lambda o: o.model == AUTO_MODEL, "model=auto"),
        "ofd_threshold": (lambda o: o.smoothing == "ofd", "smoothing=ofd"),
        "audio": (
            is_carried_by("mp4", "mov", "webm"),
            f"an output with audio, which {SILENT} are not",
        ),
        "keep_metadata": (
            is_carried_by("mp4", "mov", "webm"),
            f"an output that has metadata, which {SILENT} are not",
        ),
        "crf": (is_carried_by("mp4"), "an H.264 output: composite, alpha, green or stacked"),
        "preset": (is_carried_by("mp4"), "an H.264 output: composite, alpha, green or stacked"),
    }

    outputs: Annotated[
        tuple[OutputName, ...],
        BeforeValidator(split_outputs),
        WithJsonSchema(
            {
                "type": "string",
                "pattern": f"^({'|'.join(NAMES)})(,({'|'.join(NAMES)}))*$",
                "examples": ["alpha", "webm"],
            }
        ),
    ] = Field(
        "composite",
        validate_default=True,
        min_length=1,
        description="comma list of results made in one pass: "
        + "; ".join(f"`{name}`: {o.codec}, {o.about}" for name, o in OUTPUTS.items()),
    )
    audio: Literal["keep", "drop"] = Field("keep", description="the sound of the clip")
    crf: int = Field(
        20, ge=0, le=51, description="x264's constant rate factor; lower is better, 0 counts as 1"
    )
    preset: Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow"] = (
        Field("veryfast", description="x264's preset; slower makes smaller files")
    )
    max_fps: float | None = Field(
        None,
        ge=0.1,
        le=1000,
        allow_inf_nan=False,
        description="frames above so many a second are left out, the others keep their times",
    )
    start: float | None = Field(
        None, ge=0, le=1e6, allow_inf_nan=False, description="seconds; frames before are left out"
    )
    end: float | None = Field(
        None,
        gt=0,
        le=1e6,
        allow_inf_nan=False,
        description="seconds; frames from there on are left out",
    )

    keep_metadata: bool = Field(False, description="keep the clip's date, place and title")

    @model_validator(mode="after")
    def check_order(self) -> Self:
        if self.end is not None and self.end <= (self.start or 0):
            raise ValueError(f"end is {self.end:g}, it must be after start, {self.start or 0:g}")
        return self
