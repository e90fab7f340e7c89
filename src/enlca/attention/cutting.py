"""Overlapping windows of a feature map: padded at its edges, cut out as views, taken some at a time.

Letters:  B batch   D embedding channels   E value channels   H, W height and width   h, w those of a part
         y, x windows down and along   s, S sides of squares   L = s s   X channels of any kind
"""

import itertools
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from enlca.attention.workspace import Buffers

# Scores that each thread of a processor computes at a time: with keys and values they stay in its cache.
SCORES = 1 << 19
# A score beside which all others are infinite: exp(score - other) is 0 in float32.
NEVER = -1e5

# Which of the windows that pictures are cut into: of one picture or several, in one row or several.
Index = tuple[slice, slice, slice]


def padded_part(
    q: Float[Tensor, "B H W D"],
    k: Float[Tensor, "B H W D"],
    v: Float[Tensor, "B H W E"],
    part: tuple[slice, slice],
    window: int,
    halo: int,
) -> tuple[Float[Tensor, "B h w D1"], Float[Tensor, "B h2 w2 D1"], Float[Tensor, "B h2 w2 E"]]:
    """Return the queries of a rectangle up to whole windows, and the keys and values that they meet.

    One more channel of q and k hides the positions outside of the picture: cheaper than a mask on all scores.
    """
    queries = q[:, *part]
    below, right = -queries.shape[1] % window, -queries.shape[2] % window
    rows, *above_below = _span(part[0].start, queries.shape[1] + below, halo, q.shape[1])
    columns, *beside = _span(part[1].start, queries.shape[2] + right, halo, q.shape[2])
    missing = (0, 0, *beside, *above_below)
    outside = pad(torch.zeros_like(k[:, rows, columns, :1]), missing, value=NEVER)
    return (
        pad(pad(queries, (0, 1), value=1.0), (0, 0, 0, right, 0, below)),
        torch.cat([pad(k[:, rows, columns], missing), outside], dim=-1),
        pad(v[:, rows, columns], missing),
    )


def _span(start: int, length: int, halo: int, size: int) -> tuple[slice, int, int]:
    """Return the keys along one side, and how many are missing before and after them."""
    first, last = start - halo, start + length + halo
    return slice(max(0, first), min(last, size)), max(0, -first), max(0, last - size)


def cut_windows(
    q: Float[Tensor, "B h w D"],
    k: Float[Tensor, "B h2 w2 D"],
    v: Float[Tensor, "B h2 w2 E"],
    window: int,
    halo: int,
) -> tuple[Float[Tensor, "B y x s s D"], Float[Tensor, "B y x S S D"], Float[Tensor, "B y x S S E"]]:
    """View what is padded as windows of queries, and of the keys and values that each of them meets."""
    side = window + 2 * halo
    return squares(q, window, window), squares(k, side, window), squares(v, side, window)


def squares(u: Float[Tensor, "B h w X"], side: int, step: int) -> Float[Tensor, "B y x s s X"]:
    """View the squares of `side` that begin at every `step` positions."""
    return u.unfold(1, side, step).unfold(2, side, step).permute(0, 1, 2, 4, 5, 3)


def runs(windows: Float[Tensor, "B y x s s X"], n_keys: int, apart: int = 1) -> Iterable[Index]:
    """Return which windows are computed at a time: rows that are `apart`, a few windows on a processor."""
    if windows.device.type != "cpu":
        return rows_apart(windows, apart)
    some = max(1, SCORES * torch.get_num_threads() // (windows.shape[3] ** 2 * n_keys))
    batch, rows, columns = windows.shape[:3]
    # One row of some pictures, or some rows of the only picture where they may be computed together.
    together = max(1, some // columns)
    down = together if apart == 1 and batch == 1 else 1
    return itertools.product(_steps(batch, together), _steps(rows, down), _steps(columns, some))


def _steps(length: int, step: int) -> list[slice]:
    return [slice(first, first + step) for first in range(0, length, step)]


def rows_apart(windows: Float[Tensor, "B y x s s X"], apart: int) -> Iterable[Index]:
    """Return windows of all pictures, in rows that are `apart`."""
    return [(slice(None), slice(first, None, apart), slice(0, windows.shape[2])) for first in range(apart)]


def taken(windows: Float[Tensor, "*P s s X"], buffers: Buffers, name: str) -> Float[Tensor, "P L X"]:
    """Copy windows beside each other into a buffer."""
    copied = buffers(name, *windows.shape).copy_(windows)
    return copied.flatten(-3, -2).flatten(0, -3)
