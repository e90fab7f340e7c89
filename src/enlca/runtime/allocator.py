"""Settings of glibc's allocator, whose defaults cost a network half of its speed; loads no torch."""

import ctypes
import sys
from contextlib import suppress

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGEST_KEPT = 1 << 30
_NEVER_TRIM = 2**31 - 1


def keep_freed_memory() -> None:
    """Make glibc reuse freed memory instead of returning it at once. Other systems are left as they are.

    glibc asks the system for each piece beyond 32 MiB anew, and the system fills it with zeros, page by page,
    while the network waits: a picture of a megapixel took 2.4 times as long (benchmarks/NOTES.md). Freed
    memory is still returned where memory is counted (`used_memory`).
    """
    _call("mallopt", _M_MMAP_THRESHOLD, _LARGEST_KEPT)
    _call("mallopt", _M_TRIM_THRESHOLD, _NEVER_TRIM)


def share_freed_memory() -> None:
    """Make all threads use one arena of glibc's.

    By default each thread has its own, and Gradio's threads come and go: after 160 clicks of 20 visitors the
    process took 770 MiB instead of 590, and more with every click.
    """
    _call("mallopt", _M_ARENA_MAX, 1)


def give_back_freed_memory() -> None:
    """Return freed memory to the system."""
    _call("malloc_trim", 0)


def _call(name: str, *numbers: int) -> None:
    # musl has no such calls; an old glibc refuses the sizes.
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            getattr(ctypes.CDLL(None), name)(*numbers)
