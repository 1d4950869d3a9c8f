"""Pictures in any described colour to sRGB, by tables.

Why not FFmpeg: the build in PyAV's wheels (18.1) has no `zscale` and no `libplacebo`. Its `scale`
filter converts primaries and transfers (`in_transfer`, `out_transfer`, `in_primaries`,
`out_primaries`, `intent`), but its tone mapping puts reference white, 203 nit of PQ, at 0.59 of
white in sRGB with `intent=perceptual`; `relative_colorimetric` clips all that is brighter.
`tonemap` works on linear light only, knows no BT.2390, and `colorspace` refuses PQ and HLG. From
Y'CbCr to R'G'B' (matrix and range) FFmpeg is right, and a clip's frames get there that way: in
`DEEP_RGB` of planes.py, so that ten bits stay ten bits.
"""

from functools import cache, lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from service.media.colour.description import BT709, Colour, Curve, matrix_between, matrix_to_xyz
from service.media.colour.tone import MAX_PEAK, compress
from service.media.colour.transfer import (
    HLG_PEAK_NITS,
    REFERENCE_WHITE_NITS,
    apply_hlg_ootf,
    decode,
    encode_srgb,
)

Codes = NDArray[np.uint8] | NDArray[np.uint16]
Light = NDArray[np.float32]

_STRIP_PIXELS = 1 << 18  # its floats stay in the cache of a core, more or less
_LEVELS = 65535
_SRGB_LUMINANCE = matrix_to_xyz(BT709)[1:2].astype(np.float32)


class SrgbConverter:
    """Turns R'G'B' codes of one colour into sRGB.

    `full` is the code of white. `peak` is the brightest luminance of PQ and HLG, 1 at reference
    white: of a still what `measure_peak` finds, so that a picture without highlights stays exactly
    as bright as it is; of a clip one number for all frames, else it pumps. Colours outside of sRGB
    are clipped, as ICC's relative colorimetric intent does.
    """

    def __init__(self, colour: Colour, full: int = 255, peak: float = MAX_PEAK) -> None:
        self._colour = colour
        kind = np.uint8 if full <= 255 else np.uint16
        codes = np.arange(np.iinfo(kind).max + 1)
        values = codes / full
        if colour.is_narrow:
            values = (codes * (256 / (full + 1)) - 16) / 219
        values = np.clip(values, 0.0, 1.0)
        self._light = decode(colour.transfer, values).astype(np.float32)
        self._to_srgb = matrix_between(colour.primaries).astype(np.float32)
        self._luminance = matrix_to_xyz(colour.primaries)[1:2].astype(np.float32)
        self._peak = min(peak, MAX_PEAK)

    def measure_peak(self, codes: Codes) -> float:
        """Return the highest luminance of (..., 3) codes, 1 at reference white, at most MAX_PEAK.

        Raises ValueError for a picture without pixels.
        """
        strips = _cut(codes)
        return min(
            MAX_PEAK, max(float(self._measure(self._decode(strip)).max()) for strip in strips)
        )

    def convert(self, codes: Codes) -> NDArray[np.uint8]:
        """Return (..., 3) codes of this colour as sRGB of the same shape."""
        result = np.empty(codes.shape, np.uint8)
        flat = result.reshape(-1, 3)
        start = 0
        for strip in _cut(codes):
            flat[start : start + len(strip)] = self._convert(strip)
            start += len(strip)
        return result

    def _decode(self, codes: Codes) -> Light:
        """Return display light (N, 3), 1 at white."""
        light = np.take(self._light, codes, mode="clip")
        if self._colour.transfer.curve == Curve.HLG:
            apply_hlg_ootf(light, self._measure(light))
        return light

    def _measure(self, light: Light) -> Light:
        return _multiply(light, self._luminance)[:, 0]

    def _convert(self, codes: Codes) -> NDArray[np.uint8]:
        light = self._decode(codes)
        if self._colour.is_hdr and self._peak > 1:
            scale = _tabulate_scale(self._peak)
            luminance = self._measure(light)
            step = np.clip(luminance * np.float32(_LEVELS / MAX_PEAK), 0, _LEVELS)
            light *= np.take(scale, step.astype(np.uint16), mode="clip")[:, np.newaxis]
        light = _multiply(light, self._to_srgb)
        if self._colour.is_hdr:
            _fit(light)
        np.clip(light, 0, 1, out=light)
        light *= np.float32(_LEVELS)
        light += np.float32(0.5)
        return np.take(_tabulate_srgb(), light.astype(np.uint16), mode="clip")


def nominal_peak(colour: Colour, peak_nits: float | None = None) -> float:
    """Return the peak for a clip in units of reference white, from its metadata if it has any.

    `peak_nits` is what MaxCLL or the mastering display says.
    """
    if colour.transfer.curve == Curve.HLG or peak_nits is None:
        peak_nits = HLG_PEAK_NITS
    return min(max(peak_nits / REFERENCE_WHITE_NITS, 1.0), MAX_PEAK)


def _fit(light: Light) -> None:
    """Bring channels above white to white, in place.

    Half the way by darkening, which keeps the saturation, half towards grey of the same luminance:
    alone, one makes a sunset dull and the other makes it white.
    """
    highest = np.maximum(np.maximum(light[:, 0], light[:, 1]), light[:, 2])
    (rows,) = np.nonzero(highest > 1)
    if len(rows) == 0:
        return
    bright, highest = light[rows], highest[rows, np.newaxis]
    grey = np.clip(_multiply(bright, _SRGB_LUMINANCE), 0, 1)
    keep = (1 - grey) / np.maximum(highest - grey, np.float32(1e-6))
    light[rows] = (bright / highest + grey + keep * (bright - grey)) / 2


def _multiply(light: Light, matrix: Light) -> Light:
    """Return light (N, 3) times a matrix (M, 3), (N, M); NumPy takes a hundred times as long."""
    product: Light = cv2.transform(light[np.newaxis], matrix)
    return product.reshape(len(light), len(matrix))


def _cut(codes: Codes) -> list[Codes]:
    flat = codes.reshape(-1, 3)
    return [flat[at : at + _STRIP_PIXELS] for at in range(0, len(flat), _STRIP_PIXELS)]


@cache
def _tabulate_srgb() -> NDArray[np.uint8]:
    light = np.arange(_LEVELS + 1) / _LEVELS
    return np.rint(encode_srgb(light) * 255).astype(np.uint8)


@lru_cache(maxsize=4)
def _tabulate_scale(peak: float) -> Light:
    """Return what light is multiplied by, for luminance 0 to MAX_PEAK."""
    luminance = np.linspace(0, MAX_PEAK, _LEVELS + 1)
    mapped = compress(luminance, peak)
    scale = np.divide(mapped, luminance, out=np.ones_like(mapped), where=luminance > 0)
    return np.asarray(scale, np.float32)
