"""Devices: which one computes, in which precision, and how much memory it has.

Half precision concerns convolutions only (autocast). The picture, the skip connection, q and k and all sums
of attention stay in float32.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path

import psutil
import torch
from torch import Tensor

from enlca.errors import DeviceError, MemoryLimitError, PrecisionError, TooLarge
from enlca.runtime.allocator import give_back_freed_memory

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}

# What the system says of a container's memory (cgroup v2).
CGROUP = Path("/sys/fs/cgroup")
# Beyond the memory of any machine.
MOST_BYTES = 1 << 60
# Share of the free memory that is used by default; other programs need some, too.
SHARE = 0.5
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_UNITS |= {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def choose_device(name: str | torch.device) -> torch.device:
    """Return the device called `name`; "auto" takes a GPU if there is one, "cuda:1" the second one.

    Raises:
        DeviceError: unknown name, or a device that this machine does not have.
    """
    if isinstance(name, torch.device):
        # Others than GPUs are one of a kind.
        name = str(name) if name.type == "cuda" else name.type
    if name.startswith("cuda:") and name[5:].isdecimal():
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(name[5:]) < count:
            return torch.device(name)
        raise DeviceError(f"device {name} is not available: this machine has {count} GPUs")
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if present[kind]))
    if name not in present:
        raise DeviceError(f"unknown device {name!r}; choose from {', '.join(DEVICES)}")
    if not present[name]:
        here = ", ".join(kind for kind in present if present[kind])
        raise DeviceError(f"device {name} is not available on this machine; available: {here}")
    return torch.device(name)


def choose_precision(name: str, device: torch.device) -> torch.dtype | None:
    """Return the type for convolutions; None is float32.

    "auto" is bfloat16 where that is faster: on GPUs that have it, on processors with AMX, and on AMD's with
    AVX-512 BF16. It is never float16, in which networks with large features overflow.

    Raises:
        PrecisionError: unknown name.
    """
    if name == "auto":
        return torch.bfloat16 if _is_faster_in_bf16(device) else None
    if name not in PRECISIONS:
        raise PrecisionError(f"unknown precision {name!r}; choose from auto, {', '.join(PRECISIONS)}")
    return PRECISIONS[name]


def _is_faster_in_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        return getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)() or _is_amd_with_bf16()
    return False


def _is_amd_with_bf16() -> bool:
    """Whether AVX-512 BF16 multiplies twice as fast as float32: on AMD's processors it does, on Intel's not.

    Measured in benchmarks/NOTES.md. Bfloat16 without such instructions is emulated, which is slower still.
    """
    about = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(about.get("avx512_bf16")) and "AMD" in about.get("cpu_name", "")


@cache
def survive_forks() -> None:
    """Let processes forked from this one compute with one thread; does nothing where there is no fork.

    A fork does not copy OpenMP's threads, and a child that gives them work waits for it without end.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))


@contextmanager
def inference(device: torch.device, half: torch.dtype | None) -> Iterator[None]:
    """Compute without gradients, convolutions in `half`. Not around a `yield`: the caller would see it."""
    with torch.inference_mode(), torch.autocast(device.type, dtype=half, enabled=half is not None):
        yield


def in_half(forward: Callable[[Tensor], Tensor], half: torch.dtype | None) -> Callable[[Tensor], Tensor]:
    """Return `forward` run under `inference`; its output has the type of its input."""

    def run(lr: Tensor) -> Tensor:
        with inference(lr.device, half):
            return forward(lr).to(lr.dtype)

    return run


def size_in_bytes(text: str) -> int:
    """Parse "2GiB", "500 MB" or a number of bytes. Raises MemoryLimitError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?", text.strip().lower())
    size = 0 if match is None else float(match[1]) * _UNITS.get(match[2], 0)
    if not 1 <= size < MOST_BYTES:
        shown = text if len(text) <= 40 else f"{text[:37]}..."
        raise MemoryLimitError(f"{shown!r} is no size; write one like 2GiB, 800MB or 1500000000")
    return int(size)


def as_text(size: int) -> str:
    """Format a number of bytes: 1.5 GiB, 830 MiB."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{max(1, round(size / 2**20))} MiB"


def memory_budget(device: torch.device, max_memory: int | None = None) -> tuple[int, int]:
    """Return how many bytes this process uses on a device, and how many it may use.

    Args:
        device: where.
        max_memory: the limit in bytes; None: what is in use, and half of what is free.
    """
    used = used_memory(device)
    return used, used + int(SHARE * free_memory(device)) if max_memory is None else max_memory


def on_host(max_memory: int | None, device: str) -> int | None:
    """Return a limit for a device as one for the processor: None if the device is another."""
    return max_memory if choose_device(device).type == "cpu" else None


def require_memory(needed: int, how: str, *, max_memory: int | None, hint: str) -> None:
    """Refuse work on the processor that needs more bytes than are left; see `memory_budget`, `too_large`."""
    used, limit = memory_budget(torch.device("cpu"), max_memory)
    if used + needed > limit:
        raise too_large(how, needed, used, limit, hint)


def too_large(how: str, needed: int, used: int, limit: int, hint: str) -> TooLarge:
    """Return the error about work that needs more bytes than may be used; `hint`: what else may help."""
    needs = f"needs {as_text(used + needed)} {how} ({as_text(used)} of it are in use)"
    return TooLarge(f"{needs}, and {as_text(limit)} may be used; raise --max-memory, or {hint}")


def free_memory(device: torch.device) -> int:
    """Return how many bytes a device has available; on the processor within the limit of a container, too."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = [psutil.virtual_memory().available]
    with suppress(OSError, ValueError):
        limit = int((CGROUP / "memory.max").read_text())
        used = int((CGROUP / "memory.current").read_text())
        # What files left in the cache is counted, and is given up when memory is needed.
        cached = re.search(r"^inactive_file (\d+)$", (CGROUP / "memory.stat").read_text(), re.MULTILINE)
        free.append(limit - used + (int(cached[1]) if cached else 0))
    return max(0, min(free))


def used_memory(device: torch.device) -> int:
    """Return how many bytes this process holds on a device, after giving freed memory back."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return torch.cuda.memory_reserved(device)
    give_back_freed_memory()
    return psutil.Process().memory_info().rss


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out: PyTorch on a processor, and engines, have only a text."""
    own = (MemoryError, torch.OutOfMemoryError)
    # The last is oneDNN's, whose primitives allocate buffers of their own.
    texts = (
        "can't allocate memory",
        "Failed to allocate memory",
        "bad_alloc",
        "could not create a primitive",
    )
    return isinstance(error, own) or any(text in str(error) for text in texts)
