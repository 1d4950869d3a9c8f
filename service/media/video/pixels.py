"""Coded pictures to sRGB: matrix, range, primaries and transfer; only in the decoder child."""

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image as PilImage
from av.video.reformatter import ColorRange, VideoReformatter
from PIL.ImageCms import ImageCmsTransform

from service.media.colour.convert import SrgbConverter, nominal_peak
from service.media.colour.description import UNREAD_MATRICES, UNSPECIFIED, Colour
from service.media.colour.planes import DEEP_RGB, SCALING, SWS_MATRIX, YuvPicture
from service.media.image.colour import choose_colours
from service.media.video.profiles import read_profile
from service.media.video.types import Image, UndecodableVideo

# H.273, table 4: the codes of matrices.
RGB, BT709, SMPTE170M, YCGCO = 0, 1, 6, 8
_DERIVED = 12  # the matrix that follows from the primaries
_MATRIX_OF_PRIMARIES = {1: BT709, 5: SMPTE170M, 6: SMPTE170M, 7: 7, 9: 9}
# Primaries that a result keeps and states, as players do not convert them either: those of
# televisions. All others become BT.709's.
_KEPT_PRIMARIES = (1, 4, 5, 6, 7, 22)
_HD_HEIGHT = 720
# Codecs of 32 bits a pixel whose last byte most programs leave at 0, and mean nothing by.
_UNUSED_ALPHA = ("rawvideo", "huffyuv", "ffvhuff")
# Codecs that say nothing about colour: what the library reports for them is a default.
_WITHOUT_COLOUR = ("vp8",)
_GREY = ("gray", "ya")  # how the names of formats without colour begin


@dataclass(frozen=True)
class ColourCodes:
    """The colour of a clip in numbers of ITU-T H.273: 2 is not stated; `range` 1 limited, 2 full,
    0 not stated. `profile`: an ICC profile, which counts before primaries and transfer."""

    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    matrix: int = UNSPECIFIED
    range: int = 0
    profile: bytes = b""

    @classmethod
    def of(cls, source: Any) -> "ColourCodes":
        """Return what a frame of the library says, or the parameters of a stream."""
        range = source.color_range if source.color_range in (1, 2) else 0
        numbers = source.color_primaries, source.color_trc, source.colorspace
        primaries, transfer, matrix = (int(number) for number in numbers)
        return cls(primaries, transfer, matrix, int(range))

    def choose(self, frame: Any, codec: str, height: int) -> "ColourCodes":
        """Return the colour of a frame of a clip whose container says this.

        What the codec says counts, the container's word where it says nothing. `height`: pixels of
        the clip, by which a matrix is guessed that nothing states.
        """
        told = ColourCodes() if codec in _WITHOUT_COLOUR else ColourCodes.of(frame)
        is_full = frame.format.name.startswith("yuvj")
        if frame.format.is_rgb or frame.format.has_palette:
            told = ColourCodes(told.primaries, told.transfer, RGB, 2)
        primaries = _first_stated(told.primaries, self.primaries)
        matrix = told.matrix
        if matrix == RGB and not (frame.format.is_rgb or frame.format.has_palette):
            matrix = UNSPECIFIED
        matrix = choose_matrix(_first_stated(matrix, self.matrix), frame, primaries, height)
        return ColourCodes(
            primaries,
            _first_stated(told.transfer, self.transfer),
            matrix,
            2 if is_full else told.range or self.range,
            read_profile(frame),
        )


def choose_matrix(stated: int, frame: Any, primaries: int, height: int) -> int:
    """Return the H.273 number of the matrix that a frame is read with, never "not stated".

    Raises UndecodableVideo for those that are not read.
    """
    if frame.format.is_rgb or frame.format.has_palette:
        return RGB
    if stated == _DERIVED:
        stated = _MATRIX_OF_PRIMARIES.get(primaries, _DERIVED)
    if stated in UNREAD_MATRICES or stated == _DERIVED:
        name = UNREAD_MATRICES.get(stated, "derived from unusual primaries")
        raise UndecodableVideo(
            f"The video's colours are coded with the matrix {name} (H.273 number {stated}), which "
            "is not read; convert it to BT.709."
        )
    return stated if stated == YCGCO else yuv_matrix(stated, height)


def yuv_matrix(stated: int, height: int) -> int:
    """Return the H.273 number of the YUV matrix: as stated, else guessed by height."""
    if stated in SWS_MATRIX:
        return stated
    return SMPTE170M if height < _HD_HEIGHT else BT709


