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

from service.media.audio.types import (
    CARRIED_AUDIO,
    COPYABLE_AUDIO,
    MAX_AUDIO_PACKET_BYTES,
    AudioHeader,
    AudioPacket,
)
from service.media.colour.planes import YuvPicture
from service.media.image.types import ImageInfo, Picture, PictureHeader
from service.media.video.repairs import Repairs
from service.media.video.types import FrameHeader, VideoFrame, VideoInfo
from service.media.wire.fields import Header

T = TypeVar("T")
Payload = bytes | bytearray | memoryview


_IMAGE, _PICTURE = TypeAdapter(ImageInfo), TypeAdapter(PictureHeader)
_VIDEO, _FRAME, _AUDIO = TypeAdapter(VideoInfo), TypeAdapter(FrameHeader), TypeAdapter(AudioHeader)


_REPAIRS = TypeAdapter(Repairs)


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
    return Picture(image, alpha, own, icc, exif, facts.rows_there, facts.notes)


def read_video_info(header: Header) -> VideoInfo:
    info = _read(_VIDEO, header)
    if [track.index for track in info.audio] != list(range(len(info.audio))):
        raise ValueError("audio tracks are not numbered from 0")
    for track in info.audio:
        least, most = COPYABLE_AUDIO[track.codec]
        if not least <= len(track.extradata) <= most:
            raise ValueError("extradata has a wrong size")
        if any(track.codec not in CARRIED_AUDIO[name] for name in track.containers):
            raise ValueError("an audio track for containers that do not carry it")
    return info


def read_frame(header: Header, payload: Payload) -> VideoFrame:
    """Return a frame on the payload's memory."""
    facts = _read(_FRAME, header)
    shape, area = (facts.height, facts.width), facts.height * facts.width
    if facts.matrix is not None and (facts.height % 2 or facts.width % 2):
        raise ValueError("planes of odd sides")
    colours = area * 3 if facts.matrix is None else area * 3 // 2
    if memoryview(payload).nbytes != colours + area * facts.alpha:
        raise ValueError("the pixels do not fill the frame")
    box = facts.box
    if box and (box.left + box.width > facts.width or box.top + box.height > facts.height):
        raise ValueError("the box lies outside of the frame")
    pixels = np.frombuffer(payload, np.uint8)
    alpha = pixels[colours:].reshape(shape) if facts.alpha else None
    picture: NDArray[np.uint8] | YuvPicture
    if facts.matrix is None:
        picture = pixels[:colours].reshape(*shape, 3)
    else:
        picture = YuvPicture(pixels[:colours].reshape(-1, facts.width), facts.matrix)
    return VideoFrame(facts.pts, facts.duration, picture, alpha, box)


def read_repairs(header: Header) -> Repairs:
    return _read(_REPAIRS, header)


def read_packet(header: Header, payload: Payload) -> AudioPacket:
    if not 1 <= memoryview(payload).nbytes <= MAX_AUDIO_PACKET_BYTES:
        raise ValueError("an audio packet has a wrong size")
    facts: dict[str, Any] = vars(_read(_AUDIO, header))
    return AudioPacket(**facts, data=bytes(payload))
