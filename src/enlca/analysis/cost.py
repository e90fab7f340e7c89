"""The cost of a module: operations by formula (Table 4) and counted, memory, and time.

A multiplication and an addition are two operations (FLOPs). As in Table 4 only matrix products count: neither
exponentials nor sums, sorting or interpolation. The formulas show why ENLA is cheap; `count` traces a forward
pass of the real code without computing it, so that formulas and code cannot diverge.

Letters:  N positions   c channels of q and k   c_out channels of values   m random features
"""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from enlca.attention.exact import ExactAttend
from enlca.attention.linear import LinearAttend
from enlca.attention.lsh import LSHAttend, bucket_count
from enlca.network.interface import PeakMemory

Shape = tuple[int, ...]


def linear_flops(n: int, c: int, c_out: int, *, n_features: int) -> int:
    """Return the operations of ENLA: features of q and k, 2 m N c each; two products, 2 m N c_out each."""
    return 2 * (2 * n_features * n * c + 2 * n_features * n * c_out)


def sharp_flops(n: int, c: int, c_out: int, *, n_features: int) -> int:
    """Return the operations of ENLA with sharp features: 6 N c^2 more than `linear_flops`, and a constant.

    The products of coordinates of q and of k, and the map of k; then ten products of c x c matrices, F times
    one of them, and the maps of two means. Two eigenvalue decompositions of c x c are not counted.
    """
    fitting = 6 * n * c**2 + 20 * c**3 + 2 * n_features * c**2 + 4 * c**2
    return linear_flops(n, c, c_out, n_features=n_features) + fitting


def exact_flops(n: int, c: int, c_out: int) -> int:
    """Return the operations of NLA: Q^T K and its product with V.

    `ExactAttend` runs both with as many channels as the wider one has: the fused kernel wants that.
    """
    return 2 * n**2 * (c + c_out)


def window_flops(height: int, width: int, c: int, c_out: int, *, window: int = 8, halo: int = 4) -> int:
    """Return the operations of attention inside windows: each query and all keys that its window meets."""
    positions = (height + -height % window) * (width + -width % window)
    return 2 * positions * (window + 2 * halo) ** 2 * (c + c_out)


def conv_flops(n: int, c: int, c_out: int, *, kernel_size: int = 3) -> int:
    """Return the operations of a convolution that keeps the size."""
    return 2 * kernel_size**2 * n * c * c_out


def lsh_flops(n: int, c: int, c_out: int, *, n_hashes: int = 4, chunk: int = 144) -> int:
    """Return the operations of our NLSA: per round the hash, then chunks (the last padded) by three chunks.

    Without sorting, and without the embeddings (NLSA has one, the others two).
    """
    chunk = min(chunk, n)
    n_chunks = -(-n // chunk)
    hashing = 2 * n * c * (bucket_count(n, chunk) // 2)
    attending = 2 * (n_chunks * chunk) * (min(3, n_chunks) * chunk) * (c + c_out)
    return n_hashes * (hashing + attending)


def lsh_flops_as_printed(n: int, c: int, c_out: int) -> int:
    """Return the operations that give Table 4's 5.08 GFLOPs for NLSA-r4.

    NOTE(paper): neither paper derives the number. Four rounds, no padding of the last chunk, and a hash that
    multiplies by all of 128 directions give it to the printed digit. A rotation gives two directions per
    axis, and 100 x 100 positions have 70 buckets, hence `lsh_flops` is less.
    """
    return 4 * 2 * n * (128 * c + 3 * 144 * (c + c_out))


class Cost(NamedTuple):
    """The cost of one forward pass in evaluation mode.

    Attributes:
        parameters: of the module.
        flops: see above.
        activation_bytes: peak memory of tensors, with input and output, without weights and without what a
            library allocates inside one operation.
    """

    parameters: int
    flops: int
    activation_bytes: int


def count(build: Callable[[], nn.Module], *shapes: Shape) -> Cost:
    """Count the cost of the module that `build` returns on float32 inputs of these shapes."""
    # Not the meta device, where autocast raises. Fake tensors have no memory either, and are on "cpu".
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        module = build().eval()
        flops = FlopCounterMode(display=False, custom_mapping=_FUSED)
        with flops, PeakMemory() as memory:
            inputs = [torch.zeros(shape) for shape in shapes]
            module(*inputs)
        parameters = sum(parameter.numel() for parameter in module.parameters())
    return Cost(parameters, flops.get_total_flops(), memory.peak)


@torch.inference_mode()
def seconds(build: Callable[[], nn.Module], *shapes: Shape, runs: int = 3) -> float:
    """Measure a forward pass on this CPU, in seconds: the median of `runs`, after one to warm up."""
    module = build().eval()
    inputs = [torch.randn(shape) for shape in shapes]
    times = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        module(*inputs)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


class Row(NamedTuple):
    """A row of Table 4: a function that makes the module, its inputs' shapes, its operations by formula."""

    build: Callable[[], nn.Module]
    shapes: Sequence[Shape]
    flops: int


def table4(height: int = 100, width: int = 100, channels: int = 64) -> dict[str, Row]:
    """Return the rows of Table 4 by the paper's names, without the baseline, which has no attention."""
    n, c = height * width, channels
    qkv = [(1, c, n)] * 3
    rows = {
        "NLA": Row(ExactAttend, qkv, exact_flops(n, c, c)),
        "Conv": Row(lambda: nn.Conv2d(c, c, 3, padding=1), [(1, c, height, width)], conv_flops(n, c, c)),
        "NLSA-r4": Row(lambda: LSHAttend(n_hashes=4, chunk=144), qkv, lsh_flops(n, c, c)),
    }
    for m in (256, 128, 64, 32, 16, 8, 4, 2):
        build = _linear(c, m)
        rows[f"ENLCA-m{m}"] = Row(build, qkv, linear_flops(n, c, c, n_features=m))
    return rows


def _linear(dim: int, n_features: int) -> Callable[[], LinearAttend]:
    return lambda: LinearAttend(dim, n_features=n_features)


def _fused_attention(q: Shape, k: Shape, v: Shape, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(q, k, v)


# Fused attention on the CPU, which PyTorch's counter lacks.
_FUSED = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _fused_attention}
