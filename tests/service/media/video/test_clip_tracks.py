"""What of a file is the clip: animations, items beside tracks, bytes that look like alpha."""

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from service.media.audio.types import AudioPacket
from service.media.decoder.client import Decoder
from service.media.video.types import Box, ClipSelection, UndecodableVideo, UnsupportedVideo
from service.settings import Settings
from tests import clip_kinds, clips
from tests.clip_kinds import flat, tag, write_pictures
from tests.video_copies import read_clip

SIZE = (96, 64)


def save_animation(path, format: str, frames: int = 5):
    first, *others = (Image.fromarray(clips.picture(10 * n, SIZE)) for n in range(frames))
    first.save(path, format, save_all=True, append_images=others, duration=100)
    return path


def test_animated_avif_is_read_as_a_clip(tmp_path) -> None:
    """Its first picture is there twice: as an item, and in the track that is played."""
    clip = read_clip(save_animation(tmp_path / "a.avif", "AVIF"))
    assert clip.times == pytest.approx([0, 0.1, 0.2, 0.3, 0.4], abs=0.001)
    assert clip.repairs.describe() == {}
    for number, frame in enumerate(clip.frames):
        assert np.abs(frame.image - clips.picture(10 * number, SIZE).astype(int)).mean() < 12


@pytest.mark.parametrize("frames", range(1, 6))
def test_stream_of_a_few_packets_is_read(tmp_path, frames: int) -> None:
    """Black pictures of a camera that is covered: less than the library wants to see of a TS."""
    path = tmp_path / "a.ts"
    clips.make_clip(path, seconds=frames / 25, fps=25, color=(0, 0, 0), tone=False)
    clip = read_clip(path)
    assert len(clip.frames) == frames and clip.repairs.describe() == {}


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_animation_that_is_not_read_is_named(tmp_path, format: str) -> None:
    with pytest.raises(UnsupportedVideo, match="that moves.*GIF or MP4"):
        read_clip(save_animation(tmp_path / "a.bin", format))
    with pytest.raises(UnsupportedVideo, match="not a video"):
        read_clip(save_animation(tmp_path / "b.bin", format, frames=1))


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"ID3\x04", "MP3"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "WAV"),
        (b"PK\x03\x04", "ZIP"),
        (b"%PDF-1.7", "PDF"),
        (b"<!DOCTYPE html>", "web page"),
    ],
)
def test_what_is_no_clip_is_named(tmp_path, head: bytes, name: str) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(head + bytes(1000))
    with pytest.raises(UnsupportedVideo, match=f"{name}.*, not a video"):
        read_clip(path)


def test_animated_avif_with_transparency_is_named(tmp_path) -> None:
    alpha = np.tile(np.arange(SIZE[0], dtype=np.uint8), (SIZE[1], 1))
    pictures = [np.dstack([clips.picture(n, SIZE), alpha]) for n in range(3)]
    first, *others = map(Image.fromarray, pictures)
    path = tmp_path / "a.avif"
    first.save(path, "AVIF", save_all=True, append_images=others, duration=100)
    with pytest.raises(UnsupportedVideo, match="AVIF with transparency"):
        read_clip(path)


@pytest.mark.parametrize(("codec", "pix_fmt"), [("rawvideo", "bgra"), ("huffyuv", "rgb32")])
@pytest.mark.parametrize("level", [0, 90])
def test_empty_alpha_of_an_avi_is_none(tmp_path, codec: str, pix_fmt: str, level: int) -> None:
    colour = (200, 60, 40)
    image = np.dstack([flat(colour, SIZE), np.full(SIZE[::-1], level, np.uint8)])
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25)
        (stream.width, stream.height), stream.pix_fmt = SIZE, pix_fmt
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(image, "rgba").reformat(format=pix_fmt)
            frame.pts = index
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    frame = read_clip(path).frames[1]
    assert np.abs(frame.image - np.array(colour)).max() <= 1
    assert (frame.alpha is None) if level == 0 else bool((frame.alpha == level).all())


@pytest.mark.parametrize("codes", [(2, 2, 2), (9, 18, 9)])
def test_dolby_vision_without_a_base_is_named(tmp_path, codes) -> None:
    path = write_pictures(
        tmp_path / "a.mp4",
        [flat((148, 148, 148), SIZE)] * 3,
        codec="libx265",
        pix_fmt="yuv420p10le",
        options={"x265-params": "log-level=none"},
        prepare=tag(*codes),
    )
    path.write_bytes(path.read_bytes().replace(b"hev1", b"dvh1"))
    if codes == (2, 2, 2):
        with pytest.raises(UndecodableVideo, match="Dolby Vision .*profile 5"):
            read_clip(path)
    else:
        assert read_clip(path).info.tone_mapped_from == "BT.2020 HLG"


def test_photos_that_are_turned_differently(tmp_path) -> None:
    """Each is upright, within the shape of the first one."""
    turns = {1: 0, 6: -1, 8: 1, 3: 2}
    orientations = [6, 1, 8, 3, 6]
    clip = read_clip(clip_kinds.make_motion_jpeg(tmp_path / "a.mov", *orientations))
    assert clip.info.rotation_deg == 90 and (clip.info.width, clip.info.height) == (64, 96)
    assert clip.repairs.describe() == {"frames_fitted": 2}
    for number, (orientation, frame) in enumerate(zip(orientations, clip.frames, strict=True)):
        upright = np.rot90(clips.picture(number, SIZE), turns[orientation])
        shown = frame.image
        if orientation in (1, 3):
            assert frame.box == Box(0, 26, 64, 43)
            shown, upright = shown[26:69], cv2.resize(upright, (64, 43))
        assert np.abs(shown - upright.astype(int)).mean() < 8


@pytest.mark.parametrize("layout", ["7.1", "hexadecagonal"])
@pytest.mark.parametrize("container", ["mp4", "webm"])
def test_pcm_of_many_channels_is_heard_to_its_end(tmp_path, layout: str, container: str) -> None:
    """Read in a decoder child, which such layouts once ended."""
    path, rate = tmp_path / "a.mov", clips.SAMPLE_RATE
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        sound = out.add_stream("pcm_s16le", rate=rate)
        sound.codec_context.layout = layout
        for index in range(25):
            frame = av.VideoFrame.from_ndarray(clips.picture(index, SIZE), "rgb24")
            frame.pts = index
            out.mux(video.encode(frame))
        wave = clips.tone_frame(0, rate).to_ndarray()[0, ::2]
        samples = np.repeat(wave, sound.codec_context.layout.nb_channels).reshape(1, -1)
        chunk = av.AudioFrame.from_ndarray(samples, "s16", layout)
        chunk.sample_rate, chunk.pts = rate, 0
        out.mux(sound.encode(chunk))
        for stream in (video, sound):
            out.mux(stream.encode(None))
    decoder = Decoder(Settings())
    try:
        with path.open("rb") as file:
            info = decoder.open_video(file, ClipSelection(audio=(container,)), max_s=60)
        packets = [one for one in decoder.read_video(info) if isinstance(one, AudioPacket)]
    finally:
        decoder.close()
    (track,) = info.audio
    assert (track.reencoded_from, track.mixed_from) == ("pcm_s16le", layout)
    heard_s = sum(packet.duration for packet in packets) * track.time_base
    assert heard_s == pytest.approx(1, abs=0.05)
