"""Sharp features: positive random features fitted to the picture's own queries and keys.

Softmax attention does not change under three maps, so they may be chosen to make the estimate of Eq. 4 as
good as possible. With means mu_q, mu_k and covariances C_q, C_k over the positions of the picture:

    centre     k -> k - mu_k divides all weights of a query by one number, which cancels;
               q -> q - mu_q becomes a weight exp(mu_q.(k - mu_k)) of each key
    balance    q -> T (q - mu_q), k -> T^-T (k - mu_k) changes no inner product; with S = C_q^(1/2) and
               T = (S C_k S)^(1/4) S^-1 both have the covariance (S C_k S)^(1/2)
    sharpen    phi_r(u) = exp( A |f_r|^2 + B f_r.u - |u|^2/2 ), B = sqrt(1 - 4A), estimates exp(q.k) without
               bias for any A < 1/8; the least variance at the mean s of |q + k|^2 has
               A = (1 - 1/rho)/8, rho = 2d / (sqrt((2s + d)^2 + 8ds) + 2s + d)   (Likhosherstov et al. 2022)

All of it is an affine map before the features of Eq. 4 and a number for each feature after them, so
`chunked.py` and the Triton kernels compute it as they are. With P = B F and c = T mu_q:

    keys       u_k = T^-T (k - mu_k) - c    P.u_k - |u_k|^2/2  =  log phi_r(k) + mu_q.(k - mu_k) - P_r.c
                                            but for A |f_r|^2 and a number that all features share
    queries    log phi_r(q)  =  (P T)_r.q - P_r.c + A |f_r|^2, but for a number of the query, which cancels

So the query needs no map at all, and `read` takes log_total_r + 2A |f_r|^2.

The statistics are sums over positions: those of tiles add up. They count as constants in the backward pass:
softmax attention depends on none of them, so their gradient is noise of the estimate alone.

Letters:  B batch   D embedding channels   M random features   N positions   E value channels
         Nq positions of queries, where they may be others than N
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from enlca.attention import ops
from enlca.attention.features import log_features
from enlca.attention.linear import KeyValueSummary, LinearAttend
from enlca.attention.workspace import CHUNK

# What each kind of features does beyond Eq. 4; the kinds before "sharp" are its ablation.
FEATURES = {
    "centred": frozenset(),
    "balanced": frozenset({"balance"}),
    "sharp": frozenset({"balance", "sharpen"}),
}
# Added to each variance: a share of their mean, since directions without variance have no scale to balance,
# and a share of the mean square, which is above the rounding of the sums.
LEAST_VARIANCE, LEAST_SQUARE = 1e-3, 1e-5
# The roots of a matrix of condition 1e7 have converged after so many.
NEWTON_STEPS = 30


class Statistics(NamedTuple):
    """Sums over positions, in float64: numbers of queries and keys, q, k, products of their coordinates."""

    n_q: Float[Tensor, ""]
    n_k: Float[Tensor, ""]
    q: Float[Tensor, "B D"]
    k: Float[Tensor, "B D"]
    qq: Float[Tensor, "B D D"]
    kk: Float[Tensor, "B D D"]

    def to(self, device: torch.device | str, dtype: torch.dtype) -> "Statistics":
        """Convert all sums: in float64, those of many tiles lose no digits."""
        return Statistics(*(part.to(device, dtype) for part in self))


class Frame(NamedTuple):
    """The map of the keys, `u_k = to_k k - from_k`, and the features' projections and numbers."""

    to_k: Float[Tensor, "B D D"]
    from_k: Float[Tensor, "B D 1"]
    of_keys: Float[Tensor, "B M D"]
    of_queries: Float[Tensor, "B M D"]
    log_weight: Float[Tensor, "B M"]


