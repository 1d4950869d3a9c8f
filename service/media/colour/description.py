"""What the numbers of a picture mean: one description for stills and clips.

The codes are those of ITU-T H.273 (CICP), which HEIF, AVIF, PNG, Matroska, MP4 and the video codecs
share. Which of several descriptions in one file counts is the reader's part: ICC, then nclx or
cICP, then gAMA and cHRM, then the codec's own.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

# x and y of red, green, blue and white (CIE 1931).
Chromaticities = tuple[float, float, float, float, float, float, float, float]

UNSPECIFIED = 2
D65, ILLUMINANT_C, ILLUMINANT_E = (0.3127, 0.3290), (0.310, 0.316), (1 / 3, 1 / 3)
BT709: Chromaticities = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, *D65)
_SMPTE170M: Chromaticities = (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *D65)
DISPLAY_P3: Chromaticities = (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, *D65)
BT2020: Chromaticities = (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, *D65)
_ADOBE_RGB: Chromaticities = (0.64, 0.33, 0.21, 0.71, 0.15, 0.06, *D65)
_PRIMARIES: dict[int, tuple[str, Chromaticities]] = {  # H.273, table 2
    1: ("BT.709", BT709),
    4: ("BT.470 M", (0.67, 0.33, 0.21, 0.71, 0.14, 0.08, *ILLUMINANT_C)),
    5: ("BT.470 BG", (0.64, 0.33, 0.29, 0.60, 0.15, 0.06, *D65)),
    6: ("SMPTE 170M", _SMPTE170M),
    7: ("SMPTE 240M", _SMPTE170M),
    8: ("film", (0.681, 0.319, 0.243, 0.692, 0.145, 0.049, *ILLUMINANT_C)),
    9: ("BT.2020", BT2020),
    10: ("XYZ", (1.0, 0.0, 0.0, 1.0, 0.0, 0.0, *ILLUMINANT_E)),
    11: ("DCI P3", (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.314, 0.351)),
    12: ("Display P3", DISPLAY_P3),
    22: ("EBU 3213", (0.630, 0.340, 0.295, 0.605, 0.155, 0.077, *D65)),
}
UNREAD_MATRICES = {  # H.273, table 4: those that no decoder here makes R'G'B' of
    10: "BT.2020 with constant luminance",
    11: "SMPTE ST 2085",
    13: "chromaticity-derived with constant luminance",
    14: "ICtCp",
    15: "IPT-C2",
    16: "YCgCo-Re",
    17: "YCgCo-Ro",
}
_SAME_WITHIN = 0.002  # of x and y: files round them


class Curve(IntEnum):
    """Kinds of transfer functions, by their code in H.273, table 3; GAMMA is of any exponent.

    Codes 1, 6, 7, 11, 12, 14 and 15 describe cameras and not displays. What they coded is shown on
    displays of sRGB as it is, by browsers and players alike, so they count as SRGB here.
    """

    GAMMA = 0
    LINEAR = 8
    LOG_100 = 9
    LOG_316 = 10
    SRGB = 13
    PQ = 16
    HLG = 18


@dataclass(frozen=True)
class Transfer:
    """A transfer function; `gamma` is the exponent from values to light, of Curve.GAMMA alone."""

    curve: Curve
    gamma: float = 1.0


SRGB_TRANSFER = Transfer(Curve.SRGB)
_TRANSFERS = {
    **dict.fromkeys((1, 6, 7, 11, 12, 13, 14, 15), SRGB_TRANSFER),
    4: Transfer(Curve.GAMMA, 2.2),
    5: Transfer(Curve.GAMMA, 2.8),
    8: Transfer(Curve.LINEAR),
    9: Transfer(Curve.LOG_100),
    10: Transfer(Curve.LOG_316),
    16: Transfer(Curve.PQ),
    17: Transfer(Curve.GAMMA, 2.6),
    18: Transfer(Curve.HLG),
}


@dataclass(frozen=True)
class Colour:
    """How R'G'B' values, and the Y'CbCr they came from, stand for light.

    `matrix` is the code of H.273, table 4, 0 for R'G'B'; `is_full_range` says that black and white
    are the first and the last code. Both only matter until a decoder has made R'G'B' of it.
    """

    primaries: Chromaticities = BT709
    transfer: Transfer = SRGB_TRANSFER
    matrix: int = 0
    is_full_range: bool = True

    @classmethod
    def from_codes(
        cls,
        primaries: int,
        transfer: int,
        matrix: int = UNSPECIFIED,
        is_full_range: bool = True,
    ) -> "Colour":
        """Return what the codes of H.273 say; codes that say nothing count as sRGB's."""
        return cls(
            _PRIMARIES.get(primaries, ("", BT709))[1],
            _TRANSFERS.get(transfer, SRGB_TRANSFER),
            matrix,
            is_full_range,
        )

    @property
    def is_hdr(self) -> bool:
        """Whether there is light brighter than reference white, to be tone-mapped."""
        return self.transfer.curve in (Curve.PQ, Curve.HLG)

    @property
    def is_srgb(self) -> bool:
        """Whether R'G'B' values, made so by a decoder where they were not, are sRGB as they are."""
        return not self.is_narrow and self.transfer == SRGB_TRANSFER and self.has_primaries(BT709)

    @property
    def is_narrow(self) -> bool:
        """Whether R'G'B' values, of which no decoder changes the range, lie between 16 and 235."""
        return self.matrix == 0 and not self.is_full_range

    def has_primaries(self, primaries: Chromaticities) -> bool:
        return bool(np.allclose(self.primaries, primaries, rtol=0, atol=_SAME_WITHIN))

    @property
    def name(self) -> str:
        """For people: `Display P3`, `BT.2020 PQ`, `BT.709 gamma 2.2`."""
        known = (*_PRIMARIES.values(), ("Adobe RGB", _ADOBE_RGB))
        named = (name for name, xy in known if self.has_primaries(xy))
        primaries = next(named, "other primaries")
        if self.transfer == SRGB_TRANSFER:
            name = "sRGB" if self.has_primaries(BT709) else primaries
            return f"narrow {name}" if self.is_narrow else name
        if self.transfer.curve == Curve.GAMMA:
            return f"{primaries} gamma {self.transfer.gamma:.3g}"
        curve = self.transfer.curve.name
        return f"{primaries} {curve if self.is_hdr else curve.lower().replace('_', ' ')}"


