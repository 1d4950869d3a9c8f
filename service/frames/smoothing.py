"""One-frame delay (OFD): repair single-frame flicker from the frames before and after.

Ke et al., "MODNet: Real-Time Trimap-Free Portrait Matting via Objective Decomposition"
(arXiv:2011.11961), section on one-frame delay.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from service.matting.resize import resize_image

Alpha = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]
Item = TypeVar("Item")

OFD_THRESHOLD = 0.1
SCENE_CUT_THRESHOLD = 0.25
SCENE_SIZE = 36, 64  # height and width of the pictures that scenes are compared on


def smooth_frame(
    previous: Alpha, current: Alpha, following: Alpha, threshold: float = OFD_THRESHOLD
) -> Alpha:
    """Repair one matte from its raw neighbours (OFD of MODNet, Ke et al.).

    All three are (H, W) float32 in [0, 1]. Where the neighbours agree within `threshold` and the
    current value differs from both by more, the result is the neighbours' mean; elsewhere it is
    the current value. Raises ValueError for other types or shapes that differ.
    """
    for alpha in (previous, current, following):
        _check(alpha, current.shape)
    xi = np.float32(threshold)
    flickers = np.abs(previous - following) <= xi
    flickers &= np.abs(current - previous) > xi
    flickers &= np.abs(current - following) > xi
    return np.where(flickers, (previous + following) * np.float32(0.5), current)


def make_thumbnail(image: Image) -> Image:
    """Return the grey (36, 64) uint8 picture of an (H, W, 3) uint8 RGB image."""
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
    return resize_image(grey, SCENE_SIZE)


def is_scene_cut(
    small_previous: Image, small_next: Image, threshold: float = SCENE_CUT_THRESHOLD
) -> bool:
    """Say whether two neighbouring frames show different scenes.

    Both are thumbnails, (36, 64) uint8: a cut is a mean absolute difference above `threshold` of
    the full range. Raises ValueError when the shapes differ.
    """
    if small_previous.shape != small_next.shape:
        raise ValueError("thumbnails of different shapes")
    difference = cv2.absdiff(small_previous, small_next)
    return float(difference.mean()) > threshold * 255


@dataclass(frozen=True)
class OneFrameDelayState(Generic[Item]):
    """What smoothing carries from one chunk to the next: raw mattes and the waiting item.

    `previous` is the raw matte before the waiting one; None at the start of a scene.
    """

    previous: Alpha | None = None
    pending: tuple[Alpha, Item] | None = None


class OneFrameDelay(Generic[Item]):
    """Smooths mattes in a stream; each comes out when its follower has come in.

    Smoothing reads raw mattes only, so a clip cut into segments that overlap by one frame on each
    side gives bit for bit the mattes of the whole (MODNet, Ke et al.). `item` is whatever belongs
    to the frame, such as its picture. Pass the `state` of an earlier one to go on where it was.
    """

    def __init__(
        self, threshold: float = OFD_THRESHOLD, state: OneFrameDelayState[Item] | None = None
    ) -> None:
        self.threshold = threshold
        self.state: OneFrameDelayState[Item] = state or OneFrameDelayState()

    def push(self, alpha: Alpha, item: Item) -> list[tuple[Alpha, Item]]:
        """Take a raw matte, (H, W) float32 in [0, 1]; return the frame before it, smoothed.

        The list is empty for a scene's first frame. Raises ValueError, and keeps its state, for
        another type or a shape that differs from the frame before.
        """
        state = self.state
        if state.pending is None:
            _check(alpha, alpha.shape)
            self.state = OneFrameDelayState(pending=(alpha, item))
            return []
        current, current_item = state.pending
        _check(alpha, current.shape)
        smoothed = current
        if state.previous is not None:
            smoothed = smooth_frame(state.previous, current, alpha, self.threshold)
        self.state = OneFrameDelayState(previous=current, pending=(alpha, item))
        return [(smoothed, current_item)]

    def reset(self) -> list[tuple[Alpha, Item]]:
        """Begin a new scene with the next frame; return the waiting one, unchanged.

        A cut shows only when its second frame is there, so that frame is pushed right after: the
        frames on both sides stay as they are, and the delay stays one frame.
        """
        return self.flush()

    def flush(self) -> list[tuple[Alpha, Item]]:
        """Return the waiting last frame, unchanged, and start anew."""
        pending = self.state.pending
        self.state = OneFrameDelayState()
        return [] if pending is None else [pending]


def _check(alpha: Alpha, shape: tuple[int, ...]) -> None:
    if alpha.dtype != np.float32 or alpha.ndim != 2:
        raise ValueError("a matte is a float32 array of two dimensions")
    if alpha.shape != shape:
        raise ValueError(f"a matte of shape {alpha.shape} follows one of {shape}")
