"""How a clip's pictures are turned to be upright, by their display matrix (decoder child)."""

import math
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from av.sidedata.sidedata import Type as SideDataType

from service.media.video.types import Image

_LEAST_TURN_DEG = 1.0  # FFmpeg takes less for rounding
_DISPLAY_MATRIX = SideDataType.DISPLAYMATRIX
N = TypeVar("N")


def _make_unnamed(cls: type[SideDataType], number: object) -> SideDataType:
    member: Any = object.__new__(cls)
    member._name_, member._value_ = f"UNNAMED_{number}", number
    made: SideDataType = member
    return made


# FFmpeg has more kinds of side data than the library has names; one of them alone would hide all.
SideDataType._missing_ = classmethod(_make_unnamed)  # type: ignore[assignment]


def states_turn(frame: Any) -> bool:
    """Say whether a frame says how it is turned."""
    return _DISPLAY_MATRIX in (data.type for data in frame.side_data)


def measure_rest(frame: Any) -> float:
    """Return by how many degrees a frame's turn differs from the one that is applied.

    It is that of the axis that is further off, where the matrix slants the picture.
    """
    if not states_turn(frame):
        return 0.0
    a, b, _, c, d = _read_matrix(frame)[:5]
    angles = [math.degrees(math.atan2(*axis)) % 90 for axis in ((b, a), (d, c)) if any(axis)]
    rest = max((min(angle, 90 - angle) for angle in angles), default=0.0)
    return round(rest, 1) if rest >= _LEAST_TURN_DEG else 0.0


def _read_matrix(frame: Any) -> list[int]:
    numbers: list[int] = np.frombuffer(bytes(frame.side_data[_DISPLAY_MATRIX]), np.int32).tolist()
    return numbers


@dataclass(frozen=True)
class Orientation:
    """How a stored picture becomes upright: swap rows and columns, then flip."""

    transposed: bool = False
    flipped_x: bool = False
    flipped_y: bool = False

    @classmethod
    def of(cls, frame: Any) -> "Orientation":
        """Read the display matrix of a frame: x' = a x + c y, y' = b x + d y, in 16.16 numbers."""
        if not states_turn(frame):
            return cls()
        a, b, _, c, d = _read_matrix(frame)[:5]
        if abs(b) + abs(c) > abs(a) + abs(d):
            return cls(True, flipped_x=c < 0, flipped_y=b < 0)
        return cls(False, flipped_x=a < 0, flipped_y=d < 0)

    @property
    def mirrored(self) -> bool:
        return self.transposed ^ self.flipped_x ^ self.flipped_y

    @property
    def rotation_deg(self) -> int:
        """The clockwise turn that follows the left-right flip of a mirrored picture."""
        if self.transposed:
            return 90 if self.flipped_x else 270
        return 180 if self.flipped_y else 0

    def apply(self, image: Image) -> Image:
        if self.transposed:
            image = image.swapaxes(0, 1)
        return np.ascontiguousarray(
            image[:: -1 if self.flipped_y else 1, :: -1 if self.flipped_x else 1]
        )

    def turn_size(self, size: tuple[N, N]) -> tuple[N, N]:
        """Return width and height of a picture before or after the turn, of the other one."""
        return (size[1], size[0]) if self.transposed else size
