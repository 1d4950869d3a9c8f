"""Clips in HDR and wide gamuts: a photo coded so comes back, whatever the layout of its samples."""

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Interpolation

from tests import clip_kinds, clips
from tests.profiles import convert_to_srgb
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
