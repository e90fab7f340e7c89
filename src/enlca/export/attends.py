"""The attentions in a form that one traced graph can hold for every batch, height and width.

`LinearAttend` loops over blocks of positions in Python, `ExactAttend` over blocks of queries; a graph traced
from them would hold the number of blocks of one image. Here the blocks are an axis of a tensor. The formulas
are the same: Eq. 3, Eq. 5-6 in shifted logarithms, and Eq. 1, in all of the picture or in windows.

Positions come before channels, as in the memory of a runtime with channels-last convolutions: one change of
layout before attention and one after it, instead of one for each of q, k, v, x and y.

Nothing is divided, subtracted or negated: OpenVINO rewrites these operations and loses the mark by which they
stay in float32.

Letters:  B batch   C channels   D embedding channels   M random features   E value channels
         H, W height and width   N = H W positions   Nq queries, where they differ from the positions
         K blocks of n positions   G = E + 1: values, and one that is 1
"""

from collections.abc import Callable
from typing import no_type_check

import torch
from jaxtyping import Float
from torch import Tensor, nn

from enlca.attention.exact import ExactAttend
from enlca.attention.linear import LinearAttend
from enlca.attention.sharp import FEATURES, LEAST_SQUARE, LEAST_VARIANCE, SharpAttend, newton_schulz
from enlca.attention.window import WindowAttend

# Positions summed in one matrix product. A runtime may sum in any order: 10^6 positions one after the other
# would lose three digits of float32, 1024 positions and then the blocks lose none.
BLOCK = 1024


class TraceableLinear(nn.Module):
    """ENLA (Eq. 4-6) of images with any number of positions.

    `LinearAttend` in few, large operations, as runtimes fuse little: |k|^2/2 is one more channel in the
    product with F, and the denominator of Eq. 5 one more value, which is 1 everywhere.
    """

    projection: Tensor

    def __init__(self, attend: LinearAttend):
        super().__init__()
        self.floor = attend.floor
        one = torch.ones_like(attend.projection[:, :1])
        # [F, -1] [u, |u|^2/2] = F u - |u|^2/2
        self.register_buffer("projection", torch.cat([attend.projection, -one], dim=1))

    def forward(
        self, q: Float[Tensor, "B Nq D"], k: Float[Tensor, "B N D"], v: Float[Tensor, "B N E"]
    ) -> Float[Tensor, "B Nq E"]:
        """Attend with each query over all positions of its image."""
        return self.attended(q, k, v, self.projection, self.projection[:, :-1])

    def attended(
        self,
        q: Float[Tensor, "B Nq D"],
        k: Float[Tensor, "B N D"],
        v: Float[Tensor, "B N E"],
        of_keys: Float[Tensor, "... M D+1"],
        of_queries: Float[Tensor, "... M D"],
        log_weight: Float[Tensor, "B M"] | None = None,
    ) -> Float[Tensor, "B Nq E"]:
        """Attend with features of their own for keys and queries, and a weight of each feature."""
        keys = _blocks(_with_half_square(k), fill=None)
        # Positions that only fill the last block have no weight: their "1" is 0.
        values = _blocks(_with_one(v), fill=0.0)
        log_phi = self._floored(keys @ of_keys.mT.unsqueeze(-3))
        top = log_phi.flatten(1, 2).amax(dim=1)
        # Without `unsqueeze` OpenVINO makes a separate layer of it, which loses its name.
        weights = (log_phi + (-1.0 * top).unsqueeze(1).unsqueeze(1)).exp()
        mean, log_sum = _average((weights.mT @ values).sum(dim=1))
        if self.floor == 0:
            # |q|^2/2 is common to all features and cancels.
            log_phi_q = q @ of_queries.mT
        else:
            log_phi_q = self._floored(_with_half_square(q) @ self.projection.mT)
        log_total = top + log_sum if log_weight is None else top + log_sum + log_weight
        return (log_phi_q + log_total.unsqueeze(1)).softmax(dim=-1) @ mean

    def _floored(self, log_phi: Tensor) -> Tensor:
        if self.floor == 0:
            return log_phi
        return torch.logaddexp(log_phi, torch.full_like(log_phi[..., :1, :1], self.floor).log())


