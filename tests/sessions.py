"""Speaking to sessions: opening, sending chunks, reading the frames of answers."""

import email
import email.policy
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import av
import numpy as np

from tests.clips import picture
from tests.helpers import decode, encode

T = TypeVar("T")


class Clock:
    """A clock that a test turns by hand."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass(frozen=True)
class Part:
    """One frame of an answer: its number, its time in seconds, its picture."""

    frame: int
    time_s: float
    image: np.ndarray
    content_type: str


def read_parts(response) -> list[Part]:
    """Return the frames of a multipart/mixed answer, read with the standard library's parser."""
    kind = response.headers["content-type"]
    head = f"Content-Type: {kind}\r\nMIME-Version: 1.0\r\n\r\n".encode()
    message = email.message_from_bytes(head + response.content, policy=email.policy.HTTP)
    assert message.get_content_type() == "multipart/mixed"
    if response.content.startswith(b"--" + message.get_boundary().encode() + b"--"):
        return []
    parts = []
    for part in message.iter_parts():
        content = part.get_payload(decode=True)
        assert len(content) == int(part["Content-Length"])
        image = decode(content)
        kind = part.get_content_type()
        parts.append(Part(int(part["X-Frame"]), float(part["X-Timestamp"]), image, kind))
    return parts


class SessionClient:
    """One session of a client of an app."""

    def __init__(self, client, *, key: str | None = None, **options: object) -> None:
        self.client = client
        self.headers = {"X-API-Key": key} if key else {}
        response = client.post("/v1/sessions", json=options, headers=self.headers)
        assert response.status_code == 201, response.text
        self.opened = response.json()
        self.path = f"/v1/sessions/{self.opened['id']}"
        self.next_sequence = 0

    def put(self, sequence: int, chunk: bytes | Sequence[bytes]):
        """Send a clip (bytes) or encoded pictures as chunk `sequence`."""
        path = f"{self.path}/chunks/{sequence}"
        if isinstance(chunk, bytes):
            headers = self.headers | {"Content-Type": "video/mp4"}
            return self.client.put(path, content=chunk, headers=headers)
        files = [("frame", (f"{index}.png", data)) for index, data in enumerate(chunk)]
        return self.client.put(path, files=files, headers=self.headers)

    def send(self, chunk: bytes | Sequence[bytes]):
        """Send the next chunk, which must be taken."""
        response = self.put(self.next_sequence, chunk)
        assert response.status_code == 200, response.text
        self.next_sequence += 1
        assert int(response.headers["x-next-sequence"]) == self.next_sequence
        return response

    def finish(self):
        return self.client.post(f"{self.path}/finish", headers=self.headers)

    def get(self):
        return self.client.get(self.path, headers=self.headers)

    def delete(self):
        return self.client.delete(self.path, headers=self.headers)


def number_picture(number: int, side: int = 32) -> bytes:
    """Return a PNG of one colour that holds `number` in its red and green."""
    colour = (number % 256, number // 256, 77)
    return encode(np.full((side, side, 3), colour, np.uint8), "PNG")


def read_number(image: np.ndarray) -> int:
    """Return the number that every pixel of a picture holds."""
    red, green, blue = image[0, 0, :3].astype(int)
    assert (image[:, :, :3] == (red, green, blue)).all() and blue == 77
    return int(red + 256 * green)


def cut_photo() -> tuple[bytes, bytes]:
    """Return a photo as a JPEG, and the first part of that file."""
    content = encode(picture(0, (96, 64)), "JPEG", quality=95)
    return content, content[: int(len(content) * 0.8)]


def make_lossless_clip(images: Sequence[np.ndarray], fps: int) -> bytes:
    """Return an MP4 whose pictures come out the same whichever of them are in one file."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=fps, options={"qp": "0", "preset": "ultrafast"})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv444p"
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, "rgb24")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return buffer.getvalue()


def split(items: Sequence[T], borders: Iterable[int]) -> list[Sequence[T]]:
    """Return the parts of a sequence that is cut before the items numbered."""
    edges = sorted({0, len(items), *borders})
    return [items[first:last] for first, last in zip(edges, edges[1:], strict=False)]


def encode_multipart(chunk: list[bytes]) -> tuple[bytes, bytes]:
    """Return the body of a chunk of pictures, and its content type."""
    head = b'--x\r\nContent-Disposition: form-data; name="frame"; filename="a.png"\r\n\r\n'
    body = b"".join(head + picture + b"\r\n" for picture in chunk) + b"--x--\r\n"
    return body, b"multipart/form-data; boundary=x"


def list_answers(folder: Path) -> list[Path]:
    found = folder.glob("matting-sessions-*/*")
    return [path for path in found if path.name != "lock"]


def read_numbers(*responses) -> list[int]:
    """Return the numbers that the frames of answers carry in their pixels."""
    return [read_number(part.image) for answer in responses for part in read_parts(answer)]


PICTURES = [number_picture(number) for number in range(40)]
FRAMES = {"output": "cutout", "packaging": "frames"}
