"""ICC profiles: conversion to sRGB (decoder child)."""

import io
import itertools
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageCms

# A larger profile is used and not carried along: those of presses have 1 to 3 MB, of screens 3 kB.
MAX_KEPT_BYTES = 4 << 20
UNUSED = (
    "colour profile not used, damaged or of another colour model than the picture: "
    "colours taken as without one"
)
_SAME_WITHIN = 2  # of 255: versions of sRGB differ in their rounding


@dataclass(frozen=True)
class Colours:
    """How the values of one file become sRGB.

    `mode` is Pillow's for the values without alpha: RGB, L, CMYK or LAB. `icc` is the profile that
    a result in the file's own values may carry; `has_own` says that these are not sRGB. `note` is
    about a profile that was not used.
    """

    mode: str
    transform: ImageCms.ImageCmsTransform | None = None
    icc: bytes = b""
    note: str = ""

    @property
    def has_own(self) -> bool:
        return self.transform is not None and bool(self.icc)

    def to_srgb(self, values: Image.Image) -> Image.Image:
        """Return values in `mode` as sRGB, mode RGB."""
        if self.transform is None:
            return values if values.mode == "RGB" else values.convert("RGB")
        return self.transform.apply(values)


def choose_colours(mode: str, icc: bytes) -> Colours:
    """Return the way to sRGB of a file with this mode and embedded profile, empty for none.

    A profile that is broken, or of another colour model than the file, counts as none and is told.
    """
    if mode == "LAB":
        lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        return Colours(mode, _make_transform(lab, mode))
    transform = _read_profile(icc, mode) if icc else None
    if transform is None:
        return Colours(mode, note=UNUSED if icc else "")
    if mode != "RGB":
        return Colours(mode, transform)
    kept = icc if len(icc) <= MAX_KEPT_BYTES else b""
    return Colours(mode, None if _changes_nothing(transform) else transform, kept)


def _read_profile(icc: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    if int.from_bytes(icc[:4], "big") > len(icc):
        return None  # cut short; lcms reads on where it can, the readers of the result may not
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        return _make_transform(profile, mode)  # refused where the colour models differ
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None


def _make_transform(profile: ImageCms.ImageCmsProfile, mode: str) -> ImageCms.ImageCmsTransform:
    # What photo programs and browsers do: white stays white, black stays black.
    transform = ImageCms.buildTransform(
        profile,
        _make_srgb(),
        mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    assert isinstance(transform, ImageCms.ImageCmsTransform)
    return transform


@cache
def _make_srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Return whether colours all over the cube stay where they are; names of profiles lie."""
    levels = (0, 32, 64, 96, 128, 160, 192, 224, 255)
    colours = np.array([[*itertools.product(levels, repeat=3)]], np.uint8)
    changed = np.asarray(transform.apply(Image.fromarray(colours)))
    return int(np.abs(changed.astype(np.int16) - colours).max()) <= _SAME_WITHIN
