"""Freed memory that the C library keeps for what comes next."""

import ctypes

# mallopt(3)
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
# The most that glibc comes to by itself.
KEPT_BYTES, LARGEST_BYTES = 64 << 20, 32 << 20
# Each heap keeps memory of its own: eight a core, as glibc has them, would keep it so many times.
HEAPS = 2


def keep_freed_memory() -> None:
    """Have freed memory of this process used again: fresh pages take half of the time of a frame.

    KEPT_BYTES stay at the end of each of HEAPS, which threads share; arrays over LARGEST_BYTES are
    still given back. To be called before there are threads: a heap that there is already stays.
    Elsewhere than on glibc nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(_MMAP_THRESHOLD, LARGEST_BYTES)
        mallopt(_ARENA_MAX, HEAPS)
