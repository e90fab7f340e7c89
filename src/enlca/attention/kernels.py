"""ENLA on a GPU: the functions of `blocks.py` by the Triton kernels of `tiles.py` and `tile_gradients.py`.

Sums over positions are taken in at most `PARTS` parts, which are added up afterwards in a fixed order, so
that results do not depend on timing. float64 is left to `blocks.py`. On a CPU this runs under Triton's
interpreter, if the environment had TRITON_INTERPRET=1 when it was imported. It has not been timed on a GPU:
see benchmarks/NOTES.md.

Letters:  B batch   D embedding channels   M random features   N positions   E value channels
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from enlca.attention import blocks, tile_gradients, tiles

# Positions and features in a tile, and parts that the positions are cut into at most.
TILE_N, TILE_M, PARTS = 64, 32, 64
# With more value channels than this, half the positions; and nothing is loaded ahead (`num_stages`): a tile
# has to fit the memory of a multiprocessor, which is 99 KiB on small cards.
MANY_CHANNELS = 64


def summarise_forward(
    k: Float[Tensor, "B D N"], v: Float[Tensor, "B E N"], projection: Float[Tensor, "M D"], floor: float
) -> tuple[Float[Tensor, "B M E"], Float[Tensor, "B M"]]:
    """See `blocks.summarise_forward`."""
    (b, d, n), e, m = k.shape, v.shape[1], len(projection)
    if k.dtype == torch.float64 or n == 0:
        return blocks.summarise_forward(k, v, projection, floor)
    parts, span = _parts(n)
    shift, total, weighted = (k.new_empty(b, parts, m, size, dtype=torch.float32) for size in (1, 1, e))
    # As in `blocks.py`: sums of the largest finite values must not overflow.
    share = 2.0 ** -(1 + n.bit_length())
    _launch(
        tiles.summarise_parts, (_cdiv(m, TILE_M), parts, b), k, v, projection.float().contiguous(),
        shift, total, weighted, *k.stride(), *v.stride(), n, span, share, _log(floor),
        sizes=(d, m, e), floor=floor,
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
    y = q.new_empty(b, e, n)
    share = 2.0 ** -(1 + m.bit_length())
    _launch(
        tiles.read, (_cdiv(n, _tile_n(e)), b), q, projection.float().contiguous(),
        mean.contiguous(), log_total.contiguous(), y, *q.stride(), *y.stride(), n, share, _log(floor),
        sizes=(d, m, e), floor=floor,
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
    g_k, g_v = torch.empty_like(k), torch.empty_like(v)
    rest = (g_log_total - (g_mean * mean).sum(dim=-1)).contiguous()
    _launch(
        tile_gradients.summarise_gradient, (_cdiv(n, _tile_n(e)), b), k, v, projection.float().contiguous(),
        g_mean.contiguous(), rest, log_total.contiguous(), g_k, g_v,
        *k.stride(), *v.stride(), *g_k.stride(), *g_v.stride(), n, _log(floor),
        sizes=(d, len(projection), e), floor=floor,
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
    g_q, f = torch.empty_like(q), projection.float().contiguous()
    mean, log_total = mean.contiguous(), log_total.contiguous()
    log_sum, average = q.new_empty(b, 2, n, dtype=torch.float32), q.new_empty(b, n, dtype=torch.float32)
    _launch(
        tile_gradients.read_gradient, (_cdiv(n, _tile_n(e)), b), g_y, q, f, mean, log_total,
        g_q, log_sum, average, *g_y.stride(), *q.stride(), *g_q.stride(), n, _log(floor),
        sizes=(d, m, e), floor=floor,
    )  # fmt: skip
    parts, span = _parts(n)
    g_mean = q.new_empty(b, parts, m, e, dtype=torch.float32)
    g_log_total = q.new_empty(b, parts, m, dtype=torch.float32)
    _launch(
        tile_gradients.read_parts, (_cdiv(m, TILE_M), parts, b), g_y, q, f, mean, log_total, log_sum, average,
        g_mean, g_log_total, *g_y.stride(), *q.stride(), n, span, _log(floor), sizes=(d, m, e), floor=floor,
    )  # fmt: skip
    return g_q, g_mean.sum(dim=1), g_log_total.sum(dim=1)


def _parts(n: int) -> tuple[int, int]:
    """How many parts the positions are cut into, none of them empty, and positions in each."""
    span = TILE_N * _cdiv(n, TILE_N * PARTS)
    return _cdiv(n, span), span


def _cdiv(a: int, b: int) -> int:
    return -(-a // b)


def _tile_n(e: int) -> int:
    return TILE_N // 2 if e > MANY_CHANNELS else TILE_N


def _log(floor: float) -> float:
    return math.log(floor) if floor > 0 else 0.0


def _side(size: int) -> int:
    """Tensor cores multiply tiles of powers of two, from 16."""
    return max(16, 1 << (size - 1).bit_length())


def _launch(
    kernel: Any, grid: tuple[int, ...], *arguments: Any, sizes: tuple[int, int, int], floor: float
) -> None:
    first = arguments[0]
    if first.device.type != "cuda" and not tiles.INTERPRETED:
        raise ValueError(f'kernel "triton" needs a CUDA device, not {first.device}; "torch" runs everywhere')
    d, m, e = sizes
    with torch.cuda.device_of(first):
        kernel[grid](
            *arguments, D=d, M=m, E=e, HAS_FLOOR=floor > 0,
            TD=_side(d), TM=TILE_M, TE=_side(e), TN=_tile_n(e), num_stages=1,
        )  # fmt: skip
