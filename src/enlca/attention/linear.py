"""Efficient non-local attention: softmax attention in linear time.  (Eq. 5-6)

With exp(q.k) ~ phi(q)^T phi(k), the sum over keys moves inside:

    y_i = sum_j exp(q_i.k_j) v_j / sum_j exp(q_i.k_j)                  all pairs:  N x N
        ~ phi(q_i)^T [ phi(K) V^T ] / phi(q_i)^T [ phi(K) 1 ]          two sums:   M x (E + 1)

The image enters only through two sums over positions, so the sums of two halves of an image add up
to the sums of the whole: that is what makes streaming exact.

Dividing the first sum by the second, feature by feature, turns both steps into averages. Each random
feature r keeps the average of the values that it sees, and a query averages over features:

    mean_r = softmax_j( log phi_r(k_j) ) . v_j      log_total_r = logsumexp_j( log phi_r(k_j) )
    y_i    = softmax_r( log phi_r(q_i) + log_total_r ) . mean_r

This is Eq. 5-6 to the letter, but no number ever exceeds the largest value: it cannot overflow.

Letters:  B batch   D embedding channels   M random features   N positions   E value channels
         Nq positions of queries, where they may be others than N
"""

from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from enlca.attention import fused
from enlca.attention.features import log_features, orthogonal_gaussian


class KeyValueSummary(NamedTuple):
    """All that a set of positions contributes to attention: M x (E + 1) numbers."""

    mean: Float[Tensor, "B M E"]
    log_total: Float[Tensor, "B M"]


def summarise(log_phi_k: Float[Tensor, "B M N"], v: Float[Tensor, "B E N"]) -> KeyValueSummary:
    """phi(K) V^T and phi(K) 1, the first divided by the second, the second in logarithms."""
    weights = log_phi_k.softmax(dim=-1)
    return KeyValueSummary(weights @ v.to(weights.dtype).mT, log_phi_k.logsumexp(dim=-1))


def combine(a: KeyValueSummary, b: KeyValueSummary) -> KeyValueSummary:
    """The summary of two disjoint sets of positions together."""
    # Shares of one: beside a logarithm of 10^8, log 2 would be lost.
    share = (a.log_total - b.log_total).sigmoid().unsqueeze(-1)
    other = (b.log_total - a.log_total).sigmoid().unsqueeze(-1)
    log_total = torch.logaddexp(a.log_total, b.log_total)
    return KeyValueSummary(share * a.mean + other * b.mean, log_total)


def read(log_phi_q: Float[Tensor, "B M N"], image: KeyValueSummary) -> Float[Tensor, "B E N"]:
    """What each query sees of the summarised image (Eq. 5); an average of values."""
    return image.mean.mT @ (log_phi_q + image.log_total.unsqueeze(-1)).softmax(dim=1)


class LinearAttend(nn.Module):
    """ENLA (Eq. 4-6) as a module: it owns F (`projection`, the paper's F) and nothing else.

    Args:
        dim: channels of q and k (the paper's c).
        n_features: the paper's m.
        floor: added to each random feature; 1e-4 in the released code, none in the paper.
        generator: where F comes from; None is torch's global generator.

    Sums are taken in float32 at least, whatever the inputs' type and autocast say. What is computed are the
    functions above; how, is in `blocks.py` (or, with `kernel = "triton"`, in `kernels.py`): a block of
    positions at a time. Exported graphs hold the functions themselves. There is no second derivative.
    """

    projection: Tensor
    # "triton" is for CUDA; it stays off until it has been measured on a GPU (benchmarks/NOTES.md).
    kernel: ClassVar[str] = "torch"

    def __init__(
        self, dim: int, *, n_features: int = 128, floor: float = 0.0, generator: torch.Generator | None = None
    ):
        super().__init__()
        self.floor = floor
        self.register_buffer("projection", orthogonal_gaussian(n_features, dim, generator=generator))

    @torch.no_grad()
    def redraw_(self, generator: torch.Generator) -> None:
        """Replace F by a new draw; an event of training, never of evaluation."""
        self.projection.copy_(orthogonal_gaussian(*self.projection.shape, generator=generator))

    def summarise(self, k: Float[Tensor, "B D N"], v: Float[Tensor, "B E N"]) -> KeyValueSummary:
        """What the positions of `k` and `v` contribute; `combine` adds up tiles."""
        f, floor = self.projection, self.floor
        if fused.usable(f):
            return KeyValueSummary(*fused.summarise(k, v, f, floor=floor, kernel=self.kernel))
        with fused.full_precision(k):
            return summarise(log_features(k, f, floor=floor), v)

    def read(self, q: Float[Tensor, "B D N"], image: KeyValueSummary) -> Float[Tensor, "B E N"]:
        """Attention's output at the positions of `q`, in q's type."""
        f, floor = self.projection, self.floor
        if fused.usable(f):
            return fused.read(q, *image, f, floor=floor, kernel=self.kernel)
        with fused.full_precision(q):
            return read(log_features(q, f, floor=floor), image).to(q.dtype)

    def forward(
        self, q: Float[Tensor, "B D Nq"], k: Float[Tensor, "B D N"], v: Float[Tensor, "B E N"]
    ) -> Float[Tensor, "B E Nq"]:
        """Attention of each query over all positions, in time linear in Nq + N."""
        return self.read(q, self.summarise(k, v))
