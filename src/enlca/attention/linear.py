"""Efficient non-local attention: softmax attention in linear time.  (Eq. 5-6)

With exp(q.k) ~ phi(q)^T phi(k), the sum over keys moves inside:

    y_i = sum_j exp(q_i.k_j) v_j / sum_j exp(q_i.k_j)                  all pairs:  N x N
        ~ phi(q_i)^T [ phi(K) V^T ] / phi(q_i)^T [ phi(K) 1 ]          two sums:   M x (E + 1)

The image enters only through two sums over positions, so the sums of two halves of an image add up
to the sums of the whole: that is what makes streaming exact.

Dividing the first sum by the second, feature by feature, turns both steps into averages: over positions
for each random feature r, then over features for each query:

    mean_r = softmax_j( log phi_r(k_j) ) . v_j      log_total_r = logsumexp_j( log phi_r(k_j) )
    y_i    = softmax_r( log phi_r(q_i) + log_total_r ) . mean_r

This is Eq. 5-6 to the letter, but no number ever exceeds the largest value: it cannot overflow.

Letters:  B batch   D embedding channels   M random features   N positions   E value channels
         Nq positions of queries
"""

from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from enlca.attention import ops
from enlca.attention.features import log_features, orthogonal_gaussian


class KeyValueSummary(NamedTuple):
    """Everything that a set of positions contributes to attention: M x (E + 1) numbers."""

    mean: Float[Tensor, "B M E"]
    log_total: Float[Tensor, "B M"]

    def to(self, device: torch.device | str, dtype: torch.dtype) -> "KeyValueSummary":
        """Convert both sums: in float64, the sums of many tiles lose no digits."""
        return KeyValueSummary(*(sums.to(device, dtype) for sums in self))


def summarise(log_phi_k: Float[Tensor, "B M N"], v: Float[Tensor, "B E N"]) -> KeyValueSummary:
    """Return phi(K) V^T divided by phi(K) 1, and the logarithm of phi(K) 1."""
    weights = log_phi_k.softmax(dim=-1)
    return KeyValueSummary(weights @ v.to(weights.dtype).mT, log_phi_k.logsumexp(dim=-1))


def combine(a: KeyValueSummary, b: KeyValueSummary) -> KeyValueSummary:
    """Return the summary of the union of two disjoint sets of positions."""
    # By shares that sum to one: added to a logarithm of 10^8, log 2 would be lost.
    share = (a.log_total - b.log_total).sigmoid().unsqueeze(-1)
    other = (b.log_total - a.log_total).sigmoid().unsqueeze(-1)
    log_total = torch.logaddexp(a.log_total, b.log_total)
    return KeyValueSummary(share * a.mean + other * b.mean, log_total)


def read(log_phi_q: Float[Tensor, "B M N"], image: KeyValueSummary) -> Float[Tensor, "B E N"]:
    """Return attention's output at each query (Eq. 5): an average of values."""
    return image.mean.mT @ (log_phi_q + image.log_total.unsqueeze(-1)).softmax(dim=1)


@runtime_checkable
class Fitted(Protocol):
    """Attention whose features are known: what summarises the tiles of one picture and reads the summary."""

    def summarise(self, k: Float[Tensor, "B D N"], v: Float[Tensor, "B E N"]) -> KeyValueSummary:
        """Summarise the positions of `k` and `v`; `combine` adds up tiles."""
        ...

    def read(self, q: Float[Tensor, "B D N"], image: KeyValueSummary) -> Float[Tensor, "B E N"]:
        """Return attention's output at the positions of `q`."""
        ...

    def log_key_features(self, k: Float[Tensor, "B D N"]) -> Float[Tensor, "B M N"]:
        """Return log phi(k)."""
        ...

    def log_query_features(self, q: Float[Tensor, "B D N"]) -> Float[Tensor, "B M N"]:
        """Return log phi(q)."""
        ...


