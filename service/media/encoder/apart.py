"""Encode a large picture in a process of its own: the encoders themselves cannot be stopped."""

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import service
from service.errors import NotReady
from service.media.wire.sealed import seal
from service.threads import IsLate, check_time

CHILD = "service.media.encoder.child"
# Pixels from which a process is worth its start: the encoders take a second for as many.
APART_PIXELS = {"webp": 12_000_000, "avif": 5_000_000, "psd": 8_000_000}
LOOK_S = 0.1  # between two questions whether the result is still waited for


def is_large(pixels: NDArray[np.uint8], format: str) -> bool:
    """Say whether a picture is worth a process of its own; those of other formats never are."""
    return format in APART_PIXELS and math.prod(pixels.shape[:2]) >= APART_PIXELS[format]


def encode_apart(
    pictures: Mapping[str, NDArray[np.uint8]],
    icc: bytes,
    exif: bytes,
    is_late: IsLate,
    **options: Any,
) -> bytes:
    """Return the file that a child makes of a picture, or for `format=psd` of layers.

    Pictures are (H, W), (H, W, 3) or (H, W, 4) uint8; `options` are `format`, and `quality` and
    `compression` as `encode_image` has them. Raises TooLate when `is_late` says so, and NotReady
    when there is no room for a child.
    """
    shapes = {name: pixels.shape for name, pixels in pictures.items()}
    facts = {"shapes": shapes, "icc": len(icc), "exif": len(exif), **options}
    # Memory of their own: pipes would need threads, and the pixels would be copied once more.
    parts = [np.ascontiguousarray(pixels).data for pixels in pictures.values()]
    given = seal([*parts, icc, exif])
    made = os.memfd_create("encoded", os.MFD_CLOEXEC)
    try:
        code = _run_child(facts, given, made, is_late)
        if code == -signal.SIGKILL:  # as a rule by a system that has no memory left
            raise NotReady("there is no memory to encode the result", retry_after_s=5)
        if code != 0:
            raise RuntimeError(f"an encoder ended with {code}")
        os.lseek(made, 0, os.SEEK_SET)
        with os.fdopen(os.dup(made), "rb") as file:
            return file.read()
    finally:
        os.close(given)
        os.close(made)


def _run_child(facts: dict[str, Any], given: int, made: int, is_late: IsLate) -> int:
    """Return how a child ended; it never outlives this call."""
    command = [sys.executable, "-P", "-m", CHILD, str(os.getpid()), json.dumps(facts)]
    environ = {"PYTHONPATH": str(Path(service.__file__).parent.parent)}
    try:
        process = subprocess.Popen(
            command, stdin=given, stdout=made, stderr=subprocess.DEVNULL, env=environ, cwd="/"
        )
    except OSError as error:
        raise NotReady(f"no encoder could be started: {error}", retry_after_s=5) from None
    try:
        while True:
            check_time(is_late)
            try:
                return process.wait(LOOK_S)
            except subprocess.TimeoutExpired:
                continue
    finally:
        process.kill()
        process.wait()
