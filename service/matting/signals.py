"""Confidence of a matte, and whether it shows a person."""

import numpy as np
from numpy.typing import NDArray

SURE = 0.9  # alpha of a pixel that the network calls a person without hesitating
# Share of the picture that such pixels cover when somebody is in it. Of 459 pictures without
# people 3 pass it, and none of 250 photos of people has less than twice as much.
PERSON_SHARE = 0.02


def measure_confidence(alpha: NDArray[np.float32]) -> float:
    """Return how decided a matte (h, w) is, in [0, 1].

    1 minus the mean of 4 alpha (1 - alpha), each pixel weighed by its alpha: 1 where every pixel of
    the person is solid, 0 where all of it is at one half. An empty matte is decided: 1.
    """
    total = float(alpha.sum())
    if total < 1e-6:
        return 1.0
    doubt = 4 * alpha * (1 - alpha) * alpha
    return min(1.0, max(0.0, 1.0 - float(doubt.sum()) / total))


def shows_person(alpha: NDArray[np.float32]) -> bool:
    """Say whether the network's matte (h, w) shows anybody."""
    return float((alpha > SURE).mean()) >= PERSON_SHARE
