"""Framed messages over a Unix socket: a JSON header, a payload, a descriptor.

Nothing is pickled, so a child that a hostile file has taken over can send only numbers and pixels.
"""

import array
import json
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Mapping
from typing import Any

_PREFIX = struct.Struct("!IQ")  # bytes of the header, bytes of the payload
MAX_HEADER_BYTES = 1 << 20

Buffer = bytes | bytearray | memoryview


class ChannelClosed(Exception):
    """The other side is gone."""


class ProtocolError(Exception):
    """The other side sent what is not a message."""


class Channel:
    """One end of a Unix stream socket; blocking, for one thread at a time.

    `close` may come from another thread: it waits for the call in progress, because a descriptor
    closed under a reader can be given to somebody else's connection at once.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._lock = threading.Lock()

    def send(
        self,
        header: Mapping[str, Any],
        payload: Buffer = b"",
        fd: int | None = None,
        *,
        timeout_s: float | None = None,
    ) -> None:
        """Send one message; `fd` travels with it as an open file.

        Raises ChannelClosed, and TimeoutError when the other side does not read within `timeout_s`.
        """
        text = json.dumps(header).encode()
        start = _PREFIX.pack(len(text), memoryview(payload).nbytes) + text
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        with self._lock:
            try:
                self._set_deadline(end_s)
                sent = socket.send_fds(self._socket, [start], [] if fd is None else [fd])
                for data in (start[sent:], payload):
                    self._set_deadline(end_s)
                    self._socket.sendall(data)  # the timeout is of the whole, not of each piece
            except TimeoutError:
                raise
            except OSError as error:
                raise ChannelClosed from error

    def receive(
        self, *, max_payload_bytes: int, timeout_s: float | None = None
    ) -> tuple[dict[str, Any], bytearray, int | None]:
        """Return the next header, payload and file descriptor (None: no file came).

        Raises ChannelClosed, ProtocolError (among others: a payload over the limit) and
        TimeoutError when the whole message has not come within `timeout_s`.
        """
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        with self._lock:
            return self._receive(max_payload_bytes, end_s)

    def is_open(self) -> bool:
        """Return whether the other side is still there; never waits."""
        poll = select.poll()
        try:
            poll.register(self._socket, select.POLLRDHUP)
        except ValueError:  # this side is closed
            return False
        return not poll.poll(0)

    def close(self) -> None:
        with self._lock:
            self._socket.close()

    def _receive(
        self, max_payload_bytes: int, end_s: float | None
    ) -> tuple[dict[str, Any], bytearray, int | None]:
        start, fd = self._read_start(end_s)
        try:
            header, payload = self._read_rest(start, max_payload_bytes, end_s)
        except BaseException:
            if fd is not None:
                os.close(fd)
            raise
        return header, payload, fd

    def _read_rest(
        self, start: bytes, max_payload_bytes: int, end_s: float | None
    ) -> tuple[dict[str, Any], bytearray]:
        prefix = bytearray(_PREFIX.size)
        prefix[: len(start)] = start
        self._fill(memoryview(prefix)[len(start) :], end_s)
        header_bytes, payload_bytes = _PREFIX.unpack(prefix)
        if header_bytes > MAX_HEADER_BYTES or payload_bytes > max_payload_bytes:
            raise ProtocolError(f"a message of {header_bytes} + {payload_bytes} bytes")
        text = bytearray(header_bytes)
        self._fill(memoryview(text), end_s)
        try:
            header = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ProtocolError("the header is not JSON") from error
        if not isinstance(header, dict):
            raise ProtocolError("the header is not an object")
        payload = bytearray(payload_bytes)
        self._fill(memoryview(payload), end_s)
        return header, payload

    def _read_start(self, end_s: float | None) -> tuple[bytes, int | None]:
        """Read the first bytes of the prefix and the file descriptor that may ride on them."""
        self._set_deadline(end_s)
        fds = array.array("i")
        try:
            # CMSG_LEN, not CMSG_SPACE: its padding has room for a second file, never closed.
            start, ancillary, _, _ = self._socket.recvmsg(
                _PREFIX.size, socket.CMSG_LEN(fds.itemsize)
            )
        except TimeoutError:
            raise
        except OSError as error:
            raise ChannelClosed from error
        if not start:
            raise ChannelClosed
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(data[: fds.itemsize])
        return start, (fds[0] if fds else None)

    def _fill(self, view: memoryview, end_s: float | None) -> None:
        while view.nbytes:
            self._set_deadline(end_s)
            try:
                count = self._socket.recv_into(view)
            except TimeoutError:
                raise
            except OSError as error:
                raise ChannelClosed from error
            if not count:
                raise ChannelClosed
            view = view[count:]

    def _set_deadline(self, end_s: float | None) -> None:
        if end_s is None:
            self._socket.settimeout(None)
            return
        left_s = end_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._socket.settimeout(left_s)
