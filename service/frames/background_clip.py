"""A clip as background: looped, its frames looked up by time."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO

from service.errors import MattingError, MediaLimitExceeded
from service.media.audio.types import AudioPacket
from service.media.decoder.client import Decoder
from service.media.video.pixel_shape import find_pixel_shape
from service.media.video.types import ClipSelection, Image, VideoInfo
from service.options import BACKGROUND

_PICTURES = ClipSelection(audio=())
_GUESSED_RATE = Fraction(25)


@dataclass(frozen=True, eq=False)
class BackgroundClip:
    """A clip to put behind the person; `file` is open as long as the plan is in use."""

    file: BinaryIO


class LoopedClip:
    """The pictures of a background clip by time; from one thread.

    A child of its own decodes it anew for each loop, a frame at a time, so memory does not depend
    on its length. `max_s` bounds its duration, `max_frames` the frames of all loops together.
    `time_base`: seconds of a tick of the clip in front; `pixel_shape`: how wide a pixel is for its
    height. `changes`: what became of the pictures that were shown, and once a loop is over what had
    to be repaired, as a report says it. Making one and `get` raise the decoder's errors and
    MediaLimitExceeded, which name the file.
    """

    def __init__(
        self,
        decoder: Decoder,
        clip: BackgroundClip,
        time_base: Fraction,
        *,
        max_s: float,
        max_frames: int,
    ) -> None:
        self._decoder = decoder
        self._clip = clip
        self._time_base = time_base
        self._max_s = max_s
        self._max_frames = max_frames
        self._first_pts: int | None = None
        self._now_s = Fraction(0)
        self.pixel_shape = Fraction(1)
        self.changes: dict[str, Any] = {}
        self._pictures = self._loop()
        self._next = self._read()
        self._shown = self._next[1] if self._next else None

    def get(self, pts: int) -> Image:
        """Return the picture behind the frame shown from `pts` on, (h, w, 3) uint8.

        `pts` must not fall; the first one is the background's start.
        """
        if self._first_pts is None:
            self._first_pts = pts
        self._now_s = (pts - self._first_pts) * self._time_base
        while self._next is not None and self._next[0] <= self._now_s:
            self._shown = self._next[1]
            self._next = self._read()
        assert self._shown is not None  # a clip without a frame was refused
        return self._shown

    def _read(self) -> tuple[Fraction, Image] | None:
        try:
            return next(self._pictures, None)
        except MattingError as error:
            error.detail = f"{BACKGROUND}: {error.detail}"
            raise

    def _loop(self) -> Iterator[tuple[Fraction, Image]]:
        """Yield pictures and their times in the result; a clip of one picture has no second."""
        start_s = Fraction(0)
        frames, loop_frames = 0, 2
        while loop_frames > 1:
            info = self._decoder.open_video(self._clip.file, _PICTURES, max_s=self._max_s)
            self.pixel_shape = find_pixel_shape(info)
            self.changes |= info.describe_changes()
            loop_frames, length_s = 0, info.time_base
            for time_s, end_s, image in self._read_once(info):
                frames, loop_frames, length_s = frames + 1, loop_frames + 1, end_s
                if frames > self._max_frames:
                    raise MediaLimitExceeded(
                        f"its loops have {frames} frames, the limit is {self._max_frames}",
                        hint="send a longer clip or one of fewer frames a second",
                        limit=self._max_frames,
                        actual=frames,
                    )
                yield start_s + time_s, image
            self.changes |= self._decoder.repairs.describe()
            # Loops that nobody would see are left out, were the clip a microsecond long.
            start_s += length_s * max(1, (self._now_s - start_s) // length_s)

    def _read_once(self, info: VideoInfo) -> Iterator[tuple[Fraction, Fraction, Image]]:
        """Yield when each picture begins and ends, in seconds from the first one, and itself."""
        first_pts: int | None = None
        usual_s = 1 / (info.average_rate or _GUESSED_RATE)
        for frame in self._decoder.read_video(info):
            if isinstance(frame, AudioPacket):
                continue
            first_pts = frame.pts if first_pts is None else first_pts
            time_s = (frame.pts - first_pts) * info.time_base
            length_s = frame.duration * info.time_base if frame.duration else usual_s
            yield time_s, max(time_s + length_s, info.time_base), frame.flat
