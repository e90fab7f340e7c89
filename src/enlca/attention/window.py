"""Exact softmax attention inside overlapping windows: the near part of Eq. 1, in linear time.

The picture is cut into windows of `window` x `window` queries. Each meets the keys of its window and of
`halo` positions around it, as far as the picture goes:

    y_i = sum_j exp(q_i.k_j) v_j / sum_j exp(q_i.k_j)        j in the window of i, grown by the halo

Windows as in Swin (Liu et al. 2021), overlapping as in HAT (Chen et al. 2023), with q and k of Eq. 3: no
shifts, no heads, no position bias. What a position sees does not depend on the size of the picture, so a
stage of it is a local one, that starts at a multiple of the window.

Letters:  B batch   D embedding channels   E value channels   H, W height and width   N = H W positions
         h, w those of a part   y, x windows down and along   s, S sides of squares   L = s s   M = S S
         X channels of any kind
"""

import itertools
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad

from enlca.attention.cutting import cut_windows, padded_part, runs, squares, taken
from enlca.attention.workspace import Buffers, softmax_

# Windows that are padded at a time without gradients, and how many of them along a row.
WINDOWS, COLUMNS = 64, 64


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
        """Attend from each position of pictures of `width` columns; in v's type.

        Computed in at least float32; but in training on bfloat16 values, what is multiplied with them or with
        their gradient is rounded to bfloat16. All sums are in float32.
        """
        with torch.autocast(q.device.type, enabled=False):
            dtype = torch.promote_types(q.dtype, torch.float32)
            training = torch.is_grad_enabled() and any(u.requires_grad for u in (q, k, v))
            low = v.dtype if training and v.dtype == torch.bfloat16 else dtype
            queries, keys, values = (
                u.to(to).unflatten(-1, (-1, width)).permute(0, 2, 3, 1)
                for u, to in ((q, dtype), (k, dtype), (v, low))
            )
            settings = self.window, self.halo
            if training:
                y, _ = _Attention.apply(queries, keys, values, *settings)
            else:
                y = attend_part_by_part(queries, keys, values, *settings)
            return y.flatten(1, 2).mT.to(v.dtype)


def attend_plainly(
    q: Float[Tensor, "B H W D"],
    k: Float[Tensor, "B H W D"],
    v: Float[Tensor, "B H W E"],
    window: int,
    halo: int,
) -> Float[Tensor, "B H W E"]:
    """The definition, with PyTorch's own gradients: keys and values are copied for each of their windows."""
    height, width = q.shape[1:3]
    padded = padded_part(q, k, v, (slice(0, height), slice(0, width)), window, halo)
    queries, keys, values = (u.flatten(3, 4) for u in cut_windows(*padded, window, halo))
    y = ((queries @ keys.mT).softmax(dim=-1).to(v.dtype) @ values).unflatten(3, (window, window))
    return y.transpose(2, 3).flatten(3, 4).flatten(1, 2)[:, :height, :width]


