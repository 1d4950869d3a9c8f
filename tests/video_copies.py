"""A clip read and written again, and what is read of a file."""

from fractions import Fraction
from pathlib import Path

from service.media.audio.types import AudioPacket
from service.media.video.encoders import h264
from service.media.video.reader import read_video
from service.media.video.types import ClipSelection, VideoFrame, VideoInfo, VideoLimits
from service.media.video.writer import VideoWriter

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


def read(path: Path):
    """Return info, frames and packets of a clip."""
    with path.open("rb") as file:
        info, *items = read_video(file, LIMITS)
    frames = [item for item in items if isinstance(item, VideoFrame)]
    return info, frames, [item for item in items if isinstance(item, AudioPacket)]


def copy(source: Path, target: Path, wanted=WANTED, **options) -> tuple[int, int]:
    """Read a clip and write it again, frame by frame; return what was padded."""
    with source.open("rb") as file:
        items = read_video(file, LIMITS, wanted)
        with VideoWriter(target, next(items), h264(**options)) as writer:
            for item in items:
                if isinstance(item, VideoFrame):
                    writer.write_frame(item.image, item.pts, item.duration)
                else:
                    writer.write_audio(item)
    return writer.padded


def seconds(frames, info) -> list[Fraction]:
    return [frame.pts * info.time_base for frame in frames]
