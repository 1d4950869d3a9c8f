"""Read a chunk: a clip, or a sequence of pictures."""

import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO

from service.decoding import check_dimensions
from service.errors import (
    ImpossibleOutput,
    InvalidOption,
    MattingError,
    MediaLimitExceeded,
    UndecodableMedia,
    UnsupportedMedia,
)
from service.media.decoder.client import Decoder
from service.media.image.types import Picture
from service.media.video.labels import ClipLabels
from service.media.video.pixel_shape import (
    choose_square_size,
    describe_square_pictures,
    stretch,
)
from service.media.video.recording.slices import (
    Slices,
    begins_file,
    is_later_slice,
    join,
    write_slices,
)
from service.media.video.repairs import Repairs
from service.media.video.types import ClipSelection, VideoFrame
from service.sessions.options import SessionOptions
from service.sessions.timeline import TimedImage
from service.settings import Settings

PICTURE_FORMATS = ("JPEG", "PNG", "WEBP")
MAX_NOTES = 4  # told of the pictures of one chunk


@dataclass(frozen=True)
class Chunk:
    """The open files of a chunk, each at its start, and the SHA-256 over their contents in order.

    A clip is one file.
    """

    files: tuple[BinaryIO, ...]
    is_clip: bool
    digest: bytes


def make_chunk(files: tuple[BinaryIO, ...], *, is_clip: bool) -> Chunk:
    """Read the files once for their digest; lengths count too, so that borders do."""
    digest = hashlib.sha256()
    for file in files:
        content = file.read()
        digest.update(len(content).to_bytes(8) + content)
        file.seek(0)
    return Chunk(files, is_clip, digest.digest())


@dataclass(frozen=True)
class Recording:
    """A recording whose slices a session takes: what the next one needs.

    `last_s` is the time of its last frame by its own clock, `shift_s` what is added to it; None
    before the first frame.
    """

    slices: Slices
    last_s: Fraction | None = None
    shift_s: Fraction | None = None


