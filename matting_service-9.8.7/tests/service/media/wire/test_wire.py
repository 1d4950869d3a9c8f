import array
import json
import os
import socket
import struct
import threading

import pytest

from service.media.wire.channel import MAX_HEADER_BYTES, Channel, ChannelClosed, ProtocolError


@pytest.fixture
def pair():
    left, right = (Channel(end) for end in socket.socketpair())
    yield left, right
    left.close()
    right.close()


@pytest.fixture
def raw_pair():
    """A bare socket that can send what no channel would, and the channel at the other end."""
    raw, other = socket.socketpair()
    channel = Channel(other)
    yield raw, channel
    raw.close()
    channel.close()


@pytest.mark.parametrize("payload", [b"", b"x", bytes(range(256)) * 20_000], ids=len)
def test_message_arrives_whole_with_its_payload(pair, payload):
    left, right = pair
    header = {"op": "image", "number": 3, "text": "é"}
    sender = threading.Thread(target=left.send, args=(header, payload))
    sender.start()
    received = right.receive(max_payload_bytes=len(payload), timeout_s=10)
    sender.join()
    assert received == (header, bytearray(payload), None)


def test_messages_keep_their_order_and_borders(pair):
    left, right = pair
    for number in range(5):
        left.send({"number": number}, bytes(number))
    for number in range(5):
        header, payload, _ = right.receive(max_payload_bytes=10, timeout_s=10)
        assert header == {"number": number} and payload == bytes(number)


def test_file_travels_with_its_message_only(pair, tmp_path):
    left, right = pair
    path = tmp_path / "clip"
    path.write_bytes(b"frames")
    with path.open("rb") as file:
        left.send({"op": "video"}, b"1", fd=file.fileno())
    left.send({"op": "image"}, b"2")
    header, payload, fd = right.receive(max_payload_bytes=10, timeout_s=10)
    assert header == {"op": "video"} and payload == b"1" and fd is not None
    with os.fdopen(fd, "rb") as file:
        assert file.read() == b"frames"
    assert right.receive(max_payload_bytes=10, timeout_s=10)[2] is None


def test_payload_over_the_limit_is_refused_before_it_is_read(raw_pair):
    raw, channel = raw_pair
    raw.sendall(struct.pack("!IQ", 2, 1 << 60) + b"{}")
    with pytest.raises(ProtocolError, match=str(1 << 60)):
        channel.receive(max_payload_bytes=1 << 20, timeout_s=10)


def test_header_over_the_limit_is_refused_before_it_is_read(raw_pair):
    raw, channel = raw_pair
    raw.sendall(struct.pack("!IQ", MAX_HEADER_BYTES + 1, 0))
    with pytest.raises(ProtocolError):
        channel.receive(max_payload_bytes=0, timeout_s=10)


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"\xff\xfe", b"[1]", b"null", b'"op"', b"[" * 100_000],
    ids=["empty", "cut", "no-utf8", "list", "null", "string", "deep"],
)
def test_header_that_is_no_object_is_refused(raw_pair, text):
    raw, channel = raw_pair
    raw.sendall(struct.pack("!IQ", len(text), 0) + text)
    with pytest.raises(ProtocolError):
        channel.receive(max_payload_bytes=0, timeout_s=10)


@pytest.mark.parametrize("part", [b"", b"\0\0", struct.pack("!IQ", 9, 9) + b'{"a'])
def test_end_of_the_other_side_closes_the_channel(raw_pair, part):
    raw, channel = raw_pair
    raw.sendall(part)
    raw.close()
    with pytest.raises(ChannelClosed):
        channel.receive(max_payload_bytes=10, timeout_s=10)


def test_send_to_a_closed_side_raises_channel_closed(raw_pair):
    raw, channel = raw_pair
    raw.close()
    with pytest.raises(ChannelClosed):
        channel.send({}, bytes(1 << 20))


