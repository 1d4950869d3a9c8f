"""Opening a clip with the library: which files, which track, which decoder (decoder child)."""

from typing import Any, BinaryIO

import av

from service.media.video.container.formats import (
    FORMATS,
    READ,
    find_refusal,
    find_ts_packets,
    is_flv,
)
from service.media.video.container.patched import PatchedFile
from service.media.video.types import UndecodableVideo, UnsupportedVideo, VideoLimits

DECODER_THREADS = 2
_DOLBY_VISION = ("dvh1", "dvhe", "dvav", "dva1", "dav1")
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # FFmpeg's own drop alpha

# Hostile files make PyAV raise all of these; whatever it is, the clip is at fault.
DECODE_ERRORS = (
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


def open_container(source: PatchedFile, file: BinaryIO, limits: VideoLimits) -> Any:
    """Return the library's container of a clip; raises UnsupportedVideo and UndecodableVideo."""
    refusal = find_refusal(file)
    if refusal is not None:
        raise UnsupportedVideo(refusal)
    options = {"format_whitelist": FORMATS, "max_pixels": _max_pixels(limits)}
    if is_flv(file):
        options["correct_ts_overflow"] = "0"  # see FlvClock
    try:
        return av.open(
            source,
            "r",
            # Which the library does not find in a few packets.
            format="mpegts" if find_ts_packets(file) else None,
            options=options,
            metadata_errors="ignore",
            io_open=_refuse,
        )
    except DECODE_ERRORS as error:
        raise UndecodableVideo(f"The file is not a complete {READ} video.") from error


def _refuse(url: str, flags: int, options: dict[str, str]) -> None:
    raise PermissionError("a clip cannot open other files")


def _max_pixels(limits: VideoLimits) -> str:
    """Return the library's own guard, with room for its rounding of widths; ours is exact."""
    return str(int(limits.max_frame_megapixels * 1e6) + 128 * limits.max_side)


def select_stream(container: Any) -> Any:
    """Return the picture track that a player shows: the default one, of several the largest."""
    streams = _list_tracks(container)
    if not streams:
        raise UndecodableVideo("The file has no video track.")
    known = [s for s in streams if s.codec_context is not None and s.time_base]
    if not known:
        raise UndecodableVideo("The video track is of a kind that cannot be decoded.")
    # An animated AVIF holds its first picture once more, as an item that lasts for no time.
    known = [s for s in known if s.duration or s.frames != 1] or known
    if _is_avif(container) and len(known) > 1:
        raise UnsupportedVideo(
            "The file is an animated AVIF with transparency, which is not read; convert it to GIF "
            "or WebM."
        )
    default = av.stream.Disposition.default
    chosen = [s for s in known if s.disposition & default] or known
    return max(chosen, key=lambda s: s.codec_context.width * s.codec_context.height)


def count_unread(chosen: Any) -> int:
    """Return how many tracks of pictures the file has beside the chosen one."""
    container = chosen.container
    return 0 if _is_avif(container) else len(_list_tracks(container)) - 1


def _list_tracks(container: Any) -> list[Any]:
    pictures = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
    return [s for s in container.streams.video if not s.disposition & pictures]


def _is_avif(container: Any) -> bool:
    return bool(container.metadata.get("major_brand") == "avis")


def check_base(tag: str, states_colour: bool) -> None:
    """Raise UndecodableVideo for Dolby Vision whose base means nothing by itself (profile 5).

    `tag` is the container's name of the codec. Profiles with a base for all players state its
    colour; that of the others is IPT, and shown as Y'CbCr it is green and purple.
    """
    if tag in _DOLBY_VISION and not states_colour:
        raise UndecodableVideo(
            "The video is Dolby Vision without a picture for other players (profile 5), which is "
            "not read; convert it to HDR10, HLG or SDR."
        )


def make_decoder(stream: Any, limits: VideoLimits) -> Any:
    """Return the codec context that decodes the pictures, set up within the limits."""
    context = stream.codec_context
    name = _ALPHA_DECODERS.get(context.codec.canonical_name)
    told = {key.lower(): value for key, value in stream.metadata.items()}
    if name is not None and told.get("alpha_mode") == "1":
        context = av.CodecContext.create(name, "r")
    context.thread_count = DECODER_THREADS
    context.thread_type = "AUTO"
    context.options = {"max_pixels": _max_pixels(limits)}
    return context