class ChunkReader:
    """Decodes one chunk; pictures count at the session's `fps`, and so does what a clip leaves out.

    `recording` is that of the chunk before. Once all is read, `repairs` say what was missing, and
    `slices` what the next slice of the same recording needs, None where there is none. `labels` are
    those of a clip and `changes` what became of its pictures, once its first frame is there; of
    pictures that are files, the first MAX_NOTES changes, once all are read.
    """

    def __init__(
        self,
        decoder: Decoder,
        chunk: Chunk,
        settings: Settings,
        options: SessionOptions,
        recording: Recording | None,
    ) -> None:
        self._decoder, self._chunk = decoder, chunk
        self._settings, self._options = settings, options
        self.recording = recording
        self.last_s = Fraction(0)
        self.frames = 0
        self.slices: Slices | None = None
        self.repairs = Repairs()
        self.labels = ClipLabels()
        self.changes: dict[str, Any] = {}

    def read(self) -> Iterator[TimedImage]:
        """Yield the pictures; raises the errors of the decoder, and MediaLimitExceeded."""
        if not self._chunk.is_clip:
            yield from self._read_pictures(self._chunk.files, self._options.fps)
            return
        data = self._chunk.files[0].read()
        if begins_file(data):
            self.recording = None
        elif self.recording is None and is_later_slice(data):
            raise UndecodableMedia(
                "the chunk is a later slice of a recording whose earlier ones are not known here",
                hint="send all slices of a recording in one session, from the first one on, with a "
                "key frame every few seconds; or stop and start the recorder for each chunk",
            )
        before = None if self.recording is None else self.recording.slices
        parts, self.slices = join(before, data)
        if self.slices is not None and not parts.bytes:
            return
        if self.recording is None and (self.slices is None or parts.bytes == len(data)):
            yield from self._read_clip(self._chunk.files[0])
            return
        with tempfile.TemporaryFile(dir=self._settings.data_dir) as file:
            write_slices(file, parts)
            yield from self._read_clip(file)

    def _read_clip(self, file: BinaryIO) -> Iterator[TimedImage]:
        options = self._options
        last_s = None if self.recording is None else self.recording.last_s
        selection = ClipSelection(
            audio=(),
            deinterlace=options.deinterlace,
            tone_maps=options.hdr == "tonemap",
            keeps_metadata=options.keep_metadata,
            after_s=None if last_s is None else float(last_s),
        )
        settings = self._settings
        most = settings.chunk_max_frames
        try:
            info = self._decoder.open_video(
                file,
                selection,
                max_s=settings.video_max_s,
                # Frames of slices before are decoded once more, and do not count.
                max_frames=most if self.recording is None else settings.video_max_frames,
            )
        except InvalidOption:
            if self.recording is None:
                raise
            return  # a slice without a whole new frame
        self.labels, self.changes = info.labels, describe_square_pictures(info)
        size = choose_square_size(info)
        usual_s = 1 / (info.average_rate or make_rate(options.fps))
        for item in self._decoder.read_video(info):
            if not isinstance(item, VideoFrame):
                continue
            if item.box is not None:
                found = item.box.height, item.box.width
                check_same_size(found, (info.height, info.width))
            self.frames += 1
            if self.frames > most:
                raise refuse_frames(self.frames, most)
            self.last_s = item.pts * info.time_base
            length_s = item.duration * info.time_base if item.duration else usual_s
            alpha = None if item.alpha is None else stretch(item.alpha, size)
            yield TimedImage(self.last_s, length_s, stretch(item.image, size), alpha)
        self.repairs = self._decoder.repairs

    def _read_pictures(self, files: tuple[BinaryIO, ...], fps: float) -> Iterator[TimedImage]:
        most = self._settings.chunk_max_frames
        if not files:
            raise UndecodableMedia(
                "the chunk has no frames",
                hint="send one clip as `file`, or pictures in order as `frame` parts",
            )
        if len(files) > most:
            raise refuse_frames(len(files), most)
        length_s, notes = 1 / make_rate(fps), list[str]()
        for index, file in enumerate(files):
            try:
                picture = read_picture(self._decoder, file.read(), self._settings)
            except MattingError as error:
                error.detail = f"frame {index} of the chunk: {error.detail}"
                raise
            notes += (f"frame {index}: {change}" for change in picture.list_changes())
            yield TimedImage(index * length_s, length_s, picture.image, picture.alpha)
        if notes:
            self.changes = {"notes": notes[:MAX_NOTES]}


def refuse_frames(count: int, limit: int) -> MediaLimitExceeded:
    """Return the refusal of a chunk of so many frames, or more."""
    return MediaLimitExceeded(
        f"the chunk has {count} frames, the limit is {limit}",
        hint="send fewer frames in a chunk",
        limit=limit,
        actual=count,
    )


def read_picture(decoder: Decoder, data: bytes, settings: Settings) -> Picture:
    """Decode one picture; raises the errors of the decoder."""
    try:
        info = decoder.open_image(data)
    except UnsupportedMedia:
        info = None
    if info is None or info.format not in PICTURE_FORMATS:
        raise UndecodableMedia(
            "it is none of JPEG, PNG, WebP", hint="clips come as `file`, one in a chunk"
        )
    check_frame_size(info.height, info.width, settings)
    return decoder.decode_image()


def make_rate(fps: float) -> Fraction:
    """Return a rate as people write it: 29.97 is 2997/100."""
    return Fraction(str(fps))


def check_frame_size(height: int, width: int, settings: Settings) -> None:
    """Refuse frames over the limits of clips; raises MediaLimitExceeded."""
    check_dimensions(
        f"a frame has {width} x {height} pixels",
        width,
        height,
        max_side=settings.video_max_side,
        max_megapixels=settings.video_max_frame_megapixels,
        hint="send smaller frames",
    )


def check_same_size(found: tuple[int, int], expected: tuple[int, int]) -> None:
    """Refuse a frame of another (height, width) than the session's; raises ImpossibleOutput."""
    if found != expected:
        raise ImpossibleOutput(
            f"a frame is {found[1]} x {found[0]} pixels, those of the session are "
            f"{expected[1]} x {expected[0]}",
            hint="open a new session for another size",
        )
