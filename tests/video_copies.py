"""A clip read and written again, and what is read of a file."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from service.media.audio.types import AudioPacket
from service.media.video.reader import read_video
from service.media.video.repairs import Repairs
from service.media.video.types import ClipSelection, VideoFrame, VideoInfo, VideoLimits
from service.media.video.writing.encoders import h264
from service.media.video.writing.writer import VideoWriter
from tests import clips

LIMITS = VideoLimits(max_frames=36_000, max_duration_s=600, max_frame_megapixels=9, max_side=4096)
WANTED = ClipSelection()
INFO = VideoInfo(
    width=96,
    height=64,
    rotation_deg=0,
    mirrored=False,
    time_base=Fraction(1, 30),
    average_rate=Fraction(30),
    sample_aspect_ratio=Fraction(1),
    container="mp4",
    codec="h264",
    color_range=1,
    color_primaries=1,
    color_trc=1,
    colorspace=1,
    frames_estimate=None,
    duration_s=None,
    origin_pts=0,
    audio=(),
)


@dataclass(frozen=True)
class ReadClip:
    """All that the reader says of a clip."""

    info: VideoInfo
    frames: list[VideoFrame]
    packets: list[AudioPacket]
    repairs: Repairs

    @property
    def times(self) -> list[float]:
        """When frames are shown, in seconds of a file made of the clip."""
        zero, tick = self.info.origin_pts, self.info.time_base
        return [float((frame.pts - zero) * tick) for frame in self.frames]


def read_clip(path: Path, selection=WANTED, limits: VideoLimits = LIMITS) -> ReadClip:
    with path.open("rb") as file:
        info, *items, repairs = read_video(file, limits, selection)
    assert isinstance(info, VideoInfo) and isinstance(repairs, Repairs)
    frames = [item for item in items if isinstance(item, VideoFrame)]
    packets = [item for item in items if isinstance(item, AudioPacket)]
    assert len(frames) + len(packets) == len(items)
    return ReadClip(info, frames, packets, repairs)


def read(path: Path):
    """Return info, frames and packets of a clip."""
    clip = read_clip(path)
    return clip.info, clip.frames, clip.packets


def copy(source: Path, target: Path, wanted=WANTED, **options) -> tuple[int, int]:
    """Read a clip and write it again, frame by frame; return what was padded."""
    with source.open("rb") as file:
        items = read_video(file, LIMITS, wanted)
        with VideoWriter(target, next(items), h264(**options)) as writer:
            for item in items:
                if isinstance(item, VideoFrame):
                    writer.write_frame(item.image, item.pts, item.duration)
                elif isinstance(item, AudioPacket):
                    writer.write_audio(item)
    return writer.padded


def seconds(frames, info) -> list[Fraction]:
    return [frame.pts * info.time_base for frame in frames]


def hear(path) -> np.ndarray:
    """Return what a player makes of the audio: the level of each 10 ms from zero on."""
    with av.open(str(path)) as file:
        heard = np.zeros(round(10 * clips.SAMPLE_RATE))
        for frame in file.decode(audio=0):
            at = round(frame.pts * frame.time_base * clips.SAMPLE_RATE)
            begin = max(0, -at)
            samples = np.abs(frame.to_ndarray()[0][begin:])
            heard[at + begin : at + begin + len(samples)] += samples
    return heard.reshape(-1, clips.SAMPLE_RATE // 100).max(1)
