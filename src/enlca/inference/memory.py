"""How much memory there is, on the processor and on a GPU, and how much this process takes of it."""

import os
import re
import sys
from contextlib import suppress
from pathlib import Path

import torch

from enlca.errors import MemoryLimitError
from enlca.inference.allocator import give_back_freed_memory

# Of what is free, when nobody says how much may be used: others want some, too.
SHARE = 0.5
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_UNITS |= {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def size_in_bytes(text: str) -> int:
    """ "2GiB", "500 MB" or a number of bytes. Raises MemoryLimitError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?", text.strip().lower())
    if match is None or match[2] not in _UNITS or not float(match[1]):
        raise MemoryLimitError(f"{text!r} is no size; write one like 2GiB, 800MB or 1500000000")
    return int(float(match[1]) * _UNITS[match[2]])


def as_text(size: int) -> str:
    """Bytes in words: 1.5 GiB, 830 MiB."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{max(1, round(size / 2**20))} MiB"


def free_memory(device: torch.device) -> int:
    """Bytes that could be had on a device now; on the processor within the limit of a container, too."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = [_meminfo_available()]
    with suppress(OSError, ValueError):
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        free.append(limit - int(Path("/sys/fs/cgroup/memory.current").read_text()))
    return max(0, min(free))


def _meminfo_available() -> int:
    with suppress(OSError, TypeError):
        text = Path("/proc/meminfo").read_text()
        return 1024 * int(re.search(r"MemAvailable:\s+(\d+)", text)[1])  # pyright: ignore[reportOptionalSubscript]
    with suppress(ValueError, OSError, AttributeError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return 4 << 30


def used_memory(device: torch.device) -> int:
    """Bytes that this process holds on a device; what it has freed is given back first, where that can be."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return torch.cuda.memory_reserved(device)
    give_back_freed_memory()
    with suppress(OSError, TypeError):
        text = Path("/proc/self/status").read_text()
        return 1024 * int(re.search(r"VmRSS:\s+(\d+)", text)[1])  # pyright: ignore[reportOptionalSubscript]
    with suppress(ImportError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak
    return 400 << 20


def waiting_share(limit: int) -> int:
    """Bytes, of those that may be used, that a waiting picture may take; one beyond waits on the disk."""
    return limit // 32


def out_of_memory(error: Exception) -> bool:
    """PyTorch has an exception of its own for a GPU, but only a text for a processor; so have engines."""
    own = (MemoryError, torch.OutOfMemoryError)
    texts = ("can't allocate memory", "Failed to allocate memory", "bad_alloc")
    return isinstance(error, own) or any(text in str(error) for text in texts)
