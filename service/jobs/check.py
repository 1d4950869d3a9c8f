"""Verify the results of a job by reading them back before they are published."""

import logging
import struct
import zipfile

from service.clips.matte import MattedClip, ResultFile
from service.clips.slots import VideoSlots
from service.errors import MattingError, MediaLimitExceeded
from service.media.decoder.client import Decoder
from service.media.video.types import ClipSelection, VideoFrame
from service.runtime import Runtime
from service.threads import start_in, wait_for_thread

log = logging.getLogger(__name__)
# The last frame of a result lasts longer than that of the clip in some containers.
SPARE_S = 60


class IncompleteResult(Exception):
    """A result cannot be read back, or not all of it."""


async def check_results(runtime: Runtime, slots: VideoSlots, clip: MattedClip) -> None:
    """Read every result back; raises IncompleteResult when frames are missing.

    Videos are decoded in a decoder child. The caller holds a place of `slots`.
    """
    max_s = runtime.settings.video_max_s + SPARE_S
    for result in clip.results:
        await runtime.files.run(check_size, result)
        if result.path.suffix == ".zip":
            found: int | None = await runtime.files.run(count_pictures, result)
        elif result.path.suffix == ".webp":
            # FFmpeg reads no animated ones; equal frames are one there, so that none can be counted
            found = await runtime.files.run(check_webp, result)
        else:
            async with runtime.decoders.borrow("video") as decoder:
                count = start_in(slots.threads, count_frames, decoder, result, max_s)
                found = await wait_for_thread(count, on_cancel=decoder.kill)
        if found is not None and found != clip.report.frames:
            raise IncompleteResult(f"{result.path.name} has {found} of {clip.report.frames} frames")


def check_size(result: ResultFile) -> None:
    """Raise IncompleteResult when a file is not as long as it was when it was complete."""
    if (size := result.path.stat().st_size) != result.bytes:
        raise IncompleteResult(f"{result.path.name} has {size} of {result.bytes} bytes")


def count_frames(decoder: Decoder, result: ResultFile, max_s: float) -> int | None:
    """Return the frames of a video; None when it is a little over the limits on clips.

    A clip at a limit may be over it once its sides are even.
    """
    try:
        with result.path.open("rb") as file:
            info = decoder.open_video(file, ClipSelection(audio=()), max_s=max_s)
            return sum(isinstance(item, VideoFrame) for item in decoder.read_video(info))
    except MediaLimitExceeded:
        return None
    except MattingError as error:
        raise IncompleteResult(f"{result.path.name}: {error.detail}") from error


def count_pictures(result: ResultFile) -> int:
    """Return how many pictures the directory of a ZIP names."""
    try:
        with zipfile.ZipFile(result.path) as archive:
            return sum(name.endswith(".png") for name in archive.namelist())
    except zipfile.BadZipFile as error:
        raise IncompleteResult(f"{result.path.name}: {error}") from error


def check_webp(result: ResultFile) -> None:
    """Raise IncompleteResult when a WebP is not as long as its header says."""
    with result.path.open("rb") as file:
        kind, size, what = struct.unpack("<4sI4s", file.read(12).ljust(12))
    if (kind, size + 8, what) != (b"RIFF", result.bytes, b"WEBP"):
        raise IncompleteResult(f"{result.path.name} is no whole WebP")
