"""Freed memory that the C library keeps for what comes next."""

import ctypes

# mallopt(3)
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# The most that glibc comes to by itself.
KEPT_BYTES, LARGEST_BYTES = 64 << 20, 32 << 20


def keep_freed_memory() -> None:
    """Have freed memory of this process used again: fresh pages take half of the time of a frame.

    KEPT_BYTES stay at the end of each thread's heap; arrays over LARGEST_BYTES are still given
    back. Elsewhere than on glibc nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(_MMAP_THRESHOLD, LARGEST_BYTES)
