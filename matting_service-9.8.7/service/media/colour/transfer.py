"""Transfer functions, from coded values to light and back; reference white is 1."""

import numpy as np
from numpy.typing import NDArray

from service.media.colour.description import Curve, Transfer

Floats = NDArray[np.float64]

REFERENCE_WHITE_NITS = 203.0  # ITU-R BT.2408: diffuse white of PQ and HLG
HLG_PEAK_NITS = 1000.0
_HLG_GAMMA = 1.2  # of a display of 1,000 nit (BT.2100)
_PQ_PEAK_NITS = 10_000.0
_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
_A, _B, _C = 0.17883277, 0.28466892, 0.55991073


def decode_pq(values: Floats) -> Floats:
    """Return nits of PQ values in [0, 1] (SMPTE ST 2084)."""
    root = np.clip(values, 0, 1) ** (1 / _M2)
    light = (np.maximum(root - _C1, 0) / (_C2 - _C3 * root)) ** (1 / _M1)
    return np.asarray(light * _PQ_PEAK_NITS)


def encode_pq(nits: Floats) -> Floats:
    """Return PQ values in [0, 1] of nits."""
    power = np.clip(nits / _PQ_PEAK_NITS, 0, 1) ** _M1
    return np.asarray(((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2)


def decode_hlg(values: Floats) -> Floats:
    """Return scene light in [0, 1] of HLG values in [0, 1] (BT.2100's inverse OETF)."""
    values = np.clip(values, 0, 1)
    return np.where(values <= 0.5, values**2 / 3, (np.exp((values - _C) / _A) + _B) / 12)


def apply_hlg_ootf(scene: NDArray[np.float32], luminance: NDArray[np.float32]) -> None:
    """Turn scene light (..., 3) of `luminance` (...) into display light in place; white is 1."""
    scale = np.float32(HLG_PEAK_NITS / REFERENCE_WHITE_NITS)
    bright = np.maximum(luminance, np.float32(0)) ** np.float32(_HLG_GAMMA - 1)
    scene *= (scale * bright)[..., np.newaxis]


def decode_srgb(values: Floats) -> Floats:
    """Return linear light of sRGB values (IEC 61966-2-1)."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def encode_srgb(light: Floats) -> Floats:
    """Return sRGB values of linear light in [0, 1]."""
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def decode(transfer: Transfer, values: Floats) -> Floats:
    """Return light of values in [0, 1]: white, for PQ the reference white, is 1; HLG: scene light.

    See `apply_hlg_ootf` for what HLG needs besides, which depends on all three channels.
    """
    match transfer.curve:
        case Curve.SRGB:
            return decode_srgb(values)
        case Curve.GAMMA:
            return np.asarray(values**transfer.gamma)
        case Curve.LINEAR:
            return values
        case Curve.PQ:
            return decode_pq(values) / REFERENCE_WHITE_NITS
        case Curve.HLG:
            return decode_hlg(values)
        case Curve.LOG_100:
            return np.where(values > 0, 10 ** (2 * (values - 1)), 0)
        case Curve.LOG_316:
            return np.where(values > 0, 10 ** (2.5 * (values - 1)), 0)
