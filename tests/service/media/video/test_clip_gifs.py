"""GIFs whose frames do not cover their canvas: the background is transparent, as in browsers."""

import struct
from pathlib import Path

import numpy as np
import pytest

from tests.video_copies import read_clip

RED, BLUE, CANVAS = 0, 2, (16, 12)
COLOURS = bytes([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
ALL = (0, 0, *CANVAS)


def write_gif(path: Path, frames: list[tuple[tuple[int, int, int, int], int, int]]) -> Path:
    """Write frames of a place (left, top, width, height), a disposal and an index of COLOURS.

    The background of the header is green, the second colour.
    """
    out = b"GIF89a" + struct.pack("<HHBBB", *CANVAS, 0x81, 1, 0) + COLOURS
    for place, disposal, index in frames:
        out += b"\x21\xf9\x04" + struct.pack("<BHBB", disposal << 2, 10, 0, 0)
        out += b"\x2c" + struct.pack("<HHHHB", *place, 0) + b"\x02"
        bits = "".join(
            f"{code:03b}"[::-1] for _ in range(place[2] * place[3]) for code in (4, index)
        )
        bits += "101"  # codes of three bits, from the lowest on; each pixel after a clear code
        data = bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8))
        for at in range(0, len(data), 255):
            block = data[at : at + 255]
            out += bytes([len(block)]) + block
        out += b"\0"
    path.write_bytes(out + b";")
    return path


@pytest.mark.parametrize(
    ("frames", "hidden"),
    [
        ([((2, 2, 5, 5), 1, RED), ((9, 2, 5, 5), 1, BLUE)], [167, 142]),
        ([(ALL, 2, RED), ((2, 2, 5, 5), 1, BLUE)], [0, 167]),
        ([(ALL, 1, RED), ((2, 2, 5, 5), 2, BLUE), ((9, 2, 5, 5), 1, BLUE)], [0, 0, 25]),
        ([(ALL, 1, RED), ((2, 2, 5, 5), 3, BLUE), ((9, 2, 5, 5), 1, BLUE)], [0, 0, 0]),
        ([(ALL, 1, RED), (ALL, 1, BLUE)], [0, 0]),
    ],
)
def test_background_of_a_gif_is_transparent(tmp_path, frames, hidden: list[int]) -> None:
    clip = read_clip(write_gif(tmp_path / "a.gif", frames))
    assert clip.repairs.describe() == {}
    for frame, (place, _, index), count in zip(clip.frames, frames, hidden, strict=True):
        alpha = np.full(CANVAS[::-1], 255) if frame.alpha is None else frame.alpha
        assert np.count_nonzero(alpha == 0) == count
        assert np.count_nonzero(alpha == 255) == alpha.size - count
        left, top, width, height = place
        shown = frame.image[top : top + height, left : left + width].reshape(-1, 3)
        assert np.unique(shown, axis=0).tolist() == [[*COLOURS[3 * index : 3 * index + 3]]]
        assert not (frame.image == (0, 255, 0)).all(2).any()
