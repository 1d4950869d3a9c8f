"""Tone mapping: light brighter than reference white into the range of sRGB (ITU-R BT.2390)."""

import numpy as np
from numpy.typing import NDArray

from service.media.colour.transfer import REFERENCE_WHITE_NITS, decode_pq, encode_pq

# Light above this is white. A higher peak would darken all that is near reference white: with this
# one it comes out at 0.91 of white in sRGB, with 4,000 nit at 0.81.
MAX_PEAK_NITS = 1000.0
MAX_PEAK = MAX_PEAK_NITS / REFERENCE_WHITE_NITS


def compress(luminance: NDArray[np.float64], peak: float) -> NDArray[np.float64]:
    """Return luminance in [0, 1] for luminance up to `peak`, both 1 at reference white.

    The EETF of BT.2390-11, section 5.4.1: unchanged below a knee, then a Hermite spline in PQ. With
    a peak of 1 or less nothing changes.
    """
    if peak <= 1:
        return np.minimum(luminance, 1)
    source = float(encode_pq(np.asarray(peak * REFERENCE_WHITE_NITS)))
    target = float(encode_pq(np.asarray(REFERENCE_WHITE_NITS))) / source
    knee = 1.5 * target - 0.5
    values = np.minimum(encode_pq(luminance * REFERENCE_WHITE_NITS) / source, 1)
    t = np.maximum(values - knee, 0) / (1 - knee)
    spline = (
        (2 * t**3 - 3 * t**2 + 1) * knee
        + (t**3 - 2 * t**2 + t) * (1 - knee)
        + (-2 * t**3 + 3 * t**2) * target
    )
    nits = decode_pq(np.where(values < knee, values, spline) * source)
    return np.asarray(nits / REFERENCE_WHITE_NITS)
