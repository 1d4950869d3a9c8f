"""The options of each call, for type checkers and editors; the service says what they mean.

`docs/options.md` and `GET /v1/capabilities` describe them. What is left out has the service's
default.
"""

from collections.abc import Sequence
from typing import Literal, TypedDict

from matting_client.inputs import File, Photo

VideoOutput = Literal[
    "composite", "alpha", "webm", "prores", "frames", "green", "stacked", "gif", "webp"
]


class MattingOptions(TypedDict, total=False):
    """Options that photos, clips and sessions share."""

    model: str
    ref_size: int | None
    foreground: Literal["auto", "off"]
    background: str
    blur_radius: float | None
    threshold: float | None
    erode: int
    dilate: int
    feather: float
    keep_largest: bool
    existing_alpha: Literal["multiply", "ignore", "return"]
    roi: str | None
    shadow: Literal["none", "soft", "drop"]
    scale: str
    position: str


class RenderOptions(MattingOptions, total=False):
    """Options of a kept photo."""

    output: Literal["alpha", "cutout", "composite", "foreground", "bundle"]
    format: Literal["png", "webp", "jpeg", "avif", "zip", "psd", "json"] | None
    refine: Literal["auto", "fine", "off"]
    quality: int
    compression: int
    crop: bool
    crop_margin: str
    size: str
    icc: Literal["keep", "srgb", "strip"]
    keep_metadata: bool
    background_file: Photo


class ImageOptions(RenderOptions, total=False):
    """Options of a photo."""

    keep_s: int
    trimap_file: Photo
    hint_file: Photo


class SmoothedOptions(MattingOptions, total=False):
    """Options that clips and sessions share."""

    prefer: Literal["auto", "quality", "speed"]
    refine: Literal["auto", "off"]
    smoothing: Literal["ofd", "off"]
    ofd_threshold: float
    deinterlace: Literal["auto", "always", "off"]
    hdr: Literal["tonemap", "refuse"]


class VideoOptions(SmoothedOptions, total=False):
    """Options of a clip; `background_file` may be a picture or a clip."""

    outputs: VideoOutput | Sequence[VideoOutput]
    audio: Literal["keep", "drop"]
    crf: int
    preset: Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow"]
    max_fps: float | None
    start: float | None
    end: float | None
    keep_metadata: bool
    background_file: File
    webhook: str | None
    put_urls: Sequence[str]


class SessionOptions(SmoothedOptions, total=False):
    """Options of a session."""

    output: Literal["composite", "alpha", "cutout"]
    packaging: Literal["fmp4", "frames"]
    format: Literal["png", "webp", "jpeg"]
    fps: float
    timestamps: Literal["continue", "absolute"]
    keep_metadata: bool
    width: int | None
    height: int | None