@torch.no_grad()
def statistics(q: Float[Tensor, "B D Nq"], k: Float[Tensor, "B D N"]) -> Statistics:
    """Sum up the positions of a tile, or of a whole picture."""
    # Apple's GPUs have no float64.
    dtype = torch.float32 if q.device.type == "mps" else torch.float64
    n_q, n_k = (torch.full((), u.shape[-1], dtype=dtype, device=u.device) for u in (q, k))
    with ops.autocast_disabled(q):
        (sum_q, qq), (sum_k, kk) = (_moments(u, dtype) for u in (q, k))
    return Statistics(n_q, n_k, sum_q, sum_k, qq, kk)


def _moments(
    u: Float[Tensor, "B D N"], dtype: torch.dtype
) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D D"]]:
    # Chunks of positions, then the chunks in float64: 10^6 positions in one product would lose three digits.
    u = u.to(torch.promote_types(u.dtype, torch.float32))
    chunks = u.shape[-1] // CHUNK
    rest = u[..., chunks * CHUNK :]
    total, square = rest.sum(-1).to(dtype), (rest @ rest.mT).to(dtype)
    if chunks:
        whole = u[..., : chunks * CHUNK].unflatten(-1, (chunks, CHUNK)).transpose(1, 2)
        total = total + whole.sum(-1).to(dtype).sum(1)
        square = square + (whole @ whole.mT).to(dtype).sum(1)
    return total, square


def add(a: Statistics, b: Statistics) -> Statistics:
    """Return the statistics of two disjoint sets of positions together."""
    return Statistics(*(one + other for one, other in zip(a, b, strict=True)))


@torch.no_grad()
def fit(seen: Statistics, projection: Float[Tensor, "M D"], *, kind: str) -> Frame:
    """Fit the features `kind`, one of FEATURES, to the statistics of the whole picture.

    The frame is on the projection's device, in its type, float32 at least.
    """
    with ops.autocast_disabled(projection):
        parts, f = FEATURES[kind], projection.to(seen.q)
        mean_q, mean_k = (seen.q / seen.n_q).unsqueeze(-1), (seen.k / seen.n_k).unsqueeze(-1)
        cov_q, cov_k = _covariance(mean_q, seen.qq / seen.n_q), _covariance(mean_k, seen.kk / seen.n_k)
        d = f.shape[1]
        to_q = to_k = torch.eye(d, dtype=f.dtype, device=f.device).expand_as(cov_q)
        if "balance" in parts:
            root, inverse = roots(cov_q, order=2)
            up, down = roots(root @ cov_k @ root, order=4)
            to_q, to_k = up @ inverse, down @ root
        a = torch.zeros_like(mean_q[:, :1])
        if "sharpen" in parts:
            # The means are zero, so the mean of |q + k|^2 is the sum of both variances.
            s = ((to_q @ cov_q * to_q) + (to_k @ cov_k * to_k)).sum((-2, -1)).view_as(a)
            by_rho = (((2 * s + d) ** 2 + 8 * d * s).sqrt() + 2 * s + d) / (2 * d)
            a = (1 - by_rho) / 8
        own = (1 - 4 * a).sqrt() * f
        from_k = to_k @ mean_k + to_q @ mean_q
        frame = to_k, from_k, own, own @ to_q, (2 * a).squeeze(-1) * f.square().sum(-1)
        dtype = torch.promote_types(projection.dtype, torch.float32)
        return Frame(*(part.to(projection.device, dtype) for part in frame))


def roots(
    matrices: Float[Tensor, "B D D"], *, order: int
) -> tuple[Float[Tensor, "B D D"], Float[Tensor, "B D D"]]:
    """Return C^(1/order) and its inverse, of symmetric positive definite matrices; `order` is 2 or 4.

    By the eigenvalues on a CPU, else by products alone, which do not wait for a GPU.
    """
    if matrices.device.type == "cpu":
        values, basis = torch.linalg.eigh(matrices)
        powers = values.clamp_min(torch.finfo(values.dtype).tiny).pow(1 / order).unsqueeze(-2)
        return basis * powers @ basis.mT, basis / powers @ basis.mT
    root, inverse = newton_schulz(matrices)
    return (root, inverse) if order == 2 else newton_schulz(root)


