"""Clips of whose pictures a part is shown, by the word of their container."""

import struct
from pathlib import Path

import numpy as np
import pytest

from service.media.video.container.elements import (
    CLUSTER,
    SEGMENT,
    TRACKS,
    list_elements,
    read_element,
)
from tests import clips
from tests.video_copies import read_clip

ENTERED = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
LEFT, TOP, WIDTH, HEIGHT = 10, 4, 80, 48
APERTURE = struct.pack("!IIIIiIiI", WIDTH, 1, HEIGHT, 1, 2, 1, -4, 1)  # of 96 x 64
MARGINS = {0x54CC: LEFT, 0x54BB: TOP, 0x54DD: 96 - LEFT - WIDTH, 0x54AA: 64 - TOP - HEIGHT}
TRACK, VIDEO = 0xAE, 0xE0


def add_aperture(source: Path, target: Path) -> Path:
    """Write an MP4 whose index lies at its end with a `clap` box."""
    data, at, around = bytearray(source.read_bytes()), 0, []
    extra = struct.pack("!I4s", 8 + len(APERTURE), b"clap") + APERTURE
    while True:
        size, kind = struct.unpack_from("!I4s", data, at)
        if kind == b"avc1":
            break
        is_around = kind in (*ENTERED, b"stsd")
        around += [at] if is_around else []
        at += (16 if kind == b"stsd" else 8) if is_around else size
    for place in (*around, at):
        struct.pack_into("!I", data, place, struct.unpack_from("!I", data, place)[0] + len(extra))
    target.write_bytes(data[: at + size] + extra + data[at + size :])
    return target


def pack(name: int, content: bytes) -> bytes:
    size = (1 << 56 | len(content)).to_bytes(8)
    return name.to_bytes((name.bit_length() + 7) // 8) + size + content


def add_margins(source: Path, target: Path) -> Path:
    """Write a live Matroska whose track has margins."""

    def change(name: int, content: bytes) -> bytes:
        if name in (TRACKS, TRACK, VIDEO):
            inside = b"".join(change(*one) for one in list_elements(content))
            more = {} if name != VIDEO else MARGINS
            return pack(name, inside + b"".join(pack(n, bytes([v])) for n, v in more.items()))
        return pack(name, content)

    data, at = source.read_bytes(), 0
    while True:
        name, content, size = read_element(data[at : at + 16])
        if name == TRACKS:
            break
        at += content + (0 if name == SEGMENT else size)
    end = at + content + size
    assert data.find(CLUSTER.to_bytes(4)) > at
    tracks = change(TRACKS, data[at + content : end])
    target.write_bytes(data[:at] + tracks + data[end:])
    return target


@pytest.mark.parametrize("rotation", [0, 90])
@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv"])
def test_part_of_the_picture_that_a_container_shows(tmp_path, name: str, rotation: int) -> None:
    options = {"live": "1"} if name == "a.mkv" else {}
    whole = clips.make_clip(
        tmp_path / name, seconds=0.4, tone=False, rotation=rotation, options=options
    )
    add = add_margins if name == "a.mkv" else add_aperture
    clip, full = read_clip(add(whole, tmp_path / f"cut-{name}")), read_clip(whole)
    size = (WIDTH, HEIGHT) if rotation == 0 else (HEIGHT, WIDTH)
    assert (clip.info.width, clip.info.height) == size
    assert clip.repairs.describe() == {} and len(clip.frames) == len(full.frames)
    for frame, known in zip(clip.frames, full.frames, strict=True):
        upright = np.rot90(known.image, rotation // 90)
        shown = upright[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH]
        expected = np.rot90(shown, -(rotation // 90)).astype(np.int16)
        assert np.abs(frame.image - expected).mean() < 1  # colours are sampled anew


def test_aperture_that_makes_no_sense_is_none(tmp_path, monkeypatch) -> None:
    whole = clips.make_clip(tmp_path / "a.mp4", seconds=0.2, tone=False)
    for numbers in [
        (200, 1, 48, 1, 0, 1, 0, 1),
        (80, 0, 48, 1, 0, 1, 0, 1),
        (0, 1, 0, 1, 0, 1, 0, 1),
    ]:
        monkeypatch.setitem(globals(), "APERTURE", struct.pack("!IIIIiIiI", *numbers))
        clip = read_clip(add_aperture(whole, tmp_path / "cut.mp4"))
        assert (clip.info.width, clip.info.height) == (96, 64)