def attend_part_by_part(
    q: Float[Tensor, "B H W D"],
    k: Float[Tensor, "B H W D"],
    v: Float[Tensor, "B H W E"],
    window: int,
    halo: int,
    *,
    weights: Float[Tensor, "B y x L M"] | None = None,
) -> Float[Tensor, "B H W E"]:
    """Attend in one rectangle of whole windows after the other; `weights`, if given, receives the softmax.

    They are kept for gradients, so that parts would save no memory: then the rectangle is all of the picture.
    """
    batch, height, width = q.shape[:3]
    out = v.new_empty(batch, height + -height % window, width + -width % window, v.shape[-1])
    rows, columns = (length // window for length in out.shape[1:3])
    if weights is None:
        columns = min(COLUMNS, columns)
        rows = max(1, WINDOWS // (batch * columns))
    n_keys = (window + 2 * halo) ** 2
    exact, low = Buffers(q, q.dtype), Buffers(v, v.dtype)
    for top, left in itertools.product(
        range(0, out.shape[1] // window, rows), range(0, out.shape[2] // window, columns)
    ):
        part = slice(top * window, (top + rows) * window), slice(left * window, (left + columns) * window)
        queries, keys, values = cut_windows(*padded_part(q, k, v, part, window, halo), window, halo)
        y = squares(out[:, *part], window, window)
        for here in runs(y, n_keys):
            some_q, some_k = taken(queries[here], exact, "queries"), taken(keys[here], exact, "keys")
            scores = exact("scores", *some_q.shape[:2], n_keys)
            w = softmax_(torch.bmm(some_q, some_k.mT, out=scores))
            if weights is not None:
                kept = weights[:, top:, left:][here]
                w = kept.copy_(w.view(kept.shape)).flatten(0, -3)
            found = torch.bmm(
                w, taken(values[here], low, "values"), out=low("found", *w.shape[:2], v.shape[-1])
            )
            y[here] = found.view(y[here].shape)
    return out[:, :height, :width]


class _Attention(torch.autograd.Function):
    """`attend_plainly` for training: gradients come window by window from the weights, which are kept."""

    @staticmethod
    def forward(
        q: Float[Tensor, "B H W D"],
        k: Float[Tensor, "B H W D"],
        v: Float[Tensor, "B H W E"],
        window: int,
        halo: int,
    ) -> tuple[Float[Tensor, "B H W E"], Float[Tensor, "B y x L M"]]:
        down, along = (-(-length // window) for length in q.shape[1:3])
        # Those of one row of windows beside each other, as they are computed.
        weights = v.new_empty(down, len(q), along, window**2, (window + 2 * halo) ** 2).transpose(0, 1)
        return attend_part_by_part(q, k, v, window, halo, weights=weights), weights

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        *qkv, ctx.window, ctx.halo = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*qkv, output[1])

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> tuple[Tensor | None, ...]:
        q, k, v, weights = ctx.saved_tensors
        if not torch.is_grad_enabled():
            return *_gradients(q, k, v, weights, upstream[0], ctx.window, ctx.halo), None, None
        # A gradient of this gradient is asked for.
        wanted = [u for u in (q, k, v) if u.requires_grad]
        y = attend_plainly(q, k, v, ctx.window, ctx.halo)
        found = iter(torch.autograd.grad(y, wanted, upstream[0], create_graph=True))
        return *(next(found) if u.requires_grad else None for u in (q, k, v)), None, None


def _gradients(
    q: Float[Tensor, "B H W D"],
    k: Float[Tensor, "B H W D"],
    v: Float[Tensor, "B H W E"],
    weights: Float[Tensor, "B y x L M"],
    upstream: Float[Tensor, "B H W E"],
    window: int,
    halo: int,
) -> tuple[Float[Tensor, "B H W D"], Float[Tensor, "B H W D"], Float[Tensor, "B H W E"]]:
    """Return the gradients of q, k and v, from that of the result."""
    height, width = q.shape[1:3]
    padded = padded_part(q, k, v, (slice(0, height), slice(0, width)), window, halo)
    # Without the channel that hides positions: their weights are 0.
    padded = padded[0][..., :-1], padded[1][..., :-1], padded[2]
    sum_q, sum_k, sum_v = (torch.zeros(u.shape, dtype=q.dtype, device=u.device) for u in padded)
    queries, keys, values = cut_windows(*padded, window, halo)
    to_q, to_k, to_v = cut_windows(sum_q, sum_k, sum_v, window, halo)
    below, right = sum_q.shape[1] - height, sum_q.shape[2] - width
    to_y = squares(pad(upstream, (0, 0, 0, right, 0, below)), window, window)
    buffers = Buffers(v, v.dtype)
    # So many windows on, two have no key in common.
    apart = -(-(window + 2 * halo) // window)
    for here in runs(to_y, (window + 2 * halo) ** 2, apart):
        w, gy = weights[here].flatten(0, -3), taken(to_y[here], buffers, "gradients")
        gw = torch.bmm(gy, taken(values[here], buffers, "values").mT, out=buffers("to_weights", *w.shape))
        scores = torch.ops.aten._softmax_backward_data(gw, w, -1, w.dtype)
        gq = scores @ taken(keys[here], buffers, "keys")
        to_q[here] = gq.view(to_q[here].shape)
        gk = (scores.mT @ taken(queries[here], buffers, "queries")).view(to_k[here].shape)
        gv = (w.mT @ gy).view(to_v[here].shape)
        for first in range(apart):
            some = (*here[:2], slice(here[2].start + first, here[2].stop, apart))
            to_k[some].add_(gk[..., first::apart, :, :, :])
            to_v[some].add_(gv[..., first::apart, :, :, :])
    rows, columns = (slice(halo, halo + length) for length in (height, width))
    return sum_q[:, :height, :width], sum_k[:, rows, columns], sum_v[:, rows, columns].to(v.dtype)