def newton_schulz(
    matrices: Float[Tensor, "*B D D"],
) -> tuple[Float[Tensor, "*B D D"], Float[Tensor, "*B D D"]]:
    """Return C^(1/2) and C^(-1/2) by the coupled Newton-Schulz iteration (Higham 2008, Eq. 6.35).

    Nothing is divided or subtracted: exported graphs contain it, see `export/attends.py`.
    """
    eye = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    square = (matrices * matrices).sum((-2, -1), keepdim=True)
    root, inverse = matrices * square.pow(-0.5), eye.expand_as(matrices)
    for _ in range(NEWTON_STEPS):
        step = 1.5 * eye + -0.5 * (inverse @ root)
        root, inverse = root @ step, step @ inverse
    return root * square.pow(0.25), inverse * square.pow(-0.25)


def _covariance(mean: Float[Tensor, "B D 1"], square: Float[Tensor, "B D D"]) -> Float[Tensor, "B D D"]:
    covariance = square - mean * mean.mT
    variance, power = (part.diagonal(dim1=-2, dim2=-1).mean(-1) for part in (covariance, square))
    least = LEAST_VARIANCE * variance.clamp_min(0) + LEAST_SQUARE * power + torch.finfo(torch.float32).tiny
    return covariance + torch.diag_embed(least.unsqueeze(-1).expand(mean.shape[:2]))


class FittedAttend(NamedTuple):
    """ENLA with features fitted to one picture, or one frame for each picture of a batch."""

    attend: LinearAttend
    frame: Frame

    def summarise(self, k: Float[Tensor, "B D N"], v: Float[Tensor, "B E N"]) -> KeyValueSummary:
        """Summarise the positions of `k` and `v`; `linear.combine` adds up tiles of one frame."""
        images = zip(self._mapped(k).split(1), v.split(1), self.frame.of_keys, strict=True)
        parts = [self.attend.summarise_with(*image) for image in images]
        return KeyValueSummary(*map(_joined, zip(*parts, strict=True)))

    def read(self, q: Float[Tensor, "B D N"], image: KeyValueSummary) -> Float[Tensor, "B E N"]:
        """Return attention's output at the positions of `q`, in q's type."""
        log_total = image.log_total + self.frame.log_weight
        summaries = map(KeyValueSummary, image.mean.split(1), log_total.split(1))
        images = zip(q.split(1), summaries, self.frame.of_queries, strict=True)
        return _joined([self.attend.read_with(*image) for image in images])

    def log_key_features(self, k: Float[Tensor, "B D N"]) -> Float[Tensor, "B M N"]:
        """Return log phi(k) of each feature, but for a number of each feature; see `log_query_features`."""
        u = self._mapped(k)
        return torch.cat([log_features(*image) for image in zip(u.split(1), self.frame.of_keys, strict=True)])

    def log_query_features(self, q: Float[Tensor, "B D N"]) -> Float[Tensor, "B M N"]:
        """Return log phi(q) and the numbers that `log_key_features` leaves out, but for one of each query."""
        dtype = torch.promote_types(q.dtype, self.frame.of_queries.dtype)
        return self.frame.of_queries.to(dtype) @ q.to(dtype) + self.frame.log_weight.unsqueeze(-1)

    def _mapped(self, k: Float[Tensor, "B D N"]) -> Float[Tensor, "B D N"]:
        with ops.autocast_disabled(k):
            dtype = torch.promote_types(k.dtype, self.frame.to_k.dtype)
            return torch.baddbmm(-self.frame.from_k.to(dtype), self.frame.to_k.to(dtype), k.to(dtype))


def _joined(images: Iterable[Tensor]) -> Tensor:
    # `cat` would copy a single one.
    first, *others = images
    return torch.cat([first, *others]) if others else first


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

    def fitted(self, seen: Statistics) -> FittedAttend:
        """Fit the features to the statistics of the whole picture."""
        return FittedAttend(self, fit(seen, self.projection, kind=self.features))

    def fitted_to(self, q: Float[Tensor, "B D Nq"], k: Float[Tensor, "B D N"]) -> FittedAttend:
        """Fit the features to all queries and keys of a picture."""
        return self.fitted(statistics(q, k))
