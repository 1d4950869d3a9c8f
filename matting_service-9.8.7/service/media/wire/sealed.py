"""Pixels in sealed shared memory (memfd), which neither side can change any more.

A socket would copy every picture twice. The seals are what makes sharing safe: a child that a
hostile file has taken over can neither shrink what is mapped here, which would end the service with
SIGBUS, nor change pixels that were checked. See memfd_create(2) and fcntl(2), "File sealing".
"""

import fcntl
import mmap
import os
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from service.media.wire.channel import Buffer, ProtocolError

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def seal(parts: Iterable[Buffer]) -> int:
    """Return the descriptor of sealed memory that holds the parts one after another."""
    fd = os.memfd_create("pixels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        for part in parts:
            left = memoryview(part).cast("B")
            while left.nbytes:  # one call writes 2 GiB at most
                left = left[os.write(fd, left) :]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def map_sealed(fd: int, max_bytes: int) -> NDArray[np.uint8]:
    """Return the bytes of sealed memory, read only, and close the descriptor.

    Raises ProtocolError for a file without the seals, an empty one, or more than `max_bytes`.
    """
    try:
        try:
            seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        except OSError:
            raise ProtocolError("a file that cannot be sealed") from None
        size = os.fstat(fd).st_size  # final, once the seals are there
        if seals & _SEALS != _SEALS:
            raise ProtocolError("memory that is not sealed")
        if not 0 < size <= max_bytes:
            raise ProtocolError(f"sealed memory of {size} bytes")
        return np.frombuffer(mmap.mmap(fd, size, prot=mmap.PROT_READ), np.uint8)
    finally:
        os.close(fd)
