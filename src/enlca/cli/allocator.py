"""The C library's habits with large pieces of memory, which cost a network half of its speed."""

import ctypes
import sys
from contextlib import suppress

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_KEPT = 1 << 30
_NEVER_TRIM = 2**31 - 1


def keep_freed_memory() -> None:
    """Use freed memory again instead of giving it back at once.

    glibc asks the system for each piece beyond 32 MiB anew, and the system fills it with zeros, page by page,
    while the network waits: a picture of a megapixel took 2.4 times as long (benchmarks/NOTES.md). What is
    freed is still given back where memory is counted (`enlca.inference.memory.used_memory`). Other systems
    are left as they are.
    """
    if sys.platform != "linux":
        return
    # musl has no such call; an old glibc refuses the size.
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT)
        libc.mallopt(_M_TRIM_THRESHOLD, _NEVER_TRIM)
