"""Clips that change on the way, or do not say what they are: read right, or told."""

import os
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import ColorRange

from service.media.audio.encoder import AudioConverter
from service.media.video.deinterlace import make_graph
from service.media.video.types import Box, ClipSelection, UndecodableVideo
from tests import clip_kinds, clips
from tests.clip_kinds import flat, write_pictures
from tests.video_copies import read_clip

SIZE = (96, 64)


def join_pieces(tmp_path, name: str, pieces: list[dict]):
    """Join clips of 0.4 s with a pause between them as a TS, then copy that to a container."""
    joined = b""
    for number, piece in enumerate(pieces):
        path = tmp_path / f"piece{number}.ts"
        clips.make_clip(path, seconds=0.4, fps=25, tone=False, start_s=0.6 * number, **piece)
        joined += path.read_bytes()
    path = tmp_path / "joined.ts"
    path.write_bytes(joined)
    if name.endswith(".ts"):
        return path
    return clip_kinds.copy_packets(path, tmp_path / name, lambda packet: packet.pts is not None)


@pytest.mark.parametrize("name", ["a.ts", "a.mkv", "a.mp4"])
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("sizes", [[SIZE, (192, 128)], [(192, 128), SIZE]])
def test_size_that_changes_is_told(tmp_path, name: str, codec: str, sizes) -> None:
    clip = read_clip(join_pieces(tmp_path, name, [{"codec": codec, "size": s} for s in sizes]))
    assert len(clip.frames) == 20
    assert {frame.image.shape[1::-1] for frame in clip.frames} == {sizes[0]}
    assert clip.repairs.describe() == {"frames_resized": 10}
    for number in (0, 19):
        wanted = cv2.resize(clips.picture(number % 10, sizes[number // 10]), sizes[0])
        assert np.abs(clip.frames[number].image - wanted.astype(int)).mean() < 12


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_shape_of_pixels_that_changes_is_fitted(tmp_path, codec: str) -> None:
    """Televisions change from 4:3 to 16:9 with pictures of one size."""
    colour = (200, 60, 40)
    shapes = [Fraction(16, 15), Fraction(64, 45)]
    pieces = [
        {"codec": codec, "color": colour, "size": (720, 576), "sample_aspect_ratio": shape}
        for shape in shapes
    ]
    clip = read_clip(join_pieces(tmp_path, "a.ts", pieces))
    assert clip.info.sample_aspect_ratio == shapes[0]
    assert clip.repairs.describe() == {"frames_fitted": 10}
    boxes = [frame.box for frame in clip.frames]
    assert boxes == [None] * 10 + [Box(0, 72, 720, 432)] * 10
    shown = clip.frames[-1].image
    assert np.abs(shown[80:496].mean((0, 1)) - colour).max() <= 4 and shown[:64].max() == 0


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.mp4", "libx265", "gray"),
        ("a.mp4", "libx265", "gray10le"),
        ("a.mkv", "ffv1", "gray"),
        ("a.mkv", "ffv1", "yuv420p"),
        ("a.mkv", "libx264", "gray"),
    ],
)
def test_grey_of_limited_range(tmp_path, name: str, codec: str, pix_fmt: str) -> None:
    levels = np.repeat(np.array([16, 126, 235], np.uint16), 32)
    planes = np.tile(levels, (64, 1))
    if pix_fmt == "yuv420p":
        planes = np.vstack([planes, np.full((32, 96), 128)])
    planes = planes * 4 if pix_fmt == "gray10le" else planes.astype(np.uint8)
    path = tmp_path / name
    with av.open(str(path), "w") as out:
        options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
        stream = out.add_stream(codec, rate=25, options=options | {"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, pix_fmt
        stream.codec_context.color_range = ColorRange.MPEG
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(planes.astype(planes.dtype), pix_fmt)
            frame.pts, frame.color_range = index, ColorRange.MPEG
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    shown = read_clip(path).frames[1].image[32, [10, 48, 86]].astype(int)
    assert np.abs(shown - np.array([[0], [128], [255]])).max() <= 1


def comb(index: int, step: int = 3) -> np.ndarray:
    """Return a picture whose rows are of two moments, the upper field first."""
    image = clips.picture(2 * index * step, SIZE)
    image[1::2] = clips.picture((2 * index + 1) * step, SIZE)[1::2]
    return image


def measure_combing(image: np.ndarray) -> float:
    rows = image.astype(int)
    return float(np.abs(2 * rows[1:-1] - rows[:-2] - rows[2:]).mean())


def state_fields(stream) -> None:
    stream.codec_context.field_order = 2


COMBED = [
    ("a.mkv", "libvpx", "yuv420p"),
    ("a.mkv", "libvpx-vp9", "yuv420p"),
    ("a.mkv", "ffv1", "yuv420p"),
    ("a.mov", "png", "rgb24"),
    ("a.mov", "mjpeg", "yuvj422p"),
    ("a.mov", "qtrle", "rgb24"),
]


@pytest.mark.parametrize(("name", "codec", "pix_fmt"), COMBED)
def test_fields_that_only_the_container_knows(tmp_path, name, codec, pix_fmt) -> None:
    images = [comb(index) for index in range(12)]
    path = write_pictures(
        tmp_path / name, images, codec=codec, pix_fmt=pix_fmt, prepare=state_fields
    )
    clip = read_clip(path)
    assert (clip.info.interlaced, clip.info.deinterlaced) == (True, True)
    assert clip.info.top_field_first and clip.repairs.describe() == {}
    assert len(clip.frames) == 12
    assert measure_combing(clip.frames[6].image) < measure_combing(images[6]) / 2
    kept = read_clip(path, ClipSelection(deinterlace="off"))
    assert (kept.info.interlaced, kept.info.deinterlaced) == (True, False)
    assert clip.times == kept.times


@pytest.mark.parametrize("name", ["a.avi", "a.mov"])
def test_lower_field_of_dv_comes_first(tmp_path, name: str) -> None:
    size = (720, 576)
    images = []
    for index in range(6):
        image = clips.picture(6 * index, size)
        image[::2] = clips.picture(6 * index + 3, size)[::2]
        images.append(image)
    path = write_pictures(tmp_path / name, images, codec="dvvideo")
    kept = read_clip(path, ClipSelection(deinterlace="off"))
    assert kept.info.interlaced and not kept.info.top_field_first
    auto, always = (read_clip(path, ClipSelection(deinterlace=how)) for how in ("auto", "always"))
    assert all(
        np.array_equal(one.image, other.image)
        for one, other in zip(auto.frames, always.frames, strict=True)
    )


@pytest.mark.parametrize(
    ("name", "codec"), [("a.webm", "libvpx"), ("a.mp4", "libx264"), ("a.avi", "mpeg4")]
)
def test_fields_that_nobody_states_are_told(tmp_path, name: str, codec: str) -> None:
    images = [comb(index) for index in range(20)]
    path = write_pictures(tmp_path / name, images, codec=codec)
    clip = read_clip(path)
    assert not clip.info.interlaced and clip.repairs.frames_combed >= 15
    mended = read_clip(path, ClipSelection(deinterlace="always"))
    assert mended.info.deinterlaced and mended.repairs.describe() == {}
    assert measure_combing(mended.frames[6].image) < measure_combing(clip.frames[6].image) / 2
    assert mended.times == clip.times


@pytest.mark.parametrize("kind", ["pan", "still", "stripes", "cuts", "text"])
def test_clip_without_fields_is_not_called_combed(tmp_path, kind: str) -> None:
    random = np.random.default_rng(0)
    text = np.zeros((64, 96, 3), np.uint8)
    text[20:30:3, 10:80] = 255
    makers = {
        "pan": lambda index: clips.picture(3 * index, SIZE),
        "still": lambda index: clips.picture(0, SIZE),
        "stripes": lambda index: np.tile(np.uint8([[[0]], [[255]]]), (32, 96, 3)),
        "cuts": lambda index: clips.picture(int(random.integers(0, 300)), SIZE),
        "text": lambda index: np.roll(text, index, 0),
    }
    path = write_pictures(tmp_path / "a.mp4", [makers[kind](index) for index in range(30)])
    assert read_clip(path).repairs.describe() == {}


@pytest.mark.parametrize(
    "first, second",
    [
        (dict(colorspace=6), dict(colorspace=1)),
        (dict(colorspace=1), dict(colorspace=1, color_range=ColorRange.JPEG)),
    ],
)
def test_colours_that_change(tmp_path, first, second) -> None:
    colour = (200, 60, 40)
    pieces = [{**piece, "color": colour} for piece in (first, second)]
    clip = read_clip(join_pieces(tmp_path, "a.ts", pieces))
    assert len(clip.frames) == 20
    for frame in clip.frames:
        assert np.abs(frame.image.astype(int) - colour).max() <= 4
    assert clip.repairs.describe() == {"colour_changes": 1}


def write_hdr_after_sdr(tmp_path):
    joined = b""
    for number, codes in enumerate([(1, 1, 1), (9, 16, 9)]):
        path = write_pictures(
            tmp_path / f"{number}.ts",
            [flat((148, 148, 148))] * 10,
            codec="libx265",
            times_ms=range(400 * number, 400 * number + 400, 40),
            pix_fmt="yuv420p10le",
            options={"x265-params": "log-level=none"},
            prepare=clip_kinds.tag(*codes),
        )
        joined += path.read_bytes()
    path = tmp_path / "a.ts"
    path.write_bytes(joined)
    return path


def test_hdr_that_follows_sdr(tmp_path) -> None:
    """Grey of level 148 is reference white in PQ."""
    path = write_hdr_after_sdr(tmp_path)
    clip = read_clip(path)
    assert abs(int(clip.frames[2].image.mean()) - 148) <= 2
    assert clip.frames[-2].image.min() >= 0.85 * 255
    assert clip.repairs.colour_changes == 1
    with pytest.raises(UndecodableVideo, match="HDR .BT.2020 PQ"):
        read_clip(path, ClipSelection(tone_maps=False))


@pytest.mark.parametrize("codec", ["ac3", "eac3"])
@pytest.mark.parametrize("layouts", [["5.1", "stereo"], ["stereo", "5.1"]])
def test_copied_audio_that_changes_is_told(tmp_path, codec: str, layouts) -> None:
    path = clip_kinds.make_audio_change(tmp_path / "a.ts", layouts, codec=codec)
    clip = read_clip(path, ClipSelection(audio=("mp4",)))
    assert clip.info.audio[0].codec == codec
    assert clip.repairs.describe().get("audio_changes") == 1


@pytest.mark.parametrize("rates", [[48_000, 44_100], [32_000, 48_000]])
def test_copied_mp3_whose_rate_changes_is_told(tmp_path, rates) -> None:
    path = clip_kinds.make_audio_change(
        tmp_path / "a.ts", ["stereo", "stereo"], codec="libmp3lame", rates=rates
    )
    clip = read_clip(path, ClipSelection(audio=("mp4",)))
    assert clip.repairs.audio_changes == 1
    heard_s = sum(p.duration for p in clip.packets) * clip.info.audio[0].time_base
    assert heard_s == pytest.approx(2, abs=0.15)
    assert Fraction(clip.info.audio[0].sample_rate) == rates[0]


def test_sound_copied_audio_has_no_changes(tmp_path) -> None:
    path = clip_kinds.make_audio_change(tmp_path / "a.ts", ["stereo", "stereo"])
    assert read_clip(path).repairs.describe() == {}
    assert av.open(str(path)).streams.audio[0].codec_context.name == "ac3"


def test_filters_start_no_threads() -> None:
    """Each would reserve address space, of which a decoder child has a limited amount."""

    def count() -> int:
        return len(os.listdir("/proc/self/task"))

    before, converter = count(), AudioConverter("fltp", "stereo", clips.SAMPLE_RATE, None)
    graphs = [make_graph(av.VideoFrame(96, 64, "yuv420p"), name, "") for name in ("idet", "bwdif")]
    converter.convert(clips.tone_frame(0, 1024))
    assert count() == before and len(graphs) == 2