class PixelReader:
    """Turns frames of one clip into (h, w, 3) uint8 RGB and (h, w) uint8 alpha.

    RGB is sRGB, or SDR in the primaries of televisions; `primaries`, `transfer` and `matrix` say
    it in numbers of H.273. `hdr` names the colour that was tone-mapped, None for SDR,
    `converted_from` a wide gamut of SDR. `peak_nits`: the brightest light of a PQ clip, if known.
    """

    def __init__(self, codes: ColourCodes, peak_nits: float | None = None, codec: str = "") -> None:
        self.codes, self._codec = codes, codec
        colour = Colour.from_codes(codes.primaries, codes.transfer, codes.matrix)
        self.hdr = colour.name if colour.is_hdr else None
        is_plain = codes.primaries in (UNSPECIFIED, 0, *_KEPT_PRIMARIES)
        self._to_srgb = _read_transform(codes.profile)
        is_display = Colour.from_codes(1, codes.transfer).is_srgb or codes.transfer in (4, 5)
        self._converter: SrgbConverter | None = None
        self.converted_from: str | None = None
        self.primaries, self.transfer, self.matrix = codes.primaries, codes.transfer, codes.matrix
        if self._to_srgb is not None:
            self.hdr, self.converted_from = None, "an ICC profile"
            self.primaries = self.transfer = self.matrix = BT709
        elif colour.is_hdr or not (is_plain and is_display):
            self._converter = SrgbConverter(colour, 65535, nominal_peak(colour, peak_nits))
            self.primaries = self.transfer = self.matrix = BT709
            self.converted_from = None if colour.is_hdr else colour.name
        self._reformatter = VideoReformatter()

    def read_rgb(self, frame: Any, width: int, height: int) -> Image:
        """Return (height, width, 3) uint8 RGB of a frame of any size."""
        format = "rgb24" if self._converter is None else DEEP_RGB
        if self.codes.matrix == YCGCO:
            frame = self._unmix_ycgco(frame)
        rgb = np.asarray(self._reformat(frame, width, height, format).to_ndarray())
        if self.codes.range == 1 and frame.format.name.startswith(_GREY):
            rgb = np.take(_tabulate_grey(frame.format.components[0].bits, rgb.dtype), rgb)
        if self._converter is not None:
            return self._converter.convert(rgb)
        rgb = rgb.astype(np.uint8, copy=False)
        if self._to_srgb is not None:
            rgb = np.array(self._to_srgb.apply(PilImage.fromarray(rgb)))
        return rgb

    def read_planes(self, frame: Any) -> YuvPicture | None:
        """Return a frame as it is coded, None where its values are not those of `YuvPicture`."""
        if (
            frame.format.name != "yuv420p"
            or self._converter is not None
            or self._to_srgb is not None
            or self.codes.range == 2
            or self.codes.matrix not in SWS_MATRIX
            or frame.width % 2
            or frame.height % 2
        ):
            return None
        return YuvPicture(np.asarray(frame.to_ndarray(), np.uint8), self.codes.matrix)

    def read_alpha(self, frame: Any, width: int, height: int) -> Image | None:
        """Return (height, width) uint8, None for a frame that is opaque everywhere."""
        if not has_alpha(frame.format):
            return None
        if frame.format.name.startswith("yuva"):
            alpha = _read_plane(frame)
        else:
            # Pixels whose order the library knows; colours do not matter here.
            rgba = self._reformatter.reformat(frame, format="rgba", threads=1)
            alpha = np.asarray(rgba.to_ndarray(), np.uint8)[..., 3]
        if alpha.min() == 255 or (self._codec in _UNUSED_ALPHA and alpha.max() == 0):
            return None
        if alpha.shape != (height, width):
            import cv2

            alpha = np.asarray(cv2.resize(alpha, (width, height), interpolation=cv2.INTER_AREA))
        return np.ascontiguousarray(alpha)

    def _reformat(self, frame: Any, width: int, height: int, format: str) -> Any:
        is_full = (
            self.codes.range == 2
            or frame.format.name.startswith("yuvj")
            or (frame.format.is_rgb or frame.format.has_palette)
        )
        return self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format=format,
            src_colorspace=SWS_MATRIX.get(self.codes.matrix),
            src_color_range=ColorRange.JPEG if is_full else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
            interpolation=SCALING,
            threads=1,
        )

    def _unmix_ycgco(self, frame: Any) -> Any:
        """Return the frame as RGB: the library knows no YCgCo (H.273, equations 62 to 65)."""
        import av

        frame.colorspace = BT709  # one that it knows, and that changes nothing here
        planes = self._reformatter.reformat(frame, format="yuv444p16le", threads=1)
        y, cg, co = np.moveaxis(planes.to_ndarray().astype(np.float32) / 65535, -1, 0)
        if self.codes.range != 2:
            y = (y * 255 - 16) / 219
            cg, co = ((part * 255 - 128) / 224 for part in (cg, co))
        else:
            cg, co = (part - 128 / 255 for part in (cg, co))
        rest = y - cg
        rgb = np.stack([rest + co, y + cg, rest - co], axis=-1)
        codes = np.rint(np.clip(rgb, 0, 1) * 65535).astype(np.uint16)
        return av.VideoFrame.from_ndarray(codes, "rgb48le")


@lru_cache(maxsize=8)
def _read_transform(profile: bytes) -> ImageCmsTransform | None:
    """Return the way from a profile to sRGB; None where that changes nothing, or it is damaged."""
    return choose_colours("RGB", profile).transform if profile else None


@cache
def _tabulate_grey(bits: int, kind: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return full range for each value of limited range, which the library takes for full."""
    full, most = np.iinfo(kind).max, (1 << bits) - 1
    black, white = ((level << (bits - 8)) / most for level in (16, 235))
    levels = (np.arange(full + 1) / full - black) / (white - black)
    return np.rint(np.clip(levels, 0, 1) * full).astype(kind)


def has_alpha(format: Any) -> bool:
    return format.has_palette or any(component.is_alpha for component in format.components)


def _read_plane(frame: Any) -> npt.NDArray[np.uint8]:
    """Return the alpha plane; the library's own conversion leaves garbage in its last columns."""
    plane = frame.planes[3]
    bits = frame.format.components[3].bits
    kind = np.dtype("<u2") if bits > 8 else np.dtype(np.uint8)
    values = np.frombuffer(plane, kind).reshape(plane.height, -1)[:, : plane.width]
    if bits == 8:
        return np.asarray(values, np.uint8)
    most = (1 << bits) - 1
    return np.asarray((values.astype(np.uint32) * 255 + most // 2) // most, np.uint8)


def _first_stated(*numbers: int) -> int:
    return next((number for number in numbers if number not in (UNSPECIFIED, 3)), UNSPECIFIED)
