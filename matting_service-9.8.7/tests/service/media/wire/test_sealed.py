import fcntl
import os

import numpy as np
import pytest

from service.media.wire.channel import ProtocolError
from service.media.wire.sealed import map_sealed, seal


def test_parts_come_back_as_one_and_cannot_be_written():
    parts = [b"ab", np.arange(6, dtype=np.uint8).reshape(2, 3).data, b"", bytearray(b"c")]
    mapped = map_sealed(seal(parts), 100)
    assert mapped.tobytes() == b"ab\0\1\2\3\4\5c"
    with pytest.raises(ValueError, match="read-only"):
        mapped[0] = 1


def test_nothing_stays_open_when_the_array_is_gone():
    before = len(os.listdir("/proc/self/fd"))
    mapped = map_sealed(seal([b"x" * 5000]), 5000)
    assert mapped[1:].sum() == 4999 * ord("x")
    del mapped  # Python's mmap holds a descriptor of its own
    assert len(os.listdir("/proc/self/fd")) == before


def test_sealed_memory_can_neither_shrink_nor_change():
    fd = seal([b"x" * 5000])
    try:
        for change in (lambda: os.ftruncate(fd, 1), lambda: os.pwrite(fd, b"y", 0)):
            with pytest.raises(PermissionError):
                change()
    finally:
        os.close(fd)


def make_memory(size: int, seals: int) -> int:
    fd = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


ALL = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


@pytest.mark.parametrize(
    "make",
    [
        lambda: make_memory(100, 0),
        *(lambda left=left: make_memory(100, ALL & ~left) for left in (2, 4, 8)),
        lambda: make_memory(0, ALL),
        lambda: make_memory(101, ALL),
        lambda: os.open("/dev/zero", os.O_RDONLY),
        lambda: os.open(__file__, os.O_RDONLY),
        lambda: os.pipe()[0],
    ],
)
def test_anything_else_is_refused_and_closed(make):
    fd = make()
    with pytest.raises(ProtocolError):
        map_sealed(fd, 100)
    with pytest.raises(OSError):
        os.fstat(fd)