@pytest.mark.parametrize("part", [b"", b"\0", struct.pack("!IQ", 2, 9) + b"{}abc"])
def test_receive_gives_up_when_the_message_does_not_come(raw_pair, part):
    raw, channel = raw_pair
    raw.sendall(part)
    with pytest.raises(TimeoutError):
        channel.receive(max_payload_bytes=10, timeout_s=0.1)


def test_receive_gives_up_on_a_message_that_trickles(raw_pair):
    """The deadline is of the whole message, not of each piece."""
    raw, channel = raw_pair
    raw.sendall(struct.pack("!IQ", 2, 1 << 20) + b"{}")
    stop = threading.Event()

    def trickle():
        while not stop.wait(0.02):
            raw.send(b"x")

    sender = threading.Thread(target=trickle)
    sender.start()
    try:
        with pytest.raises(TimeoutError):
            channel.receive(max_payload_bytes=1 << 20, timeout_s=0.2)
    finally:
        stop.set()
        sender.join()


def test_send_gives_up_when_nobody_reads(raw_pair):
    _, channel = raw_pair
    with pytest.raises(TimeoutError):
        channel.send({"op": "image"}, bytes(1 << 24), timeout_s=0.1)


def test_close_waits_for_the_call_in_progress(raw_pair):
    raw, channel = raw_pair
    results = []

    def receive():
        results.append(channel.receive(max_payload_bytes=0, timeout_s=10)[0])

    reader = threading.Thread(target=receive)
    raw.sendall(b"\0\0")  # the reader is inside a message now, or will be
    reader.start()
    closer = threading.Thread(target=channel.close)
    while not channel._lock.locked():
        pass
    closer.start()
    text = json.dumps({"late": 1}).encode()
    raw.sendall(struct.pack("!IQ", len(text), 0)[2:] + text)
    reader.join(10)
    closer.join(10)
    assert results == [{"late": 1}]


def test_more_files_than_one_are_not_kept(raw_pair, tmp_path):
    raw, channel = raw_pair
    before = len(os.listdir("/proc/self/fd"))
    with (tmp_path / "a").open("wb") as a, (tmp_path / "b").open("wb") as b:
        fds = array.array("i", [a.fileno(), b.fileno()])
        message = struct.pack("!IQ", 2, 0) + b"{}"
        raw.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
    fd = channel.receive(max_payload_bytes=0, timeout_s=10)[2]
    assert fd is not None
    os.close(fd)
    assert len(os.listdir("/proc/self/fd")) == before


BROKEN = {
    "prefix cut short": b"\0\0",
    "header too long": struct.pack("!IQ", MAX_HEADER_BYTES + 1, 0),
    "payload too long": struct.pack("!IQ", 2, 11) + b"{}",
    "header cut short": struct.pack("!IQ", 9, 0) + b"{}",
    "not JSON": struct.pack("!IQ", 2, 0) + b"{{",
    "not an object": struct.pack("!IQ", 2, 0) + b"[]",
    "payload cut short": struct.pack("!IQ", 2, 5) + b"{}x",
}


@pytest.mark.parametrize("message", BROKEN.values(), ids=BROKEN)
def test_file_of_a_broken_message_is_closed(raw_pair, message: bytes) -> None:
    raw, channel = raw_pair
    with open(os.devnull) as file:
        socket.send_fds(raw, [message], [file.fileno()])
    raw.shutdown(socket.SHUT_WR)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises((ChannelClosed, ProtocolError)):
        channel.receive(max_payload_bytes=10, timeout_s=10)
    assert len(os.listdir("/proc/self/fd")) == before


def test_file_of_a_message_that_never_ends_is_closed(raw_pair) -> None:
    raw, channel = raw_pair
    with open(os.devnull) as file:
        socket.send_fds(raw, [b"\0"], [file.fileno()])
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(TimeoutError):
        channel.receive(max_payload_bytes=10, timeout_s=0.1)
    assert len(os.listdir("/proc/self/fd")) == before
