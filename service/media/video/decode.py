"""Packets of the picture to the library's frames, as they are to be shown (decoder child)."""

from collections.abc import Iterator
from typing import Any

import av

from service.media.video.aspects import AspectTracker
from service.media.video.container.demux import Demuxer
from service.media.video.deinterlace import CombDetector, Deinterlacer
from service.media.video.losses import LossCounter
from service.media.video.numbering import NumberWatch
from service.media.video.profiles import ProfileKeeper
from service.media.video.references import MPEG_CODECS, ReferenceWatch
from service.media.video.reordering import REORDERED_CODECS, CodingClock
from service.media.video.types import Deinterlace

# FFmpeg's field orders: from the first one on, pictures hold two fields.
_FIRST_OF_FIELDS = 2
_BOTTOM_FIRST = (3, 5)
_DV_HEIGHT = 576  # to which the lower field of DV always comes first (IEC 61834), unstated
# Codecs whose pictures say themselves whether they hold two fields; of others the container may.
_STATING_FIELDS = (
    *("h264", "hevc", "vvc", "mpeg1video", "mpeg2video", "mpeg4", "vc1", "wmv3"),
    *("prores", "dnxhd", "dvvideo"),
)


class PictureDecoder:
    """Decodes one track: counts what is lost, and takes fields apart as `mode` says.

    `has_fields`: pictures hold two fields by the word of their container.
    """

    def __init__(self, demuxer: Demuxer, mode: Deinterlace) -> None:
        self._decoder = demuxer.decoder
        context = demuxer.stream.codec_context
        codec: str = context.codec.canonical_name
        order = context.field_order
        is_dv = codec == "dvvideo" and context.height <= _DV_HEIGHT
        self.top_field_first = not is_dv and order not in _BOTTOM_FIRST
        self.has_fields = codec not in _STATING_FIELDS and order >= _FIRST_OF_FIELDS
        self.losses = LossCounter(codec)
        self.aspects = AspectTracker(demuxer.decoder)
        extradata = bytes(context.extradata or b"")
        self._numbers: NumberWatch | ReferenceWatch | None = None
        if codec == "h264":
            self._numbers = NumberWatch(extradata)
        elif codec in MPEG_CODECS:
            self._numbers = ReferenceWatch()
        is_reordered = demuxer.format == "avi" and codec in REORDERED_CODECS
        self._clock = CodingClock(codec) if is_reordered else None
        self._profiles = ProfileKeeper() if codec == "png" else None
        self._combs = CombDetector()
        self._deinterlacer: Deinterlacer | None = None
        if mode != "off":
            parity = "auto" if codec in _STATING_FIELDS and mode == "auto" else self._parity
            takes_all = mode == "always" or self.has_fields
            self._deinterlacer = Deinterlacer(parity, takes_all=takes_all)

    @property
    def _parity(self) -> str:
        return "tff" if self.top_field_first else "bff"

    @property
    def is_deinterlacing(self) -> bool:
        """Whether fields were found and are taken apart."""
        return self._deinterlacer is not None and self._deinterlacer.frames > 0

    @property
    def frames_combed(self) -> int:
        """How many frames hold two moments and do not say so."""
        return self._combs.count()

    @property
    def places_damaged(self) -> int:
        """At how many places pictures are missing by their numbers."""
        return 0 if self._numbers is None else self._numbers.places

    def decode(self, packet: Any) -> Iterator[Any]:
        """Yield the frames that are ready after a packet, None at the end."""
        if packet is not None:
            self.losses.send(packet)
            if self._numbers is not None:
                self._numbers.take(packet)
            self.aspects.send(packet)
            if self._clock is not None:
                self._clock.send(packet)
            if self._profiles is not None:
                self._profiles.take(packet)
        try:
            frames = list(self._decoder.decode(packet))
        except MemoryError:
            raise
        except av.FFmpegError:
            return
        if frames:
            self.aspects.receive()
        for frame in frames:
            self.losses.receive(frame)
            if self._profiles is not None:
                self._profiles.give(frame)
            if self._clock is not None:
                self._clock.receive(frame)
            if not (frame.interlaced_frame or self.has_fields or self.is_deinterlacing):
                self._combs.push(frame)
            if self._deinterlacer is None:
                yield frame
            else:
                yield from self._deinterlacer.push(frame)

    def flush(self) -> Iterator[Any]:
        """Yield what the deinterlacer holds back."""
        if self._deinterlacer is not None:
            yield from self._deinterlacer.flush()
