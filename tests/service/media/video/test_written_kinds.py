"""What results say of themselves: rates, profiles, fields, pixel shapes, labels."""

import dataclasses
import io
import json
import zipfile
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from service.media.audio.types import TrackLabels
from service.media.decoder.messages import read_video_info
from service.media.video.labels import Chapter, ClipLabels
from service.media.video.types import ClipSelection
from service.media.video.writing.encoders import PRORES, VP9, h264
from service.media.video.writing.frames_writer import FramesWriter
from service.media.video.writing.writer import VideoWriter
from tests import clip_kinds, clips
from tests.video_copies import INFO, copy, read_clip

ENCODINGS = {"mp4": h264(), "webm": VP9, "mov": PRORES}


@pytest.mark.parametrize("frames", [1, 2, 7, 50])
@pytest.mark.parametrize("preset", ["ultrafast", "veryfast", "slow"])
def test_rate_of_a_result_is_exact(tmp_path, frames: int, preset: str) -> None:
    source = clips.make_clip(tmp_path / "a.mkv", seconds=frames / 25, fps=25, tone=False)
    copy(source, tmp_path / "b.mp4", preset=preset)
    with av.open(str(tmp_path / "b.mp4")) as file:
        video = file.streams.video[0]
        assert video.average_rate == 25
        assert video.duration * video.time_base == Fraction(frames, 25)
    capture = cv2.VideoCapture(str(tmp_path / "b.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == 25
    capture.release()


@pytest.mark.parametrize("crf", [0, 1, 20, 51])
def test_profile_is_one_that_players_have(tmp_path, crf: int) -> None:
    source = clips.make_clip(tmp_path / "a.mkv", seconds=0.2, tone=False)
    copy(source, tmp_path / "b.mp4", crf=crf)
    with av.open(str(tmp_path / "b.mp4")) as file:
        context = file.streams.video[0].codec_context
        assert context.profile in ("High", "Main", "Constrained Baseline")
        assert context.pix_fmt == "yuv420p"


@pytest.mark.parametrize("container", ["mp4", "mov"])
@pytest.mark.parametrize("top_field_first", [True, False])
def test_fields_that_are_kept_are_flagged(tmp_path, container, top_field_first: bool) -> None:
    source = clips.make_clip(tmp_path / "a.ts", seconds=0.5, interlaced=True, tone=False)
    clip = read_clip(source, ClipSelection(deinterlace="off"))
    info = dataclasses.replace(clip.info, top_field_first=top_field_first)
    encoding, target = ENCODINGS[container], tmp_path / f"b.{container}"
    with VideoWriter(target, info, encoding) as writer:
        for frame in clip.frames:
            opaque = np.full((*frame.image.shape[:2], 1), 255, np.uint8)
            image = np.dstack([frame.image, opaque]) if encoding.channels == 4 else frame.image
            writer.write_frame(image, frame.pts, frame.duration)
    kept = read_clip(target, ClipSelection(deinterlace="off"))
    assert kept.info.interlaced
    if container == "mp4":
        assert kept.info.top_field_first == top_field_first


def test_deinterlaced_result_is_progressive(tmp_path) -> None:
    source = clips.make_clip(tmp_path / "a.ts", seconds=0.5, interlaced=True, tone=False)
    copy(source, tmp_path / "b.mp4")
    info = read_clip(tmp_path / "b.mp4", ClipSelection(deinterlace="off")).info
    assert not info.interlaced


def test_pictures_have_square_pixels(tmp_path) -> None:
    info = dataclasses.replace(INFO, sample_aspect_ratio=Fraction(20, 11))
    image = np.dstack([clips.picture(0, (96, 64)), np.full((64, 96), 255, np.uint8)])
    with FramesWriter(tmp_path / "a.zip", info) as writer:
        writer.write_frame(image, 0, 1)
    assert writer.picture_size == (writer.width, writer.height) == (175, 64)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        picture = Image.open(io.BytesIO(archive.read("frame_000000.png")))
        assert picture.size == (175, 64)


@pytest.mark.parametrize("container", ENCODINGS)
def test_labels_of_tracks_and_clip_are_kept(tmp_path, container: str) -> None:
    source = tmp_path / "a.mkv"
    clip_kinds.make_labelled(source)
    clip = read_clip(source, ClipSelection(audio=(container,), keeps_metadata=True))
    labels = [track.labels for track in clip.info.audio]
    assert labels == [
        TrackLabels("eng", "Main", True, False),
        TrackLabels("deu", "Director", False, True),
    ]
    words = ClipLabels("Holiday", "2024-05-06T07:08:09.000000Z", "+48.1+011.5/")
    chapters = (Chapter(0, 0.5, "One"), Chapter(0.5, 1, "Two"))
    assert clip.info.labels == dataclasses.replace(words, chapters=chapters)
    target = tmp_path / f"b.{container}"
    write(target, clip, ENCODINGS[container])
    after = read_clip(target, ClipSelection(audio=(container,), keeps_metadata=True)).info
    assert [t.labels.title for t in after.audio] == ["Main", "Director"]
    assert [t.labels.is_default for t in after.audio] == [True, False]
    if container == "mp4":  # the others have no place for it
        assert [t.labels.is_comment for t in after.audio] == [False, True]
    assert after.labels.chapters == chapters
    assert (after.labels.title, after.labels.date) == (words.title, words.date)
    assert after.labels.place.startswith("+48.1")


def write(target, clip, encoding) -> None:
    with VideoWriter(target, clip.info, encoding) as writer:
        for packet in clip.packets:
            writer.write_audio(packet)
        for frame in clip.frames:
            image = frame.image
            if encoding.channels == 4:
                image = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])
            writer.write_frame(image, frame.pts, frame.duration)


def test_metadata_stays_behind_unless_asked_for(tmp_path) -> None:
    clip_kinds.make_labelled(tmp_path / "a.mkv")
    info = read_clip(tmp_path / "a.mkv").info
    assert info.labels.title == info.labels.date == info.labels.place == ""
    part = read_clip(tmp_path / "a.mkv", ClipSelection(start_s=0.6)).info
    assert [chapter.title for chapter in part.labels.chapters] == ["Two"]
    assert part.labels.chapters[0].start_s == 0
    assert json.dumps(part.to_wire()) and read_video_info(part.to_wire()) == part