class TraceableSharp(TraceableLinear):
    """ENLA with features fitted to each image: `attention.sharp.fit`, by products alone and in float32.

    Runtimes have no eigenvalues, and OpenVINO no float64. So means are taken out before the products of
    coordinates, and T^-T is refined to be the inverse of T^T after both were found.
    """

    eye: Tensor

    def __init__(self, attend: SharpAttend):
        super().__init__(attend)
        self.parts = FEATURES[attend.features]
        self.register_buffer("eye", torch.eye(attend.projection.shape[1]), persistent=False)

    def forward(
        self, q: Float[Tensor, "B Nq D"], k: Float[Tensor, "B N D"], v: Float[Tensor, "B N E"]
    ) -> Float[Tensor, "B Nq E"]:
        """Attend with each query over all positions of its image."""
        f, d = self.projection[:, :-1], self.projection.shape[1] - 1
        mean_q, cov_q = self._moments(q)
        mean_k, cov_k = self._moments(k)
        to_q = to_k = self.eye.expand_as(cov_q)
        if "balance" in self.parts:
            root, inverse = newton_schulz(cov_q)
            up, down = newton_schulz(newton_schulz(root @ cov_k @ root)[0])
            to_q, to_k = up @ inverse, down @ root
            for _ in range(2):
                to_k = to_k @ (2.0 * self.eye + -1.0 * (to_q.mT @ to_k))
        if "sharpen" in self.parts:
            s = ((to_q @ cov_q) * to_q + (to_k @ cov_k) * to_k).sum(dim=(1, 2), keepdim=True)
            spread = 2.0 * s + d
            by_rho = ((spread * spread + 8.0 * d * s).sqrt() + spread) * (0.5 / d)
            # B^2 = 1 - 4A, and A = (1 - 1 / rho) / 8.
            own, a = (0.5 + 0.5 * by_rho).sqrt() * f, 0.125 + -0.125 * by_rho
        else:
            own, a = f.expand(q.shape[0], -1, -1), torch.zeros_like(mean_q[..., :1])
        from_k = mean_k @ to_k.mT + mean_q @ to_q.mT
        u = k @ to_k.mT + -1.0 * from_k
        of_keys = torch.cat([own, self.projection[:, -1:].expand(q.shape[0], -1, -1)], dim=2)
        log_weight = (2.0 * a).squeeze(2) * (f * f).sum(dim=1)
        return self.attended(q, u, v, of_keys, own @ to_q, log_weight)

    def _moments(self, u: Float[Tensor, "B N D"]) -> tuple[Float[Tensor, "B 1 D"], Float[Tensor, "B D D"]]:
        """Return mean and covariance, with the least variances of `sharp.fit`."""
        by_n = _blocks(torch.ones_like(u[..., :1]), fill=0.0).sum(dim=2).sum(dim=1, keepdim=True).pow(-1.0)
        mean = _blocks(u, fill=0.0).sum(dim=2).sum(dim=1, keepdim=True) * by_n
        centred = _blocks(u + -1.0 * mean, fill=0.0)
        covariance = (centred.mT @ centred).sum(dim=1) * by_n
        by_d = 1.0 / u.shape[2]
        variance = (covariance * self.eye).sum(dim=(1, 2), keepdim=True) * by_d
        power = variance + (mean * mean).sum(dim=2, keepdim=True) * by_d
        least = LEAST_VARIANCE * variance + LEAST_SQUARE * power + torch.finfo(torch.float32).tiny
        return mean, covariance + least * self.eye


class TraceableExact(nn.Module):
    """Eq. 1 of images with any number of positions, BLOCK queries at a time: memory linear in N."""

    def forward(
        self, q: Float[Tensor, "B Nq D"], k: Float[Tensor, "B N D"], v: Float[Tensor, "B N E"]
    ) -> Float[Tensor, "B Nq E"]:
        """Attend with each query over all positions of its image."""
        # Imported late: it is slow to load and only exact attention uses it.
        from torch._higher_order_ops.scan import scan

        @no_type_check
        def one_block(
            carried: tuple[Tensor, Tensor], queries: Tensor
        ) -> tuple[tuple[Tensor, Tensor], Tensor]:
            keys, values = carried
            scores = queries @ keys
            # Not `softmax`: OpenVINO's (2026.4), after a picture of one position, is wrong for all others.
            weights = (scores + -1.0 * scores.amax(dim=-1, keepdim=True)).exp()
            y = _average(weights @ values)[0]
            # OpenVINO's Scan cannot read values from outside, so keys and values are carried along.
            return (keys.clone(), values.clone()), y

        y = scan(one_block, (k.mT, _with_one(v)), _blocks(q, fill=0.0).transpose(0, 1))[1]
        return y.transpose(0, 1).flatten(1, 2)[:, : q.shape[1]]


