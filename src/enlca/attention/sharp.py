"""Sharp features: positive random features fitted to the picture's own queries and keys.

Softmax attention does not change under three maps, so they may be chosen to make the estimate of Eq. 4 as
good as possible. With means mu_q, mu_k and covariances C_q, C_k over the positions of the picture:

    centre     k -> k - mu_k divides all weights of a query by one number, which cancels;
               q -> q - mu_q becomes a weight exp(mu_q.(k - mu_k)) of each key
    balance    q -> T (q - mu_q), k -> T^-1 (k - mu_k) changes no inner product; T^2, the geometric mean of
               C_k and C_q^-1, gives both one covariance (Bhatia 2007, Eq. 4.8)
    sharpen    phi_r(u) = exp( A |f_r|^2 + B f_r.u - |u|^2/2 ), B = sqrt(1 - 4A), estimates exp(q.k) without
               bias for any A < 1/8; the least variance at the mean s of |q + k|^2 has
               A = (1 - 1/rho)/8, rho = 2d / (sqrt((2s + d)^2 + 8ds) + 2s + d)   (Likhosherstov et al. 2022)

All of it is an affine map before the features of Eq. 4 and a number for each feature after them, so
`chunked.py` and the Triton kernels compute it as they are. With P = B F and c = T mu_q:

    u_k = T^-1 (k - mu_k) - c       P.u_k - |u_k|^2/2  =  log phi_r(k) - A |f_r|^2 + c.u - P.c - |c|^2/2
    u_q = T (q - mu_q)              so  log_total_r + P_r.c + 2A |f_r|^2  is what `read` takes

The statistics are sums over positions: those of tiles add up. They count as constants in the backward pass:
softmax attention depends on none of them, so their gradient is noise of the estimate alone.

Letters:  B batch   D embedding channels   M random features   N positions   E value channels
         Nq positions of queries, where they may be others than N
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from enlca.attention import ops
from enlca.attention.linear import KeyValueSummary, LinearAttend

# What each kind of features does beyond Eq. 4; the kinds before "sharp" are its ablation.
FEATURES = {
    "centred": frozenset(),
    "balanced": frozenset({"balance"}),
    "sharp": frozenset({"balance", "sharpen"}),
}
# Added to each variance: a share of their mean, since directions without variance have no scale to balance,
# and a share of the mean square, which is above the rounding of the sums.
LEAST_VARIANCE, LEAST_SQUARE = 1e-3, 1e-5
# The root of a matrix of condition 1e7 has converged after so many.
NEWTON_STEPS = 30


class Statistics(NamedTuple):
    """Sums over positions: their number, q, k, and the products of their coordinates; in float64."""

    count: Float[Tensor, ""]
    q: Float[Tensor, "B D"]
    k: Float[Tensor, "B D"]
    qq: Float[Tensor, "B D D"]
    kk: Float[Tensor, "B D D"]


class Frame(NamedTuple):
    """The affine maps `u_q = to_q q - from_q`, `u_k = to_k k - from_k`, and P and the features' numbers."""

    to_q: Float[Tensor, "B D D"]
    from_q: Float[Tensor, "B D 1"]
    to_k: Float[Tensor, "B D D"]
    from_k: Float[Tensor, "B D 1"]
    projection: Float[Tensor, "B M D"]
    log_weight: Float[Tensor, "B M"]


@torch.no_grad()
def statistics(q: Float[Tensor, "B D N"], k: Float[Tensor, "B D N"]) -> Statistics:
    """Sum up the positions of a tile, or of a whole picture."""
    q, k = q.float(), k.float()
    count = torch.full((), q.shape[-1], dtype=_double(q), device=q.device)
    sums = (q.sum(-1), k.sum(-1), q @ q.mT, k @ k.mT)
    return Statistics(count, *(part.to(count.dtype) for part in sums))


def add(a: Statistics, b: Statistics) -> Statistics:
    """Return the statistics of two disjoint sets of positions together."""
    return Statistics(*(one + other for one, other in zip(a, b, strict=True)))