SRGB = Colour()
ADOBE_RGB = Colour(_ADOBE_RGB, Transfer(Curve.GAMMA, 563 / 256))  # Adobe RGB (1998)


def matrix_to_xyz(primaries: Chromaticities) -> NDArray[np.float64]:
    """Return (3, 3) from linear RGB to CIE XYZ, white at Y = 1.

    Raises ValueError for chromaticities that span no triangle (SMPTE RP 177).
    """
    xy = np.asarray(primaries, np.float64).reshape(4, 2)
    if not np.isfinite(xy).all() or xy[3, 1] <= 0:
        raise ValueError(f"no chromaticities: {primaries}")
    columns = np.stack([xy[:, 0], xy[:, 1], 1 - xy.sum(1)])
    white = columns[:, 3] / xy[3, 1]
    try:
        scale = np.linalg.solve(columns[:, :3], white)
    except np.linalg.LinAlgError:
        scale = np.zeros(3)
    if not np.isfinite(scale).all() or (scale <= 0).any() or abs(scale).max() > 1e3:
        raise ValueError(f"the primaries span no triangle around white: {primaries}")
    return np.asarray(columns[:, :3] * scale)


_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


def matrix_between(source: Chromaticities, target: Chromaticities = BT709) -> NDArray[np.float64]:
    """Return (3, 3) from linear RGB to linear RGB; white becomes white (Bradford's adaptation)."""
    to_xyz, from_xyz = matrix_to_xyz(source), np.linalg.inv(matrix_to_xyz(target))
    cones = [_BRADFORD @ matrix_to_xyz(primaries).sum(1) for primaries in (source, target)]
    adapt = np.linalg.inv(_BRADFORD) @ np.diag(cones[1] / cones[0]) @ _BRADFORD
    return np.asarray(from_xyz @ adapt @ to_xyz)
