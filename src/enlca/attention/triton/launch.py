"""ENLA on a GPU: the four functions of `chunked.py` by the Triton kernels of `kernels.py`.

Sums over positions are taken in at most `PARTS` parts, which are added up afterwards in a fixed order, so
that results do not depend on timing. float64 is computed by `chunked.py`. On a CPU the kernels run under
Triton's interpreter if TRITON_INTERPRET=1 was set when Triton was imported. They have not been timed on a
GPU: see benchmarks/NOTES.md.

Letters:  B batch   D embedding channels   M random features   N positions   E value channels
"""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from enlca.attention import chunked
from enlca.attention.triton import kernels
from enlca.attention.workspace import empty_output

# Parts of the positions, at most: enough for all multiprocessors of a large card.
PARTS = 128


class Tile(NamedTuple):
    """Features and positions per tile, and the warps that compute it."""

    m: int
    n: int
    warps: int


# As large as registers and the 99 KiB of shared memory of small cards allow, hence no prefetch (`num_stages`
# is 1). Found with Triton's compiler, not by timing.
FEW_CHANNELS = 64
FEW = Tile(64, 32, 4)
MANY = Tile(32, 32, 8)
MANY_IN_GRADIENTS = Tile(32, 16, 4)


def summarise_forward(
    k: Float[Tensor, "B D N"], v: Float[Tensor, "B E N"], projection: Float[Tensor, "M D"], floor: float
) -> tuple[Float[Tensor, "B M E"], Float[Tensor, "B M"]]:
    """See `chunked.summarise_forward`."""
    (b, d, n), e, m = k.shape, v.shape[1], len(projection)
    if k.dtype == torch.float64 or n == 0:
        return chunked.summarise_forward(k, v, projection, floor)
    tile = tile_of(e)
    parts, span = _parts(n, tile)
    shift, total, weighted = (k.new_empty(b, parts, m, size, dtype=torch.float32) for size in (1, 1, e))
    # Sums of the largest finite values must not overflow.
    share = 2.0 ** -(1 + n.bit_length())
    _launch(
        kernels.summarise_parts, tile, (_cdiv(m, tile.m), parts, b), k, v, projection.float().contiguous(),
        shift, total, weighted, *k.stride(), *v.stride(), n, span, share, _log(floor),
        sizes=(d, m, e), floor=floor, types=(k.dtype, v.dtype),
    )  # fmt: skip
    highest = shift.amax(dim=1, keepdim=True)
    fade = (shift - highest).exp_()
    total = (fade * total).sum(dim=1)
    largest = torch.finfo(torch.float32).max * (1 - 2**-20)
    mean = ((fade * weighted).sum(dim=1) / total).clamp_(-largest, largest)
    return mean, (total.div_(share).log_() + highest.squeeze(1)).squeeze(-1)


def read_forward(
    q: Float[Tensor, "B D N"],
    mean: Float[Tensor, "B M E"],
    log_total: Float[Tensor, "B M"],
    projection: Float[Tensor, "M D"],
    floor: float,
) -> Float[Tensor, "B E N"]:
    """See `chunked.read_forward`."""
    (b, d, n), (m, e) = q.shape, mean.shape[1:]
    if mean.dtype == torch.float64 or n == 0:
        return chunked.read_forward(q, mean, log_total, projection, floor)
    y, tile = empty_output(q, mean), tile_of(e)
    share = 2.0 ** -(1 + m.bit_length())
    _launch(
        kernels.read, tile, (_cdiv(n, tile.n), b), q, projection.float().contiguous(),
        mean.contiguous(), log_total.contiguous(), y, *q.stride(), *y.stride(), n, share, _log(floor),
        sizes=(d, m, e), floor=floor, types=(q.dtype, y.dtype),
    )  # fmt: skip
    return y


def summarise_backward(
    g_mean: Float[Tensor, "B M E"],
    g_log_total: Float[Tensor, "B M"],
    k: Float[Tensor, "B D N"],
    v: Float[Tensor, "B E N"],
    projection: Float[Tensor, "M D"],
    mean: Float[Tensor, "B M E"],
    log_total: Float[Tensor, "B M"],
    floor: float,
) -> tuple[Float[Tensor, "B D N"], Float[Tensor, "B E N"]]:
    """See `chunked.summarise_backward`."""
    (b, d, n), e = k.shape, v.shape[1]
    if mean.dtype == torch.float64 or n == 0:
        return chunked.summarise_backward(g_mean, g_log_total, k, v, projection, mean, log_total, floor)
    g_k, g_v, tile = torch.empty_like(k), torch.empty_like(v), tile_of(e, gradients=True)
    rest = (g_log_total - (g_mean * mean).sum(dim=-1)).contiguous()
    _launch(
        kernels.summarise_gradient, tile, (_cdiv(n, tile.n), b), k, v, projection.float().contiguous(),
        g_mean.contiguous(), rest, log_total.contiguous(), g_k, g_v,
        *k.stride(), *v.stride(), *g_k.stride(), *g_v.stride(), n, _log(floor),
        sizes=(d, len(projection), e), floor=floor, types=(k.dtype, v.dtype),
    )  # fmt: skip
    return g_k, g_v