class TraceableWindow(nn.Module):
    """Attention inside windows (`WindowAttend`) of images of any size, a row of windows at a time.

    The rows of all images are one axis.
    """

    def __init__(self, attend: WindowAttend):
        super().__init__()
        self.window = attend.window
        self.halo = attend.halo

    def forward(
        self, q: Float[Tensor, "B H W D"], k: Float[Tensor, "B H W D"], v: Float[Tensor, "B H W E"]
    ) -> Float[Tensor, "B H W E"]:
        """Attend from each position to those in its window and around it."""
        from torch._higher_order_ops.scan import scan

        batch, height, width = q.shape[:3]
        window, halo = self.window, self.halo
        side = window + 2 * halo
        rows, columns = (height + window - 1) // window, (width + window - 1) // window
        below, right = rows * window - height, columns * window - width
        missing = (0, 0, halo, halo + right, halo, halo + below)
        # In 32 bits: OpenVINO before 2026 takes constants for such beside sums of 64 bits, and fails.
        within = torch.arange(side, dtype=torch.int32)
        from_top, from_left = (
            (torch.arange(0, count * window, window, dtype=torch.int32).unsqueeze(1) + within).flatten()
            for count in (rows, columns)
        )
        # One more value, which is 1 in the picture and 0 outside of it, where a key has no weight.
        keys, values = (nn.functional.pad(u, missing) for u in (k, _with_one(v)))
        # `index_select`, as other ways to index become changes of layout.
        keys, values = (
            u.index_select(1, from_top)
            .unflatten(1, (rows, side))
            .flatten(0, 1)
            .index_select(2, from_left)
            .unflatten(2, (columns, side))
            for u in (keys, values)
        )
        queries = nn.functional.pad(q, (0, 0, 0, right, 0, below))
        queries = queries.unflatten(2, (columns, window)).unflatten(1, (rows, window)).flatten(0, 1)

        @no_type_check
        def one_row(carried: Tensor, parts: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            queries, keys, values = (squares.transpose(0, 1).flatten(1, 2) for squares in parts)
            scores = queries @ keys.mT + 1e4 * (values[..., -1:].mT + -1.0)
            weights = (scores + -1.0 * scores.amax(dim=-1, keepdim=True)).exp()
            y = _average(weights @ values)[0]
            return carried.clone(), y.unflatten(1, (window, window)).transpose(0, 1)

        # Nothing is carried from row to row, but a scan wants something.
        y = scan(one_row, q.new_zeros(1), (queries, keys, values))[1]
        return y.flatten(2, 3).unflatten(0, (batch, rows)).flatten(1, 2)[:, :height, :width]


TRACEABLE: dict[type[nn.Module], Callable[..., nn.Module]] = {
    LinearAttend: TraceableLinear,
    SharpAttend: TraceableSharp,
    ExactAttend: lambda attend: TraceableExact(),
    WindowAttend: TraceableWindow,
}


def _with_half_square(u: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D+1"]:
    return torch.cat([u, 0.5 * (u * u).sum(dim=-1, keepdim=True)], dim=-1)


def _with_one(v: Float[Tensor, "*positions E"]) -> Float[Tensor, "*positions E+1"]:
    return torch.cat([v, torch.ones_like(v[..., :1])], dim=-1)


@no_type_check
def _average(sums: Float[Tensor, "... G"]) -> tuple[Float[Tensor, "... G-1"], Float[Tensor, "..."]]:
    """Divide sums of weighted values by the sum of the weights, their last column; return its logarithm, too.

    Not type-checked: `scan` reads the source of this function, which the tests' shape checks replace.
    """
    # OpenVINO would also rewrite two slices (see above), but not a slice and a selection.
    log_sum = sums[..., -1].log()
    return sums[..., :-1] * (-1.0 * log_sum).exp().unsqueeze(-1), log_sum


def _blocks(u: Float[Tensor, "B N C"], *, fill: float | None) -> Float[Tensor, "B K n C"]:
    """Cut into blocks; the last block is filled with `fill`, or with the last position."""
    n_positions = u.shape[1]
    n_blocks = (n_positions + BLOCK - 1) // BLOCK
    last = u[:, -1:] if fill is None else torch.full_like(u[:, :1], fill)
    missing = n_blocks * BLOCK - n_positions
    return torch.cat([u, last.expand(-1, missing, -1)], dim=1).unflatten(1, (n_blocks, BLOCK))
