"""Exact softmax attention inside overlapping windows: the near part of Eq. 1, in linear time.

The picture is cut into windows of `window` x `window` queries. Each meets the keys of its window and of
`halo` positions around it, as far as the picture goes:

    y_i = sum_j exp(q_i.k_j) v_j / sum_j exp(q_i.k_j)        j in the window of i, grown by the halo

Windows as in Swin (Liu et al. 2021), overlapping as in HAT (Chen et al. 2023), with q and k of Eq. 3: no
shifts, no heads, no position bias. What a position sees does not depend on the size of the picture, so a
stage of it is a local one, that starts at a multiple of the window.

Letters:  B batch   D embedding channels   E value channels   H, W height and width   N = H W positions
         h, w those of a part   X channels of any kind   P windows   L positions of a window   M of its keys
"""

import itertools
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad

# Windows whose keys and values are gathered at a time, and how many of them along a row.
WINDOWS, COLUMNS = 64, 16
# Windows whose scores are computed at a time for each thread of a processor: they stay in its cache.
SCORED = 8
# A score beside which all others are infinite: exp(score - other) is 0 in float32.
NEVER = -1e5


class WindowAttend(nn.Module):
    """Attend from each position to those in its window and around it. No parameters.

    Args:
        window: side of a window of queries.
        halo: positions around a window whose keys its queries meet, too.

    Raises:
        ValueError: if `window` is below 1 or `halo` below 0.
    """

    def __init__(self, *, window: int = 8, halo: int = 4):
        super().__init__()
        if window < 1 or halo < 0:
            raise ValueError(f"window must be at least 1 and halo at least 0, got {window} and {halo}")
        self.window = window
        self.halo = halo

    def forward(
        self, q: Float[Tensor, "B D N"], k: Float[Tensor, "B D N"], v: Float[Tensor, "B E N"], *, width: int
    ) -> Float[Tensor, "B E N"]:
        """Attend from each position of pictures of `width` columns; in v's type."""
        with torch.autocast(q.device.type, enabled=False):
            dtype = torch.promote_types(q.dtype, torch.float32)
            queries, keys, values = (
                u.to(dtype).unflatten(-1, (-1, width)).permute(0, 2, 3, 1) for u in (q, k, v)
            )
            if torch.is_grad_enabled():
                # All is kept for the backward pass, so that parts would save no memory.
                down, along = queries.shape[1:3]
            else:
                columns = min(COLUMNS, -(-width // self.window))
                down = max(1, WINDOWS // (len(q) * columns)) * self.window
                along = columns * self.window
            rows = [
                torch.cat(
                    [
                        self._part(queries, keys, values, top, left, down, along)
                        for left in range(0, width, along)
                    ],
                    dim=2,
                )
                for top in range(0, queries.shape[1], down)
            ]
            return torch.cat(rows, dim=1).flatten(1, 2).mT.to(v.dtype)

    def _part(
        self,
        q: Float[Tensor, "B H W D"],
        k: Float[Tensor, "B H W D"],
        v: Float[Tensor, "B H W E"],
        top: int,
        left: int,
        down: int,
        along: int,
    ) -> Float[Tensor, "B h w E"]:
        """Attend from the positions of a rectangle of whole windows, as far as the picture goes."""
        window, halo = self.window, self.halo
        queries = q[:, top : top + down, left : left + along]
        height, width = queries.shape[1:3]
        # Positions that are missing around the picture, for whole windows of queries and of keys.
        below, right = -height % window, -width % window
        rows, before, after = _span(top, height + below, halo, q.shape[1])
        columns, *beside = _span(left, width + right, halo, q.shape[2])
        missing = (0, 0, *beside, before, after)
        side = window + 2 * halo
        keys, values = (pad(u[:, rows, columns], missing) for u in (k, v))
        queries = pad(queries, (0, 0, 0, right, 0, below))
        if any(missing):
            # One more channel hides the positions outside of the picture: cheaper than a mask on all scores.
            outside = pad(torch.zeros_like(k[:, rows, columns, :1]), missing, value=NEVER)
            keys = torch.cat([keys, outside], dim=-1)
            queries = torch.cat([queries, torch.ones_like(queries[..., :1])], dim=-1)
        y = _softmax_attention(
            _windows(queries, window, window), _windows(keys, side, window), _windows(values, side, window)
        ).unflatten(1, (window, window))
        grid = (len(q), (height + below) // window, (width + right) // window)
        return y.unflatten(0, grid).transpose(2, 3).flatten(3, 4).flatten(1, 2)[:, :height, :width]


def _softmax_attention(
    q: Float[Tensor, "P L D"], k: Float[Tensor, "P M D"], v: Float[Tensor, "P M E"]
) -> Float[Tensor, "P L E"]:
    """Attend within each window. A processor does so for some windows at a time."""
    some = SCORED * torch.get_num_threads() if q.device.type == "cpu" else len(q)
    if torch.is_grad_enabled():
        parts = zip(*(u.split(some) for u in (q, k, v)), strict=True)
        return torch.cat([(q @ k.mT).softmax(dim=-1) @ v for q, k, v in parts])
    # In buffers of their own: memory asked for anew is slower than the arithmetic.
    y = q.new_empty(*q.shape[:2], v.shape[2])
    scores, weights = q.new_empty(2, some, q.shape[1], k.shape[1])
    for start in range(0, len(q), some):
        here = slice(start, min(start + some, len(q)))
        buffers = [buffer[: here.stop - start] for buffer in (scores, weights)]
        torch.bmm(q[here], k[here].mT, out=buffers[0])
        torch.softmax(buffers[0], dim=-1, out=buffers[1])
        torch.bmm(buffers[1], v[here], out=y[here])
    return y


def _span(start: int, length: int, halo: int, size: int) -> tuple[slice, int, int]:
    """Return the keys along one side, and how many are missing before and after them."""
    first, last = start - halo, start + length + halo
    return slice(max(0, first), min(last, size)), max(0, -first), max(0, last - size)


def _windows(u: Float[Tensor, "B h w X"], side: int, step: int) -> Float[Tensor, "P M X"]:
    """Cut squares of `side`, a new one every `step` positions, row by row."""
    if torch.is_grad_enabled() and u.requires_grad:
        return _Windows.apply(u, side, step)
    return _cut(u, side, step)


def _cut(u: Float[Tensor, "B h w X"], side: int, step: int) -> Float[Tensor, "P M X"]:
    squares = u.unfold(1, side, step).unfold(2, side, step).permute(0, 1, 2, 4, 5, 3)
    return squares.reshape(-1, side * side, u.shape[-1])


class _Windows(torch.autograd.Function):
    """`_cut`, whose gradient is summed tile by tile: five times as fast as the one of `unfold`."""

    @staticmethod
    def forward(u: Float[Tensor, "B h w X"], side: int, step: int) -> Float[Tensor, "P M X"]:
        return _cut(u, side, step)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int, int], output: Tensor) -> None:
        u, ctx.side, ctx.step = inputs
        ctx.shape = u.shape

    @staticmethod
    def backward(ctx: Any, *upstream: Float[Tensor, "P M X"]) -> tuple[Float[Tensor, "B h w X"], None, None]:
        (grad,) = upstream
        side, step = ctx.side, ctx.step
        batch, height, width, channels = ctx.shape
        down, along = ((length - side) // step + 1 for length in (height, width))
        squares = grad.reshape(batch, down, along, side, side, channels)
        # A window is made of tiles of `step`; those in one place of all windows do not overlap.
        tiles = -(-side // step)
        total = grad.new_zeros(batch, down + tiles - 1, step, along + tiles - 1, step, channels)
        for row, column in itertools.product(range(tiles), repeat=2):
            tile = squares[..., row * step : (row + 1) * step, column * step : (column + 1) * step, :]
            y, x = tile.shape[3:5]
            total[:, row : row + down, :y, column : column + along, :x] += tile.transpose(2, 3)
        return total.flatten(3, 4).flatten(1, 2)[:, :height, :width], None, None
