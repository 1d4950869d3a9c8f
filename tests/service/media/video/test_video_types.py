import dataclasses
import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.media.audio.types import AudioPacket, AudioTrack, TrackLabels
from service.media.colour.planes import YuvPicture
from service.media.decoder.messages import read_frame, read_packet, read_repairs, read_video_info
from service.media.video.repairs import Repairs
from service.media.video.types import Box, VideoFrame, VideoInfo, VideoLimitExceeded
from service.media.wire.fields import to_header

LABELS = TrackLabels("eng", "Director's cut")
TRACK = AudioTrack(0, "aac", 48_000, "stereo", Fraction(1, 48_000), b"\x11\x90", LABELS, "vorbis")
INFO = VideoInfo(
    width=6,
    height=4,
    rotation_deg=90,
    mirrored=False,
    time_base=Fraction(1, 15_360),
    average_rate=Fraction(30_000, 1001),
    sample_aspect_ratio=Fraction(4, 3),
    container="mov,mp4,m4a,3gp,3g2,mj2",
    codec="h264",
    color_range=1,
    color_primaries=1,
    color_trc=1,
    colorspace=1,
    frames_estimate=None,
    duration_s=1.5,
    origin_pts=-3,
    audio=(TRACK,),
)
PACKET = AudioPacket(0, -1024, -1024, 1024, True, b"sound")


def through_json(header: dict) -> dict:
    return json.loads(json.dumps(header))


def test_info_survives_the_wire():
    assert read_video_info(through_json(INFO.to_wire())) == INFO


def test_packet_survives_the_wire():
    header, payload = PACKET.to_wire()
    assert read_packet(through_json(header), bytearray(payload)) == PACKET


def test_repairs_survive_the_wire():
    repairs = Repairs(1, 2, 3, 4, 5, 6, 7, 8, 9, 10.5, 11, 12)
    assert read_repairs(through_json(repairs.to_wire())) == repairs


def test_alpha_and_box_of_a_frame_survive_the_wire():
    random = np.random.default_rng(0)
    image, alpha = (random.integers(0, 256, shape, np.uint8) for shape in ((3, 5, 3), (3, 5)))
    header, payload = VideoFrame(0, 1, image, alpha, Box(1, 0, 3, 3)).to_wire()
    frame = read_frame(through_json(header), bytearray(payload))
    assert np.array_equal(frame.image, image) and np.array_equal(frame.alpha, alpha)
    assert frame.box == Box(1, 0, 3, 3)
    with pytest.raises(ValueError, match="outside"):
        read_frame(header | {"box": {"left": 3, "top": 0, "width": 3, "height": 3}}, payload)


@pytest.mark.parametrize("transposed", [False, True])
def test_frame_survives_the_wire(transposed):
    image = np.random.default_rng(0).integers(0, 256, (3, 5, 3), np.uint8)
    image = image.swapaxes(0, 1) if transposed else image
    header, payload = VideoFrame(7, None, image).to_wire()
    frame = read_frame(through_json(header), bytearray(payload))
    assert (frame.pts, frame.duration) == (7, None)
    assert np.array_equal(frame.image, image)


def test_planes_survive_the_wire():
    planes = np.random.default_rng(0).integers(0, 256, (6, 6), np.uint8)
    header, payload = VideoFrame(0, 1, YuvPicture(planes, 9)).to_wire()
    frame = read_frame(through_json(header), bytearray(payload))
    assert frame.size == (4, 6) and frame.planes is not None and frame.planes.matrix == 9
    assert np.array_equal(frame.planes.planes, planes)


