"""Decoder children as processes: forked from a template, ended, and asked how they ended.

One template serves all decoders of a process. It is replaced after a child has crashed: children
share its layout of memory, which a hostile file could else find out by trying again and again.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import service
from service.media.wire.channel import Channel, ChannelClosed, ProtocolError

MODULE = "service.media.decoder.template"
START_TIMEOUT_S = 60.0
# A library's threads would not be there after a fork.
_THREADS = {"OPENBLAS_NUM_THREADS": "1"}


class NoChild(Exception):
    """No child could be started; the message says why."""


class Template:
    """A process that forks children; from any thread, one request at a time.

    It ends when nothing refers to it any more, and its children with it.
    """

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", MODULE, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={
                    "PYTHONPATH": str(Path(service.__file__).parent.parent),
                    **_THREADS,
                },
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self.owner_pid = os.getpid()
        self._channel = Channel(ours)
        self._lock = threading.Lock()
        weakref.finalize(self, _end, self._process, self._channel)

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def fork(self, theirs: socket.socket) -> int:
        """Return the process id of a new child, which serves this socket; raises NoChild."""
        try:
            return int(self._ask({"op": "fork"}, theirs.fileno())["pid"])
        except (ChannelClosed, KeyError, ProtocolError, TimeoutError) as error:
            self._process.kill()
            raise NoChild(repr(error)) from None

    def wait(self, pid: int) -> int | None:
        """Return how a child ended, as `subprocess` says it; None if the template ended too."""
        try:
            return int(self._ask({"op": "wait", "pid": pid})["code"])
        except (ChannelClosed, KeyError, ProtocolError, TimeoutError):
            self._process.kill()
            return None

    def _ask(self, request: dict[str, Any], fd: int | None = None) -> dict[str, Any]:
        with self._lock:
            self._channel.send(request, fd=fd, timeout_s=START_TIMEOUT_S)
            answer, _, _ = self._channel.receive(max_payload_bytes=0, timeout_s=START_TIMEOUT_S)
        return answer


def _end(process: subprocess.Popen[bytes], channel: Channel) -> None:
    process.kill()
    process.wait()
    channel.close()


class ForkedChild:
    """A child of the template; its process id stays its own until `wait` has returned."""

    def __init__(self, template: Template, pid: int) -> None:
        self.pid = pid
        self._template = template
        self._lock = threading.Lock()
        self._has_ended = False
        self._code: int | None = None

    def kill(self) -> None:
        with self._lock:
            if not self._has_ended:
                try:
                    os.kill(self.pid, signal.SIGKILL)
                except ProcessLookupError:  # the template has ended, and it with it
                    pass

    def wait(self) -> int | None:
        """Return the exit code, negative for a signal; None where nobody knows."""
        with self._lock:
            if not self._has_ended:
                self._code = self._template.wait(self.pid)
                self._has_ended = True
        return self._code

    def suspect_template(self) -> None:
        """Have later children forked from another template."""
        global _template
        with _template_lock:
            if _template is self._template:
                _template = None


_template: Template | None = None
_template_lock = threading.Lock()


def fork_child(theirs: socket.socket) -> ForkedChild:
    """Start a child that serves this socket; raises NoChild."""
    template = begin_template()
    return ForkedChild(template, template.fork(theirs))


def begin_template() -> Template:
    """Return the template, which may still be loading; raises NoChild."""
    global _template
    with _template_lock:
        # A process that was forked off the one that started the template needs its own.
        if _template is None or _template.owner_pid != os.getpid() or not _template.is_alive():
            try:
                _template = Template()
            except OSError as error:
                raise NoChild(str(error)) from None
        return _template
