"""Decode a clip: frames with their times, and encoded audio (decoder child)."""

import itertools
import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any, BinaryIO

import av

from service.media.audio.reader import TrackReader, open_tracks
from service.media.audio.types import AudioPacket, AudioTrack
from service.media.video.frames import FrameReader, check_size
from service.media.video.types import (
    ClipSelection,
    EmptySelection,
    UndecodableVideo,
    VideoFrame,
    VideoInfo,
    VideoItem,
    VideoLimitExceeded,
    VideoLimits,
)
from service.media.video.window import FrameSelector

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpegts,gif"
DECODER_THREADS = 2
LATEST_START_S = 10
# Audio that comes before the first picture waits in memory; a clip with more is refused.
MAX_EARLY_SOUND_BYTES = 64 << 20

# Hostile files make PyAV raise all of these; whatever it is, the clip is at fault.
_DECODE_ERRORS = (
    av.FFmpegError,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


ALL = ClipSelection()


def read_video(
    file: BinaryIO, limits: VideoLimits, selection: ClipSelection = ALL
) -> Iterator[VideoItem]:
    """Decode a clip: first its VideoInfo, then frames and audio packets in the file's order.

    `file` is open for reading and seekable; nothing else is opened, whatever its bytes ask for.
    The first real video stream is read (cover pictures are not video), and every audio track.
    Frames are upright (H, W, 3) uint8 RGB of one size: a change of size on the way is scaled to
    the first. Their `pts` always increase; missing ones follow from the duration or the rate, and
    one that does not increase is moved a tick after the frame before. Interlaced frames stay so,
    10-bit colour is cut to 8, HDR is not tone-mapped. Of a part that begins late the times stay,
    and `origin_pts` is its first frame's.

    Damaged packets are skipped and a clip cut short yields what decodes, as players do. Raises
    UndecodableVideo without a single frame, EmptySelection without one between start and end,
    VideoLimitExceeded as soon as a limit is passed (counted while decoding, not believed; frames
    from the start of the file, seconds of what is selected).
    """
    try:
        with _open(file, limits) as container:
            yield from _read(container, limits, selection)
    except _DECODE_ERRORS as error:
        raise UndecodableVideo("The video is damaged or of a kind that is not read.") from error


class _Source:
    """The clip's bytes without their name: a name may choose a format."""

    def __init__(self, file: BinaryIO) -> None:
        self.read = file.read
        self.seek = file.seek
        self.tell = file.tell


def _open(file: BinaryIO, limits: VideoLimits) -> Any:
    options = {"format_whitelist": FORMATS, "max_pixels": _max_pixels(limits)}
    try:
        return av.open(
            _Source(file), "r", options=options, metadata_errors="ignore", io_open=_refuse
        )
    except _DECODE_ERRORS as error:
        raise UndecodableVideo(
            "The file is not a complete MP4, MOV, WebM, MKV, MPEG-TS or GIF video."
        ) from error


def _refuse(url: str, flags: int, options: dict[str, str]) -> None:
    raise PermissionError("a clip cannot open other files")


def _max_pixels(limits: VideoLimits) -> str:
    """Return the library's own guard, with room for its rounding of widths; ours is exact."""
    return str(int(limits.max_frame_megapixels * 1e6) + 128 * limits.max_side)


def _read(container: Any, limits: VideoLimits, selection: ClipSelection) -> Iterator[VideoItem]:
    window = FrameSelector(selection)
    stream = _select_stream(container, limits, window)
    audio_streams = container.streams.audio if selection.audio else ()
    packets = _demux(container, [stream, *audio_streams])
    readers, ahead = open_tracks(audio_streams, packets, selection.audio)
    items = _decode(stream, readers, itertools.chain(ahead, packets), window)
    early, first = _wait_for_picture(items)
    if first is None:
        raise UndecodableVideo("No picture of the video could be decoded.")
    frames = FrameReader(stream, first, limits, window)
    origin_pts = _find_origin(container, stream, readers, first.pts or 0)
    tracks = _list_tracks(readers)
    window.begin(origin_pts * frames.time_base, range(len(tracks)))
    kept = _keep(itertools.chain(early, [first], items), tracks, frames)
    early, frame = _wait_for_picture(kept)
    if frame is None:
        raise EmptySelection
    origin_pts = frame.pts if selection.start_s else origin_pts
    yield _describe(container, stream, tracks, frames, first, frame, origin_pts)
    yield from _keep(early, tracks, frames)
    yield frame
    yield from kept


def _keep(
    items: Iterable[Any], tracks: tuple[AudioTrack, ...], frames: FrameReader
) -> Iterator[VideoFrame | AudioPacket]:
    """Convert the library's frames; leave out what is not selected."""
    for item in items:
        if isinstance(item, AudioPacket):
            if frames.window.takes_audio(item.track, item.pts * tracks[item.track].time_base):
                yield item
        elif (frame := frames.read(item)) is not None:
            yield frame


def _select_stream(container: Any, limits: VideoLimits, window: FrameSelector) -> Any:
    """Return the first real video stream, set up to decode within the limits."""
    pictures = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
    streams = [s for s in container.streams.video if not s.disposition & pictures]
    if not streams:
        raise UndecodableVideo("The file has no video track.")
    stream = streams[0]
    if stream.codec_context is None or not stream.time_base:
        raise UndecodableVideo("The video track is of a kind that cannot be decoded.")
    check_size(stream.codec_context.width, stream.codec_context.height, limits)
    stated_s = window.measure(_stated_duration_s(container, stream))
    if stated_s is not None and stated_s > limits.max_duration_s + 1:
        # It says so itself, with a second to spare.
        raise VideoLimitExceeded("seconds", limits.max_duration_s, round(stated_s, 3))
    stream.codec_context.thread_count = DECODER_THREADS
    stream.codec_context.thread_type = "AUTO"
    stream.codec_context.options = {"max_pixels": _max_pixels(limits)}
    return stream


def _stated_duration_s(container: Any, stream: Any) -> float | None:
    """Return the duration in the file's header; None where the library only guesses it."""
    if container.format.name in ("mpegts", "gif"):
        return None
    if stream.duration:
        return max(float(stream.duration * stream.time_base), 0.0)
    return max(container.duration / av.time_base, 0.0) if container.duration else None


def _demux(container: Any, streams: list[Any]) -> Iterator[Any]:
    """Yield the packets until the end of the file or the point where it is broken off."""
    try:
        yield from (p for p in container.demux(streams) if p.size)
    except MemoryError:
        raise
    except av.FFmpegError:
        return


def _decode(
    stream: Any,
    readers: dict[int, list[TrackReader]],
    packets: Iterator[Any],
    window: FrameSelector,
) -> Iterator[Any]:
    """Yield the library's frames and our audio packets, the held back ones last."""
    for packet in packets:
        if window.is_over:
            return
        if packet.stream.index == stream.index:
            if not window.frames_are_over:
                yield from _decode_packet(stream, packet)
        for reader in readers.get(packet.stream.index, ()):
            yield from reader.push(packet)
    if not window.frames_are_over:
        yield from _decode_packet(stream, None)
    for reader in itertools.chain.from_iterable(readers.values()):
        yield from reader.flush()


def _decode_packet(stream: Any, packet: Any) -> list[Any]:
    try:
        return list(stream.codec_context.decode(packet))
    except MemoryError:
        raise
    except av.FFmpegError:
        return []


def _wait_for_picture(items: Iterator[Any]) -> tuple[list[AudioPacket], Any]:
    """Return the audio before the first picture, and that; None where there is none."""
    early: list[AudioPacket] = []
    early_bytes = 0
    for item in items:
        if not isinstance(item, AudioPacket):
            return early, item
        early.append(item)
        early_bytes += len(item.data) + 256
        if early_bytes > MAX_EARLY_SOUND_BYTES:
            break
    return early, None


def _list_tracks(readers: dict[int, list[TrackReader]]) -> tuple[AudioTrack, ...]:
    found = [t for some in readers.values() for reader in some for t in reader.tracks]
    return tuple(sorted(found, key=lambda track: track.index))


def _describe(
    container: Any,
    stream: Any,
    tracks: tuple[AudioTrack, ...],
    reader: FrameReader,
    first: Any,
    frame: VideoFrame,
    origin_pts: int,
) -> VideoInfo:
    height, width = frame.image.shape[:2]
    aspect = Fraction(stream.sample_aspect_ratio or 1)
    if aspect <= 0 or max(aspect.as_integer_ratio()) >= 1 << 31:
        aspect = Fraction(1)
    stated_s = _stated_duration_s(container, stream)
    return VideoInfo(
        width=width,
        height=height,
        rotation_deg=reader.orientation.rotation_deg,
        mirrored=reader.orientation.mirrored,
        time_base=reader.time_base,
        average_rate=min(filter(None, (reader.average_rate, reader.window.rate)), default=None),
        sample_aspect_ratio=1 / aspect if reader.orientation.transposed else aspect,
        container=container.format.name,
        codec=stream.codec_context.codec.canonical_name,
        color_range=first.color_range if first.color_range in (1, 2) else 0,
        color_primaries=first.color_primaries,
        color_trc=first.color_trc,
        colorspace=reader.colorspace,
        frames_estimate=reader.window.estimate(stream.frames, stated_s),
        duration_s=reader.window.measure(stated_s),
        origin_pts=origin_pts,
        audio=tracks,
        pixel_format=first.format.name,
        bit_depth=max(component.bits for component in first.format.components),
        interlaced=bool(first.interlaced_frame),
    )


def _find_origin(container: Any, stream: Any, audio_streams: Iterable[int], first_pts: int) -> int:
    """Return the time that a file made from the clip calls zero, in ticks of the video stream.

    It is 0 for a clip that starts between 0 and LATEST_START_S. MPEG-TS, a cut from a live stream
    and a clip that starts before zero start at any time; there it is the start of the clip.
    """
    time_base = Fraction(stream.time_base)
    start_s = first_pts * time_base
    if 0 <= start_s <= LATEST_START_S and container.format.name != "mpegts":
        return 0
    streams = [container.streams[index] for index in audio_streams]
    starts_s = [s.start_time * s.time_base for s in streams if s.start_time is not None]
    start: Fraction = min([start_s, *starts_s])
    return math.floor(start / time_base)