def read_backward(
    g_y: Float[Tensor, "B E N"],
    q: Float[Tensor, "B D N"],
    mean: Float[Tensor, "B M E"],
    log_total: Float[Tensor, "B M"],
    projection: Float[Tensor, "M D"],
    floor: float,
) -> tuple[Float[Tensor, "B D N"], Float[Tensor, "B M E"], Float[Tensor, "B M"]]:
    """See `chunked.read_backward`."""
    (b, d, n), (m, e) = q.shape, mean.shape[1:]
    if mean.dtype == torch.float64 or n == 0:
        return chunked.read_backward(g_y, q, mean, log_total, projection, floor)
    g_q, f, tile = torch.empty_like(q), projection.float().contiguous(), tile_of(e, gradients=True)
    mean, log_total = mean.contiguous(), log_total.contiguous()
    log_sum, average = q.new_empty(b, 2, n, dtype=torch.float32), q.new_empty(b, n, dtype=torch.float32)
    _launch(
        kernels.read_gradient, tile, (_cdiv(n, tile.n), b), g_y, q, f, mean, log_total,
        g_q, log_sum, average, *g_y.stride(), *q.stride(), *g_q.stride(), n, _log(floor),
        sizes=(d, m, e), floor=floor, types=(q.dtype, g_y.dtype),
    )  # fmt: skip
    parts, span = _parts(n, tile)
    g_mean = q.new_empty(b, parts, m, e, dtype=torch.float32)
    g_log_total = q.new_empty(b, parts, m, dtype=torch.float32)
    _launch(
        kernels.read_parts, tile, (_cdiv(m, tile.m), parts, b), g_y, q, f, mean, log_total, log_sum,
        average, g_mean, g_log_total, *g_y.stride(), *q.stride(), n, span, _log(floor),
        sizes=(d, m, e), floor=floor, types=(q.dtype, g_y.dtype),
    )  # fmt: skip
    return g_q, g_mean.sum(dim=1), g_log_total.sum(dim=1)


def tile_of(e: int, *, gradients: bool = False) -> Tile:
    """Return the tile for `e` value channels."""
    if e <= FEW_CHANNELS:
        return FEW
    return MANY_IN_GRADIENTS if gradients else MANY


def constants(
    tile: Tile, sizes: tuple[int, int, int], types: tuple[torch.dtype, torch.dtype], *, floor: float
) -> dict[str, Any]:
    """Return a kernel's constants: sizes (D, M, E), and the precision of products with q or k, and with v."""
    d, m, e = sizes
    u_precision, v_precision = ("tf32" if dtype.itemsize == 2 else "tf32x3" for dtype in types)
    return {
        "D": d, "M": m, "E": e, "HAS_FLOOR": floor > 0,
        "TD": _side(d), "TM": tile.m, "TE": _side(e), "TN": tile.n,
        "U_PRECISION": u_precision, "V_PRECISION": v_precision,
    }  # fmt: skip


def _parts(n: int, tile: Tile) -> tuple[int, int]:
    """Return the number of parts of `n` positions, none of them empty, and the positions of each."""
    span = tile.n * _cdiv(n, tile.n * PARTS)
    return _cdiv(n, span), span


def _cdiv(a: int, b: int) -> int:
    return -(-a // b)


def _log(floor: float) -> float:
    return math.log(floor) if floor > 0 else 0.0


def _side(size: int) -> int:
    """Round up to a size that tensor cores multiply: a power of two, at least 16."""
    return max(16, 1 << (size - 1).bit_length())


def _launch(
    kernel: Any,
    tile: Tile,
    grid: tuple[int, ...],
    *arguments: Any,
    sizes: tuple[int, int, int],
    floor: float,
    types: tuple[torch.dtype, torch.dtype],
) -> None:
    first = arguments[0]
    if first.device.type != "cuda" and not kernels.INTERPRETED:
        raise ValueError(f'kernel "triton" needs a CUDA device, not {first.device}; "torch" runs everywhere')
    with torch.cuda.device_of(first):
        fixed = constants(tile, sizes, types, floor=floor)
        kernel[grid](*arguments, **fixed, num_warps=tile.warps, num_stages=1)