@pytest.mark.parametrize(
    "change", [{"matrix": 0}, {"matrix": 8}, {"matrix": None}, {"height": 3, "width": 8}]
)
def test_planes_refuse_a_header_that_does_not_fit_them(change):
    header, payload = VideoFrame(0, 1, YuvPicture(np.zeros((6, 6), np.uint8), 1)).to_wire()
    with pytest.raises(ValueError, match=r"."):
        read_frame(header | change, bytes(payload))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("width", 0),
        ("width", 16_385),
        ("width", "6"),
        ("width", 6.0),
        ("height", True),
        ("height", None),
        ("rotation_deg", 45),
        ("mirrored", 1),
        ("time_base", "1/0"),
        ("time_base", "0/1"),
        ("time_base", f"1/{1 << 31}"),
        ("time_base", [1, 2, 3]),
        ("time_base", "thirty"),
        ("average_rate", "1.5/2"),
        ("sample_aspect_ratio", "-4/3"),
        ("container", "mp4\n"),
        ("container", "a" * 65),
        ("codec", "../h264"),
        ("color_range", 3),
        ("colorspace", 256),
        ("frames_estimate", -1),
        ("duration_s", float("nan")),
        ("duration_s", float("inf")),
        ("origin_pts", 1 << 60),
        ("audio", None),
        ("audio", [3]),
        ("audio", [to_header(TRACK)] * 2),
        ("audio", [to_header(TRACK) | {"index": i} for i in range(49)]),
        ("audio", [to_header(TRACK) | {"codec": "pcm_s16le"}]),
        ("audio", [to_header(TRACK) | {"layout": "FL+FR+LFE"}]),
        ("audio", [to_header(TRACK) | {"sample_rate": 0}]),
        ("audio", [to_header(TRACK) | {"extradata": "A" * 400}]),
        ("audio", [to_header(TRACK) | {"extradata": "="}]),
        ("audio", [to_header(TRACK) | {"labels": {"language": "english"}}]),
        ("audio", [to_header(TRACK) | {"containers": "mp4"}]),
        ("audio", [to_header(TRACK) | {"containers": ["mp4", "avi"]}]),
        ("audio", [to_header(TRACK) | {"containers": ["webm"]}]),
        ("pixel_format", "yuv 420"),
        ("bit_depth", 0),
        ("interlaced", 1),
    ],
)
def test_info_refuses_values_no_reader_sends(name, value):
    with pytest.raises(ValueError, match=r"."):
        read_video_info(INFO.to_wire() | {name: value})


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(VideoInfo)])
def test_info_refuses_a_wrong_type_in_every_field(name):
    with pytest.raises(ValueError, match=r"."):
        read_video_info(INFO.to_wire() | {name: {"a": 1}})


@pytest.mark.parametrize(
    "change",
    [
        {"height": 4},
        {"width": 0},
        {"height": -1},
        {"height": 1 << 40},
        {"width": None},
        {"pts": 1 << 63},
        {"pts": None},
        {"duration": -1},
    ],
)
def test_frame_refuses_a_header_that_does_not_fit_its_pixels(change):
    header, payload = VideoFrame(0, 1, np.zeros((3, 5, 3), np.uint8)).to_wire()
    with pytest.raises(ValueError, match=r"."):
        read_frame(header | change, bytes(payload))


@pytest.mark.parametrize(
    "change", [{"track": 48}, {"dts": "0"}, {"duration": -1}, {"is_keyframe": 1}, {"pts": 1e3}]
)
def test_packet_refuses_values_no_reader_sends(change):
    header, payload = PACKET.to_wire()
    with pytest.raises(ValueError, match=r"."):
        read_packet(header | change, payload)


def test_packet_refuses_no_bytes_and_too_many():
    header, _ = PACKET.to_wire()
    for size in (0, (4 << 20) + 1):
        with pytest.raises(ValueError, match="size"):
            read_packet(header, bytes(size))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@given(st.sampled_from(sorted(INFO.to_wire())), JSON, st.binary(max_size=60))
def test_reading_raises_only_value_errors(name, value, payload):
    for read, header in (
        (read_video_info, INFO.to_wire()),
        (read_frame, VideoFrame(0, 1, np.zeros((3, 5, 3), np.uint8)).to_wire()[0]),
        (read_packet, PACKET.to_wire()[0]),
    ):
        arguments = () if read is read_video_info else (payload,)
        try:
            read(header | {name: value}, *arguments)
        except ValueError:
            pass


def test_limit_says_what_was_found():
    assert str(VideoLimitExceeded("frames", 30, 31)) == "The video has 31 frames; the limit is 30."
    assert "a side of 5000 pixels" in str(VideoLimitExceeded("side", 4096, 5000))
