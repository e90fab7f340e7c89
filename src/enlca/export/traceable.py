"""Rewrite a network so that one traced graph serves every height and width.

`LinearAttend` loops over blocks of positions in Python, `ExactAttend` over blocks of queries; a graph traced
from them would hold the number of blocks of one image. Here the blocks are an axis of a tensor. The formulas
are the same: Eq. 3, Eq. 5-6 in shifted logarithms, and Eq. 1, in all of the picture or in windows.

Positions come first and channels last, as in the memory of a runtime with channels-last convolutions: one
change of layout before attention and one after it, instead of one for each of q, k, v, x and y.

Nothing is divided, subtracted or negated: OpenVINO rewrites these operations and loses the mark by which they
stay in float32.

Letters:  C channels   D embedding channels   M random features   E value channels
         H, W height and width   N = H W positions   Nq queries, where they differ from the positions
         K blocks of positions   X queries or features   G = E + 1: values, and one that is 1
"""

import copy
from collections.abc import Callable
from typing import no_type_check

import torch
from jaxtyping import Float
from torch import Tensor, nn

from enlca.attention.block import Embed, NonLocalBlock
from enlca.attention.exact import ExactAttend
from enlca.attention.linear import LinearAttend
from enlca.attention.sharp import FEATURES, LEAST_SQUARE, LEAST_VARIANCE, SharpAttend, newton_schulz
from enlca.attention.window import WindowAttend
from enlca.errors import ExportError
from enlca.network.sr import SRNetwork

# Positions summed in one matrix product. A runtime may sum in any order: 10^6 positions one after the other
# would lose three digits of float32, 1024 positions and then the blocks lose none.
BLOCK = 1024


