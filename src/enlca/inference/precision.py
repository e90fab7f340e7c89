"""Which numbers a network computes in: float32, or half of it where the hardware is faster that way.

Only convolutions change (autocast). The picture, the sum with its enlargement, q and k and all sums of
attention stay in float32, and a result that is not finite is refused (`checked`).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from enlca.errors import EnlcaError
from enlca.inference.ensemble import Forward

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class PrecisionError(EnlcaError):
    """A precision that there is not, or not on this device."""


class NotFinite(EnlcaError):
    """A network whose numbers left the range of their type."""

    exit_code = 1


def choose_precision(name: str, device: torch.device) -> torch.dtype | None:
    """The type for convolutions; None is float32. "auto" is bfloat16 where that is faster: on GPUs that have
    it, and on processors with AMX.

    float16 is never chosen: networks with large features overflow in it.

    Raises:
        PrecisionError: an unknown name, or one that the device does not have.
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
        # AVX-512 BF16 alone is slower than float32 (benchmarks/NOTES.md), and emulation slower still.
        return getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    return False


@contextmanager
def computing(device: torch.device, half: torch.dtype | None) -> Iterator[None]:
    """Inference in the given type. Not around a `yield`: it would be the caller's, too."""
    with torch.inference_mode(), torch.autocast(device.type, dtype=half, enabled=half is not None):
        yield


def in_half(forward: Forward, half: torch.dtype | None) -> Forward:
    """`forward` under `computing`, with float32 out."""

    def run(lr: Tensor) -> Tensor:
        with computing(lr.device, half):
            return forward(lr).to(lr.dtype)

    return run


def all_finite(part: Tensor) -> bool:
    """Whether there is neither NaN nor infinity; in one walk, which makes no array of answers."""
    return bool(torch.stack(part.aminmax()).isfinite().all())


def checked(part: Tensor) -> Tensor:
    """The same. Raises NotFinite."""
    if not all_finite(part):
        raise NotFinite("the network's numbers are not finite; try --precision fp32, or check its weights")
    return part