@torch.no_grad()
def fit(seen: Statistics, projection: Float[Tensor, "M D"], *, kind: str) -> Frame:
    """Fit the features `kind`, one of FEATURES, to the statistics of the whole picture."""
    parts, f = FEATURES[kind], projection.to(seen.q.dtype)
    mean_q, mean_k = seen.q / seen.count, seen.k / seen.count
    cov_q, cov_k = (
        _covariance(mean, square / seen.count) for mean, square in ((mean_q, seen.qq), (mean_k, seen.kk))
    )
    d = len(f[0])
    to_q = to_k = torch.eye(d, dtype=f.dtype, device=f.device).expand_as(cov_q)
    if "balance" in parts:
        root, inverse = square_roots(cov_q)
        to_q, to_k = square_roots(inverse @ square_roots(root @ cov_k @ root)[0] @ inverse)
    a = torch.zeros_like(seen.q[:, :1])
    if "sharpen" in parts:
        # T is symmetric. The means are zero, so |q + k|^2 is the sum of both variances.
        s = ((to_q @ cov_q * to_q).sum((-2, -1)) + (to_k @ cov_k * to_k).sum((-2, -1))).unsqueeze(-1)
        rho = 2 * d / (((2 * s + d) ** 2 + 8 * d * s).sqrt() + 2 * s + d)
        a = (1 - 1 / rho) / 8
    own = (1 - 4 * a).sqrt().unsqueeze(-1) * f
    centre = to_q @ mean_q.unsqueeze(-1)
    log_weight = (own @ centre).squeeze(-1) + 2 * a * f.square().sum(-1)
    maps = (to_q, centre, to_k, to_k @ mean_k.unsqueeze(-1) + centre, own, log_weight)
    return Frame(*(part.float() for part in maps))


def square_roots(
    matrices: Float[Tensor, "B D D"],
) -> tuple[Float[Tensor, "B D D"], Float[Tensor, "B D D"]]:
    """Return C^(1/2) and C^(-1/2) of symmetric positive definite matrices.

    By the coupled Newton-Schulz iteration (Higham 2008, Eq. 6.35): products alone, which exported graphs can
    hold, and which do not wait for a GPU.
    """
    eye = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    size = matrices.square().sum((-2, -1), keepdim=True).sqrt()
    root, inverse = matrices / size, eye.expand_as(matrices)
    for _ in range(NEWTON_STEPS):
        step = 1.5 * eye - 0.5 * inverse @ root
        root, inverse = root @ step, step @ inverse
    return root * size.sqrt(), inverse / size.sqrt()


def _covariance(mean: Float[Tensor, "B D"], square: Float[Tensor, "B D D"]) -> Float[Tensor, "B D D"]:
    covariance = square - mean.unsqueeze(-1) * mean.unsqueeze(-2)
    variance, power = (part.diagonal(dim1=-2, dim2=-1).mean(-1) for part in (covariance, square))
    least = LEAST_VARIANCE * variance.clamp_min(0) + LEAST_SQUARE * power + torch.finfo(torch.float32).tiny
    return covariance + torch.diag_embed(least.unsqueeze(-1).expand_as(mean))


def _double(u: Tensor) -> torch.dtype:
    # Apple's GPUs have no float64.
    return torch.float32 if u.device.type == "mps" else torch.float64


class SharpAttend(LinearAttend):
    """ENLA with features fitted to the picture: statistics, then summary, then read.

    Args:
        dim: channels of q and k (the paper's c).
        n_features: the paper's m.
        features: one of FEATURES: "sharp", or "centred" and "balanced", which leave out later parts.
        generator: source of F; None is torch's global generator.

    Raises:
        ValueError: for unknown features, or if `n_features` or `dim` is below 1.
    """

    def __init__(
        self,
        dim: int,
        *,
        n_features: int = 128,
        features: str = "sharp",
        generator: torch.Generator | None = None,
    ):
        super().__init__(dim, n_features=n_features, generator=generator)
        if features not in FEATURES:
            raise ValueError(f"features must be one of {', '.join(FEATURES)}; got {features!r}")
        self.features = features

    def fit(self, seen: Statistics) -> Frame:
        """Fit the features to the statistics of the whole picture."""
        return fit(seen, self.projection, kind=self.features)

    def summarise(
        self, k: Float[Tensor, "B D N"], v: Float[Tensor, "B E N"], frame: Frame
    ) -> KeyValueSummary:
        """Summarise the positions of `k` and `v`; `linear.combine` adds up tiles of one frame."""
        with ops.autocast_disabled(k):
            u = frame.to_k @ k.float() - frame.from_k
        images = zip(u.split(1), v.split(1), frame.projection, strict=True)
        parts = [self._summarise(*image) for image in images]
        return KeyValueSummary(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def read(self, q: Float[Tensor, "B D N"], image: KeyValueSummary, frame: Frame) -> Float[Tensor, "B E N"]:
        """Return attention's output at the positions of `q`, in q's type."""
        with ops.autocast_disabled(q):
            u = (frame.to_q @ q.float() - frame.from_q).to(q.dtype)
        summaries = map(KeyValueSummary, image.mean.split(1), (image.log_total + frame.log_weight).split(1))
        images = zip(u.split(1), summaries, frame.projection, strict=True)
        return torch.cat([self._read(*image) for image in images])

    def forward(
        self, q: Float[Tensor, "B D Nq"], k: Float[Tensor, "B D N"], v: Float[Tensor, "B E N"]
    ) -> Float[Tensor, "B E Nq"]:
        """Attend from each query to all positions, in time linear in Nq + N; in q's type."""
        frame = self.fit(statistics(q, k))
        return self.read(q, self.summarise(k, v, frame), frame)
