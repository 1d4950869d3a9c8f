"""Clips in HDR and wide gamuts: a photo coded so comes back, whatever the layout of its samples."""

from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Interpolation
from PIL import Image

from service.media.decoder.client import Decoder
from service.settings import Settings
from tests import clip_kinds, clips
from tests.helpers import encode
from tests.profiles import convert_to_srgb, make_profile
from tests.service.media.colour.test_colour_conversion import code_as
from tests.video_copies import read_clip

LOSSLESS = {
    "libx264": {"qp": "0", "preset": "ultrafast"},
    "libx265": {"x265-params": "log-level=none:lossless=1", "preset": "ultrafast"},
    "ffv1": {},
    "mjpeg": {"qmin": "1", "qmax": "1"},
}
SIZES = [(96, 64), (97, 65)]


def write_codes(
    path, codes: np.ndarray, codec: str, pix_fmt: str, tag, full_range: bool = False
) -> None:
    """Write (H, W, 3) uint16 R'G'B' as a clip of three equal pictures; `tag`: as of clip_kinds."""
    values = ColorRange.JPEG if full_range else ColorRange.MPEG
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25, options=LOSSLESS[codec])
        (stream.height, stream.width), stream.pix_fmt = codes.shape[:2], pix_fmt
        clip_kinds.tag(*tag, values)(stream)
        picture = av.VideoFrame.from_ndarray(codes, "rgb48le").reformat(
            format=pix_fmt,
            dst_colorspace=tag[2] if codec != "mjpeg" else 5,
            src_color_range=ColorRange.JPEG,
            dst_color_range=values,
            interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND,
        )
        for index in range(3):
            picture.pts, picture.color_range = index, values
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))


def differ(image: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(image.astype(float) - wanted).mean())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("transfer", "name"), [(16, "BT.2020 PQ"), (18, "BT.2020 HLG")])
@pytest.mark.parametrize(
    ("codec", "pix_fmt"),
    [
        ("libx265", "yuv420p10le"),
        ("libx265", "yuv422p10le"),
        ("libx265", "yuv444p12le"),
        ("ffv1", "yuv420p12le"),
        ("ffv1", "yuv440p10le"),
        ("ffv1", "gbrp10le"),
    ],
)
def test_portrait_in_hdr_comes_back(tmp_path, codec, pix_fmt, transfer, name, size) -> None:
    if codec == "libx265" and "444" not in pix_fmt:
        size = SIZES[0]  # it takes no odd ones
    photo = clips.picture(0, size)
    matrix = 0 if pix_fmt.startswith("gbr") else 9
    write_codes(tmp_path / "a.mkv", code_as(transfer, photo), codec, pix_fmt, (9, transfer, matrix))
    clip = read_clip(tmp_path / "a.mkv")
    assert len(clip.frames) == 3 and clip.info.tone_mapped_from == name
    assert differ(clip.frames[1].image, photo) < 4


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.mp4", "libx264", "yuv420p"),
        ("a.mp4", "libx264", "yuv444p"),
        ("a.mkv", "ffv1", "yuv420p"),
        ("a.mov", "mjpeg", "yuvj420p"),
    ],
)
def test_portrait_in_display_p3_comes_back(
    tmp_path, name, codec, pix_fmt, full_range, size
) -> None:
    if codec == "libx264" and pix_fmt == "yuv420p":
        size = SIZES[0]  # it takes no odd ones
    photo = clips.picture(0, size)
    codes = photo.astype(np.uint16) * 257
    full_range |= codec == "mjpeg"
    write_codes(tmp_path / name, codes, codec, pix_fmt, (12, 13, 1), full_range)
    clip = read_clip(tmp_path / name)
    assert clip.info.gamut_converted_from == "Display P3"
    assert differ(clip.frames[1].image, convert_to_srgb("P3", photo)) < 4
    assert differ(photo, convert_to_srgb("P3", photo)) > 1


def write_files(path, codec: str, pix_fmt: str, files: list[bytes]):
    """Write photos as the pictures of a clip, their bytes untouched."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=15)
        stream.width, stream.height, stream.pix_fmt = 96, 64, pix_fmt
        stream.codec_context.open()
        for index, data in enumerate(files):
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, Fraction(1, 15)
            packet.pts = packet.dts = index
            packet.is_keyframe = True
            out.mux(packet)
    return path


KINDS = {
    "JPEG": ("mjpeg", "yuvj444p", {"quality": 98, "subsampling": 0}),
    "PNG": ("png", "rgb24", {}),
    "AVIF": ("", "", {"quality": 100, "subsampling": "4:4:4", "save_all": True}),
}


def make_profiled(tmp_path, kind: str, profile: str, count: int = 3):
    photo = Image.fromarray(clips.picture(0, (96, 64)))
    codec, pix_fmt, options = KINDS[kind]
    icc = make_profile(profile)
    if kind == "AVIF":
        path = tmp_path / "a.avif"
        photo.save(path, icc_profile=icc, append_images=[photo] * (count - 1), **options)
        return path
    file = encode(photo, kind, icc_profile=icc, **options)
    return write_files(tmp_path / "a.mov", codec, pix_fmt, [file] * count)


@pytest.mark.parametrize("profile", ["P3", "Adobe RGB", "sRGB"])
@pytest.mark.parametrize("kind", KINDS)
def test_profile_of_a_clip_is_used(tmp_path, kind: str, profile: str) -> None:
    photo = clips.picture(0, (96, 64))
    clip = read_clip(make_profiled(tmp_path, kind, profile))
    assert len(clip.frames) == 3 and clip.repairs.describe() == {}
    wanted = convert_to_srgb(profile, photo)
    for frame in clip.frames:
        assert differ(frame.image, wanted) < 1.5
    told = None if profile == "sRGB" else "an ICC profile"
    assert clip.info.gamut_converted_from == told


def test_profiles_of_many_png_end_no_decoder(tmp_path) -> None:
    """The library frees the names of profiles in PNG twice."""
    path = make_profiled(tmp_path, "PNG", "P3", count=150)
    decoder = Decoder(Settings())
    try:
        with path.open("rb") as file:
            info = decoder.open_video(file, max_s=100)
        assert len(list(decoder.read_video(info))) == 150
    finally:
        decoder.close()
