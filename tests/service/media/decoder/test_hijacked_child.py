"""A decoder child that a file took over: whatever it says, the service is not harmed."""

import contextlib
import json
import os
import socket
import struct

import pytest

from service.errors import UndecodableMedia
from service.media.decoder.client import Decoder
from service.media.wire.channel import Channel
from service.media.wire.sealed import seal
from service.settings import Settings
from tests.service.media.decoder.test_client import closing_decoder


@contextlib.contextmanager
def hijacked_decoder(*answers: bytes, pixels: bytes | None = None):
    """A decoder whose child says what the test wants, as one that a file took over might.

    `pixels` go with the last answer, as sealed memory.
    """
    child = Decoder(Settings(decoder_timeout_s=5))
    ours, theirs = socket.socketpair()
    child._channel.close()
    child._channel = Channel(ours)
    if pixels is None:
        theirs.sendall(b"".join(answers))
    else:
        theirs.sendall(b"".join(answers[:-1]))
        fd = seal([pixels])
        socket.send_fds(theirs, [answers[-1]], [fd])
        os.close(fd)
    theirs.shutdown(socket.SHUT_WR)
    try:
        yield child
    finally:
        child.close()
        theirs.close()


def message(header: object, payload: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("!IQ", len(text), len(payload)) + text + payload


PICTURE = {
    "kind": "picture",
    "width": 4,
    "height": 2,
    "alpha": False,
    "own": False,
    "icc": 0,
    "exif": 0,
    "rows_there": 1.0,
    "notes": [],
}


INFO = {"kind": "info", "width": 4, "height": 2, "format": "PNG"}


@pytest.mark.parametrize(
    "answer",
    [
        b"not a message at all, but long enough",
        b"",
        message([1, 2]),
        message({"kind": "info"}),
        message(INFO | {"width": "wide"}),
        message(INFO | {"width": None}),
        message(INFO | {"width": 0}),
        message(INFO | {"width": -4}),
        message(INFO | {"width": float("inf")}),
        message(INFO | {"width": float("nan")}),
        message(INFO | {"width": 10**400}),
        message(INFO | {"height": 10**18}),
        message(INFO, b"payload"),
        struct.pack("!IQ", 1 << 31, 0),
    ],
)
def test_nonsense_for_a_header_is_undecodable(answer):
    with hijacked_decoder(answer) as child:
        with pytest.raises(UndecodableMedia):
            child.open_image(b"image")


@pytest.mark.parametrize(
    "header, payload",
    [
        (PICTURE, bytes(23)),
        (PICTURE, bytes(25)),
        (PICTURE | {"width": 8, "height": 1}, bytes(24)),
        (PICTURE | {"width": 2, "height": 4}, bytes(24)),
        (PICTURE | {"width": -4, "height": -2}, bytes(24)),
        (PICTURE | {"alpha": True}, bytes(24)),
        (PICTURE | {"own": True}, bytes(47)),
        (PICTURE | {"icc": -1}, bytes(23)),
        (PICTURE | {"icc": 1 << 40}, bytes(24)),
        ({"kind": "picture"}, bytes(24)),
    ],
)
def test_pixels_that_do_not_fit_the_header_are_undecodable(header, payload):
    with hijacked_decoder(message(INFO), message(header), pixels=payload) as child:
        assert child.open_image(b"image").width == 4
        with pytest.raises(UndecodableMedia):
            child.decode_image()
        assert not child.is_alive()


def test_picture_that_fits_its_header_is_taken():
    answers = message(INFO), message(PICTURE | {"icc": 3})
    with hijacked_decoder(*answers, pixels=bytes(24) + b"icc") as child:
        child.open_image(b"image")
        picture = child.decode_image()
        assert picture.image.shape == (2, 4, 3) and picture.icc == b"icc"


@pytest.mark.parametrize("payload", [b"", bytes(24)])
def test_picture_without_sealed_memory_is_undecodable(payload):
    with hijacked_decoder(message(INFO), message(PICTURE, payload)) as child:
        child.open_image(b"image")
        with pytest.raises(UndecodableMedia):
            child.decode_image()
        assert not child.is_alive()


def count_open_files() -> int:
    """Return how many files this process has open while there is a template of decoders."""
    with closing_decoder():
        pass
    return len(os.listdir("/proc/self/fd"))


def test_memory_that_comes_with_another_message_is_refused_and_closed():
    before = count_open_files()
    for answer in (INFO, {"kind": "error", "error": "undecodable", "reason": "r"}):
        with hijacked_decoder(message(answer), pixels=bytes(24)) as child:
            with pytest.raises(UndecodableMedia):
                child.open_image(b"image")
    assert count_open_files() == before


def test_numbers_of_an_error_are_checked_before_they_reach_an_answer():
    error = {"kind": "error", "error": "limit", "reason": "r", "limit": float("nan"), "actual": 7}
    with hijacked_decoder(message(error)) as child:
        with pytest.raises(Exception) as caught:
            child.open_image(b"image")
        assert caught.value.limit is None and caught.value.actual == 7


def test_file_from_a_child_is_closed_and_refused(tmp_path):
    with hijacked_decoder() as child:
        ours, theirs = socket.socketpair()
        child._channel.close()
        child._channel = Channel(ours)
        with (tmp_path / "gift").open("wb") as file:
            socket.send_fds(theirs, [message(INFO)], [file.fileno()])
        with pytest.raises(UndecodableMedia):
            child.open_image(b"image")
        theirs.close()
        links = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
        assert str(tmp_path / "gift") not in links
