"""Fragments of one encoder are one MP4, wherever they are cut."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.media.video.writing.fragment_writer import (
    TICKS_PER_S,
    FragmentWriter,
    choose_level,
    describe_mime,
)
from tests.clips import picture
from tests.videos import Clip

SIZE = 64, 96
FRAME = TICKS_PER_S // 25


def write(cuts: list[int], count: int = 9, size: tuple[int, int] = SIZE, level: int = 31) -> bytes:
    """Return a stream of `count` frames whose fragments end at `cuts`."""
    writer = FragmentWriter(size, 25, level)
    pieces, packets = [writer.init], []
    for index in range(count):
        packets.append(writer.encode(picture(index, size[::-1]), index * FRAME))
        if index in cuts or index == count - 1:
            pieces.append(writer.mux(packets, len(pieces), (index + 1) * FRAME))
            packets = []
    return b"".join(pieces)


@settings(max_examples=10)
@given(cuts=st.sets(st.integers(0, 8)))
def test_fragments_are_one_file_whose_pixels_do_not_depend_on_cuts(cuts: set[int]) -> None:
    whole, cut = Clip(write([])), Clip(write(sorted(cuts)))
    assert cut.times == whole.times == [Fraction(index, 25) for index in range(9)]
    assert all(
        np.array_equal(one, other) for one, other in zip(whole.images, cut.images, strict=True)
    )
    assert cut.duration == whole.duration


def test_pictures_survive_in_their_colours() -> None:
    clip = Clip(write([3]))
    for index, image in enumerate(clip.images):
        assert np.abs(image.astype(int) - picture(index, (96, 64))).mean() < 6


def test_durations_and_numbers_of_fragments_go_on() -> None:
    content = write([0, 4])
    with av.open(io.BytesIO(content)) as container:
        packets = [packet for packet in container.demux() if packet.size]
    assert [packet.dts for packet in packets] == [index * FRAME for index in range(9)]
    assert {packet.duration for packet in packets} == {FRAME}
    starts = [i for i in range(len(content)) if content.startswith(b"mfhd", i)]
    assert [content[i + 11] for i in starts] == [1, 2, 3]


def test_new_encoder_goes_on_with_a_frame_of_its_own() -> None:
    first, second = FragmentWriter(SIZE, 25, 31), FragmentWriter(SIZE, 25, 31)
    assert first.init == second.init
    pieces = [first.init]
    for number, writer in enumerate((first, second), start=1):
        start = (number - 1) * 2
        packets = [writer.encode(picture(start + k, (96, 64)), (start + k) * FRAME) for k in (0, 1)]
        assert packets[0].is_keyframe and not packets[1].is_keyframe
        pieces.append(writer.mux(packets, number, (start + 2) * FRAME))
    assert Clip(b"".join(pieces)).times == [Fraction(index, 25) for index in range(4)]


@pytest.mark.parametrize(("size", "padded"), [((63, 95), (64, 96)), ((64, 95), (64, 96))])
def test_odd_sizes_are_padded_to_even(size: tuple[int, int], padded: tuple[int, int]) -> None:
    clip = Clip(write([], count=2, size=size))
    assert clip.images[0].shape == (*padded, 3)


@pytest.mark.parametrize("level", [30, 31, 42, 52])
def test_promised_codec_is_the_real_one(level: int) -> None:
    with av.open(io.BytesIO(write([], count=1, level=level))) as container:
        avcc = container.streams.video[0].codec_context.extradata
    assert describe_mime(level) == f'video/mp4; codecs="avc1.{avcc[1:4].hex()}"'


def test_level_fits_the_size_and_the_rate() -> None:
    assert choose_level((480, 640), 30) == 30
    assert choose_level((720, 1280), 30) == 31
    assert choose_level((1080, 1920), 30) == 40
    assert choose_level((1080, 1920), 60) == 42
    assert choose_level((2160, 3840), 30) == 51
    assert choose_level((2160, 3840), 60) == choose_level(None, 1) == 52
