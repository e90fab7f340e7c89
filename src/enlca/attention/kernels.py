"""ENLA on a GPU: the functions of `blocks.py` by the Triton kernels of `tiles.py` and `tile_gradients.py`.

Sums over positions are taken in at most `PARTS` parts, which are added up afterwards in a fixed order, so
that results do not depend on timing. float64 is left to `blocks.py`. On a CPU this runs under Triton's
interpreter, if the environment had TRITON_INTERPRET=1 when it was imported. It has not been timed on a GPU:
see benchmarks/NOTES.md.

Letters:  B batch   D embedding channels   M random features   N positions   E value channels
"""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from enlca.attention import blocks, tile_gradients, tiles
from enlca.attention.room import empty_output

# Parts that the positions are cut into at most: enough for all multiprocessors of a large card.
PARTS = 128


class Tile(NamedTuple):
    """Features and positions in a tile, and the warps that work on it."""

    m: int
    n: int
    warps: int


# As large as registers hold, and the 99 KiB of memory that multiprocessors of small cards have, so nothing is
# loaded ahead either (`num_stages`): found with Triton's compiler, not by timing.
FEW_CHANNELS = 64
FEW = Tile(64, 32, 4)
MANY = Tile(32, 32, 8)
MANY_IN_GRADIENTS = Tile(32, 16, 4)


def summarise_forward(
    k: Float[Tensor, "B D N"], v: Float[Tensor, "B E N"], projection: Float[Tensor, "M D"], floor: float
) -> tuple[Float[Tensor, "B M E"], Float[Tensor, "B M"]]:
    """See `blocks.summarise_forward`."""
    (b, d, n), e, m = k.shape, v.shape[1], len(projection)
    if k.dtype == torch.float64 or n == 0:
        return blocks.summarise_forward(k, v, projection, floor)
    tile = tile_of(e)
    parts, span = _parts(n, tile)
    shift, total, weighted = (k.new_empty(b, parts, m, size, dtype=torch.float32) for size in (1, 1, e))
    # As in `blocks.py`: sums of the largest finite values must not overflow.
    share = 2.0 ** -(1 + n.bit_length())
    _launch(
        tiles.summarise_parts, tile, (_cdiv(m, tile.m), parts, b), k, v, projection.float().contiguous(),
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
    """See `blocks.read_forward`."""
    (b, d, n), (m, e) = q.shape, mean.shape[1:]
    if mean.dtype == torch.float64 or n == 0:
        return blocks.read_forward(q, mean, log_total, projection, floor)
    y, tile = empty_output(q, mean), tile_of(e)
    share = 2.0 ** -(1 + m.bit_length())
    _launch(
        tiles.read, tile, (_cdiv(n, tile.n), b), q, projection.float().contiguous(),
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
    """See `blocks.summarise_backward`."""
    (b, d, n), e = k.shape, v.shape[1]
    if mean.dtype == torch.float64 or n == 0:
        return blocks.summarise_backward(g_mean, g_log_total, k, v, projection, mean, log_total, floor)
    g_k, g_v, tile = torch.empty_like(k), torch.empty_like(v), tile_of(e, gradients=True)
    rest = (g_log_total - (g_mean * mean).sum(dim=-1)).contiguous()
    _launch(
        tile_gradients.summarise_gradient, tile, (_cdiv(n, tile.n), b), k, v, projection.float().contiguous(),
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
    """See `blocks.read_backward`."""
    (b, d, n), (m, e) = q.shape, mean.shape[1:]
    if mean.dtype == torch.float64 or n == 0:
        return blocks.read_backward(g_y, q, mean, log_total, projection, floor)
    g_q, f, tile = torch.empty_like(q), projection.float().contiguous(), tile_of(e, gradients=True)
    mean, log_total = mean.contiguous(), log_total.contiguous()
    log_sum, average = q.new_empty(b, 2, n, dtype=torch.float32), q.new_empty(b, n, dtype=torch.float32)
    _launch(
        tile_gradients.read_gradient, tile, (_cdiv(n, tile.n), b), g_y, q, f, mean, log_total,
        g_q, log_sum, average, *g_y.stride(), *q.stride(), *g_q.stride(), n, _log(floor),
        sizes=(d, m, e), floor=floor, types=(q.dtype, g_y.dtype),
    )  # fmt: skip
    parts, span = _parts(n, tile)
    g_mean = q.new_empty(b, parts, m, e, dtype=torch.float32)
    g_log_total = q.new_empty(b, parts, m, dtype=torch.float32)
    _launch(
        tile_gradients.read_parts, tile, (_cdiv(m, tile.m), parts, b), g_y, q, f, mean, log_total, log_sum,
        average, g_mean, g_log_total, *g_y.stride(), *q.stride(), n, span, _log(floor),
        sizes=(d, m, e), floor=floor, types=(q.dtype, g_y.dtype),
    )  # fmt: skip
    return g_q, g_mean.sum(dim=1), g_log_total.sum(dim=1)


def tile_of(e: int, *, gradients: bool = False) -> Tile:
    """For so many value channels."""
    if e <= FEW_CHANNELS:
        return FEW
    return MANY_IN_GRADIENTS if gradients else MANY


def constants(
    tile: Tile, sizes: tuple[int, int, int], types: tuple[torch.dtype, torch.dtype], *, floor: float
) -> dict[str, Any]:
    """What a kernel is compiled for: sizes D, M, E, and how exact products with q or k, and v have to be."""
    d, m, e = sizes
    u_precision, v_precision = ("tf32" if dtype.itemsize == 2 else "tf32x3" for dtype in types)
    return {
        "D": d, "M": m, "E": e, "HAS_FLOOR": floor > 0,
        "TD": _side(d), "TM": tile.m, "TE": _side(e), "TN": tile.n,
        "U_PRECISION": u_precision, "V_PRECISION": v_precision,
    }  # fmt: skip


def _parts(n: int, tile: Tile) -> tuple[int, int]:
    """How many parts the positions are cut into, none of them empty, and positions in each."""
    span = tile.n * _cdiv(n, tile.n * PARTS)
    return _cdiv(n, span), span


def _cdiv(a: int, b: int) -> int:
    return -(-a // b)


def _log(floor: float) -> float:
    return math.log(floor) if floor > 0 else 0.0


def _side(size: int) -> int:
    """Tensor cores multiply tiles of powers of two, from 16."""
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
    if first.device.type != "cuda" and not tiles.INTERPRETED:
        raise ValueError(f'kernel "triton" needs a CUDA device, not {first.device}; "torch" runs everywhere')
    with torch.cuda.device_of(first):
        fixed = constants(tile, sizes, types, floor=floor)
        kernel[grid](*arguments, **fixed, num_warps=tile.warps, num_stages=1)