class LinearPicture(nn.Module):
    """ENLA (Eq. 4-6) of one image with any number of positions.

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
        self, q: Float[Tensor, "Nq D"], k: Float[Tensor, "N D"], v: Float[Tensor, "N E"]
    ) -> Float[Tensor, "Nq E"]:
        """Attend with each query over all positions."""
        return self.attended(q, k, v, self.projection, self.projection[:, :-1])

    def attended(
        self,
        q: Float[Tensor, "Nq D"],
        k: Float[Tensor, "N D"],
        v: Float[Tensor, "N E"],
        of_keys: Float[Tensor, "M D+1"],
        of_queries: Float[Tensor, "M D"],
        log_weight: Float[Tensor, " M"] | None = None,
    ) -> Float[Tensor, "Nq E"]:
        """Attend with features of their own for keys and queries, and a weight of each feature."""
        keys = _blocks(_with_half_square(k), fill=None)
        # Positions that only fill the last block have no weight: their "1" is 0.
        values = _blocks(torch.cat([v, torch.ones_like(v[:, :1])], dim=1), fill=0.0)
        log_phi = self._floored(keys @ of_keys.mT)
        top = log_phi.flatten(0, 1).amax(dim=0)
        # Without `unsqueeze` OpenVINO makes a separate layer of it, which loses its name.
        weights = (log_phi + (-1.0 * top).unsqueeze(0)).exp()
        mean, log_sum = _average((weights.mT @ values).sum(dim=0))
        if self.floor == 0:
            # |q|^2/2 is common to all features and cancels.
            log_phi_q = q @ of_queries.mT
        else:
            log_phi_q = self._floored(_with_half_square(q) @ self.projection.mT)
        log_total = top + log_sum if log_weight is None else top + log_sum + log_weight
        return (log_phi_q + log_total).softmax(dim=-1) @ mean

    def _floored(self, log_phi: Tensor) -> Tensor:
        if self.floor == 0:
            return log_phi
        return torch.logaddexp(log_phi, torch.full_like(log_phi[..., :1, :1], self.floor).log())


class SharpPicture(LinearPicture):
    """ENLA with features fitted to the image: `attention.sharp.fit`, by products alone and in float32.

    Runtimes have no eigenvalues, and OpenVINO no float64. So means are taken out before the products of
    coordinates, and T^-T is refined to be the inverse of T^T after both were found.
    """

    eye: Tensor

    def __init__(self, attend: SharpAttend):
        super().__init__(attend)
        self.parts = FEATURES[attend.features]
        self.register_buffer("eye", torch.eye(attend.projection.shape[1]), persistent=False)

    def forward(
        self, q: Float[Tensor, "Nq D"], k: Float[Tensor, "N D"], v: Float[Tensor, "N E"]
    ) -> Float[Tensor, "Nq E"]:
        """Attend with each query over all positions."""
        f, d = self.projection[:, :-1], self.projection.shape[1] - 1
        mean_q, cov_q = self._moments(q)
        mean_k, cov_k = self._moments(k)
        to_q = to_k = self.eye
        if "balance" in self.parts:
            root, inverse = newton_schulz(cov_q)
            up, down = newton_schulz(newton_schulz(root @ cov_k @ root)[0])
            to_q, to_k = up @ inverse, down @ root
            for _ in range(2):
                to_k = to_k @ (2.0 * self.eye + -1.0 * (to_q.mT @ to_k))
        if "sharpen" in self.parts:
            s = ((to_q @ cov_q) * to_q + (to_k @ cov_k) * to_k).sum()
            spread = 2.0 * s + d
            by_rho = ((spread * spread + 8.0 * d * s).sqrt() + spread) * (0.5 / d)
            # B^2 = 1 - 4A, and A = (1 - 1 / rho) / 8.
            own, a = (0.5 + 0.5 * by_rho).sqrt() * f, 0.125 + -0.125 * by_rho
        else:
            own, a = f, torch.zeros_like(mean_q.sum())
        from_k = mean_k @ to_k.mT + mean_q @ to_q.mT
        u = k @ to_k.mT + -1.0 * from_k
        of_keys = torch.cat([own, self.projection[:, -1:]], dim=1)
        return self.attended(q, u, v, of_keys, own @ to_q, 2.0 * a * (f * f).sum(dim=1))

    def _moments(self, u: Float[Tensor, "N D"]) -> tuple[Float[Tensor, "1 D"], Float[Tensor, "D D"]]:
        """Return mean and covariance, with the least variances of `sharp.fit`."""
        by_n = _blocks(torch.ones_like(u[:, :1]), fill=0.0).sum(dim=1).sum(dim=0).pow(-1.0)
        mean = (_blocks(u, fill=0.0).sum(dim=1).sum(dim=0) * by_n).unsqueeze(0)
        centred = _blocks(u + -1.0 * mean, fill=0.0)
        covariance = (centred.mT @ centred).sum(dim=0) * by_n
        by_d = 1.0 / u.shape[1]
        variance = (covariance * self.eye).sum() * by_d
        power = variance + (mean * mean).sum() * by_d
        least = LEAST_VARIANCE * variance + LEAST_SQUARE * power + torch.finfo(torch.float32).tiny
        return mean, covariance + least * self.eye


class ExactPicture(nn.Module):
    """Eq. 1 of one image with any number of positions, BLOCK queries at a time: memory linear in N."""

    def forward(
        self, q: Float[Tensor, "Nq D"], k: Float[Tensor, "N D"], v: Float[Tensor, "N E"]
    ) -> Float[Tensor, "Nq E"]:
        """Attend with each query over all positions."""
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

        values = torch.cat([v, torch.ones_like(v[:, :1])], dim=1)
        y = scan(one_block, (k.mT, values), _blocks(q, fill=0.0))[1]
        return y.flatten(0, 1)[: q.shape[0]]


class WindowPicture(nn.Module):
    """Attention inside windows (`WindowAttend`) of one image of any size, a row of windows at a time."""

    def __init__(self, attend: WindowAttend):
        super().__init__()
        self.window = attend.window
        self.halo = attend.halo

    def forward(
        self, q: Float[Tensor, "H W D"], k: Float[Tensor, "H W D"], v: Float[Tensor, "H W E"]
    ) -> Float[Tensor, "H W E"]:
        """Attend from each position to those in its window and around it."""
        from torch._higher_order_ops.scan import scan

        height, width = q.shape[:2]
        window, halo = self.window, self.halo
        side = window + 2 * halo
        rows, columns = (height + window - 1) // window, (width + window - 1) // window
        below, right = rows * window - height, columns * window - width
        missing = (0, 0, halo, halo + right, halo, halo + below)
        from_top, from_left = (
            torch.arange(count).unsqueeze(1) * window + torch.arange(side) for count in (rows, columns)
        )
        # One more value, which is 1 in the picture and 0 outside of it, where a key has no weight.
        values = torch.cat([v, torch.ones_like(v[..., :1])], dim=-1)
        keys, values = (nn.functional.pad(u, missing)[from_top][:, :, from_left] for u in (k, values))
        queries = nn.functional.pad(q, (0, 0, 0, right, 0, below))
        queries = queries.unflatten(1, (columns, window)).unflatten(0, (rows, window))

        @no_type_check
        def one_row(carried: Tensor, parts: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            queries, keys, values = (squares.transpose(0, 1).flatten(1, 2) for squares in parts)
            scores = queries @ keys.mT + 1e4 * (values[..., -1:].mT + -1.0)
            weights = (scores + -1.0 * scores.amax(dim=-1, keepdim=True)).exp()
            sums = weights @ values
            y = _average(sums.flatten(0, 1))[0].unflatten(0, sums.shape[:2])
            return carried.clone(), y.unflatten(1, (window, window)).transpose(0, 1)

        # Nothing is carried from row to row, but a scan wants something.
        y = scan(one_row, q.new_zeros(1), (queries, keys, values))[1]
        return y.flatten(2, 3).flatten(0, 1)[:height, :width]


class PictureBlock(nn.Module):
    """`NonLocalBlock` for one image of any size."""

    def __init__(self, block: NonLocalBlock, attend: nn.Module):
        super().__init__()
        assert isinstance(block.embed, Embed)
        self.embed = block.embed
        self.attend = attend
        self.res_scale = block.res_scale

    def forward(self, x: Float[Tensor, "1 C H W"]) -> Float[Tensor, "1 C H W"]:
        """Add to each position what attention finds for it."""
        at = _positions(x)
        q, k, v = (_embedded(by, x, at) for by in (self.embed.query, self.embed.key, self.embed.value))
        qkv = self._amplified(q), self._amplified(k), v
        if isinstance(self.attend, WindowPicture):
            found = self.attend(*(u.unflatten(0, x.shape[-2:]) for u in qkv)).flatten(0, 1)
        else:
            found = self.attend(*qkv)
        y = at + self.res_scale * found
        return y.unflatten(0, x.shape[-2:]).unsqueeze(0).permute(0, 3, 1, 2)

    def _amplified(self, u: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
        """Scale to length sqrt(k) at every position (Eq. 3)."""
        square = (u * u).sum(dim=1, keepdim=True).clamp(min=self.embed.eps**2)
        return u * (self.embed.length * (-0.5 * square.log()).exp())


PICTURES: dict[type[nn.Module], Callable[..., nn.Module]] = {
    LinearAttend: LinearPicture,
    SharpAttend: SharpPicture,
    ExactAttend: lambda attend: ExactPicture(),
    WindowAttend: WindowPicture,
}


def traceable(network: SRNetwork) -> SRNetwork:
    """Return a copy of `network`, on the CPU in float32, that can be traced with unknown height and width.

    Raises:
        ExportError: for NLSA, whose hashing cannot be written as one graph for all sizes.
    """
    if network.config.attention == "lsh":
        raise ExportError(
            "networks with attention lsh (NLSA) cannot be exported: they draw their hash functions "
            "anew for each size of picture, which no fixed graph can; they run in PyTorch alone"
        )
    copied = copy.deepcopy(network).cpu().float().eval().requires_grad_(False)
    for index, stage in enumerate(copied.body):
        if isinstance(stage, NonLocalBlock):
            copied.body[index] = PictureBlock(stage, PICTURES[type(stage.attend)](stage.attend))
    return copied


def _positions(features: Float[Tensor, "1 D H W"]) -> Float[Tensor, "N D"]:
    return features.permute(0, 2, 3, 1).flatten(0, 2)


def _embedded(by: nn.Conv2d, x: Float[Tensor, "1 C H W"], at: Float[Tensor, "N C"]) -> Float[Tensor, "N D"]:
    """Convolve x, whose positions are `at`; a 1 x 1 convolution is computed as a matrix product."""
    if by.kernel_size == (1, 1):
        return nn.functional.linear(at, by.weight.flatten(1), by.bias)
    return _positions(by(x))


def _with_half_square(u: Float[Tensor, "N D"]) -> Float[Tensor, "N D+1"]:
    return torch.cat([u, 0.5 * (u * u).sum(dim=1, keepdim=True)], dim=1)


@no_type_check
def _average(sums: Float[Tensor, "X G"]) -> tuple[Float[Tensor, "X G-1"], Float[Tensor, " X"]]:
    """Divide sums of weighted values by the sum of the weights, their last column; return its logarithm, too.

    Not type-checked: `scan` reads the source of this function, which the tests' shape checks replace.
    """
    # OpenVINO would also rewrite two slices (see above), but not a slice and a selection.
    log_sum = sums[:, -1].log()
    return sums[:, :-1] * (-1.0 * log_sum).exp().unsqueeze(-1), log_sum


def _blocks(u: Float[Tensor, "N C"], *, fill: float | None) -> Float[Tensor, "K n C"]:
    """Cut into blocks; the last block is filled with `fill`, or with the last position."""
    n_positions = u.shape[0]
    n_blocks = (n_positions + BLOCK - 1) // BLOCK
    last = u[-1:] if fill is None else torch.full_like(u[:1], fill)
    missing = n_blocks * BLOCK - n_positions
    return torch.cat([u, last.expand(missing, -1)]).unflatten(0, (n_blocks, BLOCK))
