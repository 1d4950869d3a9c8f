"""The decoder child: the only process that decodes clients' bytes.

Forked from the template (see `template`) with its end of a Unix stream socket. It says when it is
ready, then answers one request after another until the socket closes. Limits on memory and CPU time
are set anew for each item; a limit that strikes ends the child, never the service.
"""

import codecs
import gc
import importlib
import logging
import os
import pkgutil
import resource
import signal
import socket
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import av
from PIL import Image

from service.media.decoder.confinement import confine, die_with_parent
from service.media.image.reader import OpenedImage, decode_image, open_image
from service.media.image.types import TooComplexImage, UndecodableImage, UnknownFormat
from service.media.video.reader import read_video
from service.media.video.repairs import Repairs
from service.media.video.types import (
    ClipSelection,
    EmptySelection,
    UndecodableVideo,
    UnsupportedVideo,
    VideoInfo,
    VideoLimitExceeded,
    VideoLimits,
)
from service.media.wire.channel import Channel, ChannelClosed
from service.media.wire.sealed import seal
from service.memory import keep_freed_memory

MAX_OPEN_FILES = 64
PULSE_S = 0.5  # well below the shortest time that the service waits for a message
# Text in files; each is a module of its own, which a confined process cannot load any more.
ENCODINGS = ("ascii", "latin-1", "utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-16-le", "idna")


def set_limits(*, memory_bytes: int, cpu_s: int) -> None:
    """Bound this process: address space, and CPU seconds from now on.

    RLIMIT_CPU counts from the start of the process, so the soft limit is what was used so far plus
    the budget.
    """
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used_s = int(usage.ru_utime + usage.ru_stime)
    resource.setrlimit(resource.RLIMIT_CPU, (used_s + cpu_s + 1, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, resource.RLIM_INFINITY))


def renew_limits(request: Mapping[str, Any]) -> None:
    """Give the work on a request its budgets once more."""
    set_limits(memory_bytes=request["memory_bytes"], cpu_s=request["cpu_s"])


class Pulse:
    """Says that the work on a clip goes on where nothing comes of it, and renews its budgets.

    What bounds the work is then the number of frames, each with a budget of its own.
    """

    def __init__(
        self,
        channel: Channel,
        renew_limits: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._channel = channel
        self._renew_limits = renew_limits
        self._clock = clock
        self._last_s = clock()

    def beat(self) -> None:
        """Take note of one more packet."""
        if self._clock() - self._last_s >= PULSE_S:
            self._channel.send({"kind": "progress"})
            self.renew()

    def renew(self) -> None:
        """Begin the budgets anew: something was sent."""
        self._last_s = self._clock()
        self._renew_limits()


class Child:
    """Answers requests: `image` then `decode` for a still, `video` for a clip."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.image: OpenedImage | None = None

    def serve(self) -> None:
        while True:
            request, payload, fd = self.channel.receive(max_payload_bytes=1 << 40)
            renew_limits(request)
            try:
                self.answer(request, payload, fd)
            except UnknownFormat as error:
                self.refuse("unsupported", str(error))
            except UndecodableImage as error:
                self.refuse("undecodable", str(error))
            except TooComplexImage as error:
                self.refuse("too-complex", str(error), limit=error.limit, actual=error.actual)
            except MemoryError:
                self.image = None
                self.refuse("too-complex", "decoding takes more memory than is allowed")

    def refuse(self, error: str, reason: str, **more: Any) -> None:
        self.channel.send({"kind": "error", "error": error, "reason": reason, **more})

    def answer(self, request: dict[str, Any], payload: bytearray, fd: int | None) -> None:
        match request["op"]:
            case "image":
                self.image = open_image(payload)
                self.channel.send({"kind": "info", **vars(self.image.info)})
            case "decode":
                assert self.image is not None
                image, self.image = self.image, None
                header, parts = decode_image(image).to_wire()
                pixels = seal(parts)
                try:
                    self.channel.send({"kind": "picture", **header}, fd=pixels)
                finally:
                    os.close(pixels)
            case "video":
                assert fd is not None
                try:
                    self.stream_video(request, fd)
                finally:
                    gc.collect()  # a clip's decoders refer to each other: 13 MB at 640 x 360

    def stream_video(self, request: dict[str, Any], fd: int) -> None:
        pulse = Pulse(self.channel, partial(renew_limits, request))
        with os.fdopen(fd, "rb") as file:
            try:
                limits, selection = (
                    VideoLimits(**request["limits"]),
                    ClipSelection(**request["selection"]),
                )
                for item in read_video(file, limits, selection, pulse.beat):
                    if isinstance(item, VideoInfo | Repairs):
                        self.channel.send(item.to_wire())
                    else:
                        header, data = item.to_wire()
                        self.channel.send(header, data)
                    pulse.renew()
            except UnsupportedVideo as error:
                self.refuse("unsupported", error.reason)
            except UndecodableVideo as error:
                self.refuse("undecodable", error.reason)
            except EmptySelection:
                self.refuse("empty-selection", "no frame of the clip lies between start and end")
            except VideoLimitExceeded as error:
                self.refuse("limit", str(error), limit=error.limit, actual=error.actual)


def load() -> None:
    """Load what decoding loads late: a confined process cannot any more."""
    keep_freed_memory()
    Image.preinit()
    importlib.import_module("numpy.random")  # numpy loads it at its first use
    for module in pkgutil.walk_packages(av.__path__, "av."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in ENCODINGS:
        codecs.lookup(name)
    av.logging.set_level(None)
    logging.disable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_OPEN_FILES, MAX_OPEN_FILES))
    for number in (signal.SIGINT, signal.SIGTERM):  # of a whole group: the service's to handle
        signal.signal(number, signal.SIG_IGN)


def serve(fd: int, parent_pid: int) -> None:
    """Answer requests on the socket `fd` until it closes or the parent ends, confined."""
    die_with_parent(parent_pid)
    channel = Channel(socket.socket(fileno=fd))
    is_confined = confine()
    try:
        channel.send({"kind": "ready", "confined": is_confined})
        Child(channel).serve()
    except ChannelClosed:
        pass
