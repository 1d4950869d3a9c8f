"""Messages of a decoder child, validated on the service's side.

A child that a hostile file has taken over can send anything: headers are validated strictly, and
payloads must have the size that their header promises. Every function raises ValueError for what no
honest child sends.
"""

import json
import math
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from service.media.audio.types import AudioHeader, AudioPacket
from service.media.image.types import ImageInfo, Picture, PictureHeader
from service.media.video.types import FrameHeader, VideoFrame, VideoInfo
from service.media.wire.fields import Header

T = TypeVar("T")
Payload = bytes | bytearray | memoryview


_IMAGE, _PICTURE = TypeAdapter(ImageInfo), TypeAdapter(PictureHeader)
_VIDEO, _FRAME, _AUDIO = TypeAdapter(VideoInfo), TypeAdapter(FrameHeader), TypeAdapter(AudioHeader)


def _read(adapter: TypeAdapter[T], header: Header) -> T:
    """Return the facts in a header, of which `kind` is none."""
    facts = {name: value for name, value in header.items() if name != "kind"}
    return adapter.validate_json(json.dumps(facts))


def read_image_info(header: Header) -> ImageInfo:
    return _read(_IMAGE, header)


def read_picture(header: Header, payload: NDArray[np.uint8]) -> Picture:
    """Return the picture whose parts lie in `payload` one after another; layers are views of it."""
    facts = _read(_PICTURE, header)
    height, width = facts.height, facts.width
    position = 0

    def take(*shape: int) -> NDArray[np.uint8]:
        nonlocal position
        start, position = position, position + math.prod(shape)
        return payload[start:position].reshape(shape)

    image = take(height, width, 3)
    alpha = take(height, width) if facts.alpha else None
    own = take(height, width, 3) if facts.own else None
    icc, exif = take(facts.icc).tobytes(), take(facts.exif).tobytes()
    if position != len(payload):
        raise ValueError("more bytes than the header promised")
    return Picture(image, alpha, own, icc, exif)


def read_video_info(header: Header) -> VideoInfo:
    return _read(_VIDEO, header)


def read_frame(header: Header, payload: Payload) -> VideoFrame:
    """Return a frame on the payload's memory."""
    facts = _read(_FRAME, header)
    if memoryview(payload).nbytes != facts.height * facts.width * 3:
        raise ValueError("the pixels do not fill the frame")
    image = np.frombuffer(payload, np.uint8).reshape(facts.height, facts.width, 3)
    return VideoFrame(facts.pts, facts.duration, image)


def read_packet(header: Header, payload: Payload) -> AudioPacket:
    facts: dict[str, Any] = vars(_read(_AUDIO, header))
    return AudioPacket(**facts, data=bytes(payload))