class LinearAttend(nn.Module):
    """ENLA (Eq. 4-6) as a module. Its only state is F (`projection`).

    The global stage of a network is `summarise` over all tiles, `combine`, then `read` at any position. (The
    features of `sharp.SharpAttend` are fitted to statistics of the whole image first, which add up over tiles
    as well.)

    The result is that of the functions above, in float32 at least whatever the inputs' type and autocast say,
    but computed in chunks of positions by `chunked.py` (or, with `kernel = "triton"`, by the kernels of
    `triton/`). Exported graphs consist of the functions themselves. There is no second derivative.

    Args:
        dim: channels of q and k (the paper's c).
        n_features: the paper's m.
        floor: added to each random feature; 1e-4 in the released code, none in the paper.
        generator: source of F; None is torch's global generator.

    Raises:
        ValueError: if `n_features` or `dim` is below 1.
    """

    projection: Tensor
    # "triton" needs CUDA, and stays off until it has been measured on a GPU (benchmarks/NOTES.md).
    kernel: ClassVar[str] = "torch"

    def __init__(
        self, dim: int, *, n_features: int = 128, floor: float = 0.0, generator: torch.Generator | None = None
    ):
        super().__init__()
        self.features = "positive"
        self.floor = floor
        self.register_buffer("projection", orthogonal_gaussian(n_features, dim, generator=generator))

    @torch.no_grad()
    def redraw_(self, generator: torch.Generator) -> None:
        """Replace F by a new draw: an event of training, never of evaluation."""
        self.projection.copy_(orthogonal_gaussian(*self.projection.shape, generator=generator))

    def fitted_to(self, q: Float[Tensor, "B D Nq"], k: Float[Tensor, "B D N"]) -> Fitted:
        """Return the attention whose `summarise` and `read` are to be used for a picture with these q and k.

        Positive features do not depend on the picture: it is this module itself. See `sharp.py` for others.
        """
        return self

    def summarise(self, k: Float[Tensor, "B D N"], v: Float[Tensor, "B E N"]) -> KeyValueSummary:
        """Summarise the positions of `k` and `v`, in at least float32; `combine` adds up tiles."""
        return self.summarise_with(k, v, self.projection)

    def read(self, q: Float[Tensor, "B D N"], image: KeyValueSummary) -> Float[Tensor, "B E N"]:
        """Return attention's output at the positions of `q`, in q's type."""
        return self.read_with(q, image, self.projection)

    def log_key_features(self, k: Float[Tensor, "B D N"]) -> Float[Tensor, "B M N"]:
        """Return log phi(k)."""
        return log_features(k, self.projection, floor=self.floor)

    def log_query_features(self, q: Float[Tensor, "B D N"]) -> Float[Tensor, "B M N"]:
        """Return log phi(q)."""
        return log_features(q, self.projection, floor=self.floor)

    def summarise_with(
        self, k: Float[Tensor, "B D N"], v: Float[Tensor, "B E N"], f: Float[Tensor, "M D"]
    ) -> KeyValueSummary:
        """`summarise` with the features `f`."""
        if ops.are_allowed(f):
            return KeyValueSummary(*ops.summarise(k, v, f, floor=self.floor, kernel=self.kernel))
        with ops.autocast_disabled(k):
            return summarise(log_features(k, f, floor=self.floor), v)

    def read_with(
        self, q: Float[Tensor, "B D N"], image: KeyValueSummary, f: Float[Tensor, "M D"]
    ) -> Float[Tensor, "B E N"]:
        """`read` with the features `f`."""
        if ops.are_allowed(f):
            return ops.read(q, *image, f, floor=self.floor, kernel=self.kernel)
        with ops.autocast_disabled(q):
            return read(log_features(q, f, floor=self.floor), image).to(q.dtype)

    def forward(
        self, q: Float[Tensor, "B D Nq"], k: Float[Tensor, "B D N"], v: Float[Tensor, "B E N"]
    ) -> Float[Tensor, "B E Nq"]:
        """Attend from each query to all positions, in time linear in Nq + N; in q's type."""
        attend = self.fitted_to(q, k)
        return attend.read(q, attend.summarise(k, v))
