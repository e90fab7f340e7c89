"""Approximation error of ENLA against the softmax that it estimates.

    one pair   phi(q)^T phi(k) against exp(q.k) over redraws of F, and Eq. 7            `estimator_moments`
    output     |ENLA - exact| / |exact| over k and m                                    `error_over`
    network    a copy with exact attention or other features, to be scored              `with_estimator`

Letters:  B batch   D embedding channels   E value channels   N positions   M random features
          P pairs of vectors, a column each
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from enlca.attention.block import linear_attend, unit
from enlca.attention.exact import ExactAttend
from enlca.attention.features import orthogonal_gaussian
from enlca.attention.linear import LinearAttend
from enlca.network.sr import SRNetwork

KINDS = ("exact", "linear")


def independent_gaussian(n_features: int, dim: int, *, generator: torch.Generator) -> Float[Tensor, "M D"]:
    """Draw independent rows f ~ N(0, I), for which Eq. 7 holds; in float64, returned as float32.

    Raises:
        ValueError: if `n_features` or `dim` is below 1.
    """
    if n_features < 1 or dim < 1:
        raise ValueError(f"n_features and dim must be at least 1, got {n_features} and {dim}")
    rows = torch.randn(n_features, dim, generator=generator, device=generator.device, dtype=torch.float64)
    return rows.float()


def draw(n_features: int, dim: int, *, orthogonal: bool, generator: torch.Generator) -> Float[Tensor, "M D"]:
    """Draw F with orthogonal or independent rows."""
    return (orthogonal_gaussian if orthogonal else independent_gaussian)(n_features, dim, generator=generator)


def eq7_variance(q: Float[Tensor, "D P"], k: Float[Tensor, "D P"], n_features: int) -> Float[Tensor, "P"]:
    """Return Var(phi(q)^T phi(k)) = exp(q.k)^2 ( exp(|q + k|^2) - 1 ) / m, of each pair.  (Eq. 7)

    For independent features, as printed in the paper; orthogonal ones vary less. In float64, infinite
    where that overflows.
    """
    q, k = q.double(), k.double()
    return (2 * (q * k).sum(dim=0)).exp() * (q + k).square().sum(dim=0).expm1() / n_features


class Moments(NamedTuple):
    """Estimates of exp(q.k), divided by exp(q.k), over redraws of F: ideal are a mean of 1, a variance of 0.

    Attributes:
        mean: of the draws.
        mean_error: its standard error, by Eq. 7.
        variance: of single draws (n - 1).
        variance_error: its standard error, by the sample's own fourth moment.
        median: of the draws.
        eq7: the variance that Eq. 7 predicts for independent features, divided by exp(q.k)^2.
    """

    mean: Float[Tensor, "P"]
    mean_error: Float[Tensor, "P"]
    variance: Float[Tensor, "P"]
    variance_error: Float[Tensor, "P"]
    median: Float[Tensor, "P"]
    eq7: Float[Tensor, "P"]


@torch.inference_mode()
def estimator_moments(
    q: Float[Tensor, "D P"],
    k: Float[Tensor, "D P"],
    *,
    n_features: int,
    draws: int,
    orthogonal: bool,
    generator: torch.Generator,
) -> Moments:
    """Measure the estimator of each pair, in float64.

    phi(q)^T phi(k) / exp(q.k) = mean_r exp( f_r.u - |u|^2/2 ) with u = q + k: a mean of log-normal numbers,
    which does not overflow for any |u| that attention has; `eq7` is infinite from |u|^2 = 710 on. Where |u|^2
    is well above 2 log(m draws), mean and variance depend on features that are practically never drawn: for
    any affordable number of draws the measured ones are far below 1 and Eq. 7, and the median is near 0.

    Raises:
        ValueError: if there are fewer than two draws.
    """
    if draws < 2:
        raise ValueError(f"a variance takes at least 2 draws, got {draws}")
    u = q.double() + k.double()
    squares = u.square().sum(dim=0)
    sample = torch.empty(draws, u.shape[1], dtype=torch.float64, device=u.device)
    for row in sample:
        f = draw(n_features, len(u), orthogonal=orthogonal, generator=generator).to(u)
        row.copy_((f @ u - squares / 2).exp().mean(dim=0))
    variance = sample.var(dim=0)
    fourth = (sample - sample.mean(dim=0)).pow(4).mean(dim=0)
    eq7 = squares.expm1() / n_features
    return Moments(
        mean=sample.mean(dim=0),
        mean_error=(eq7 / draws).sqrt(),
        variance=variance,
        variance_error=((fourth - variance.square()).clamp_min(0) / draws).sqrt(),
        median=sample.median(dim=0).values,
        eq7=eq7,
    )


def attend_with(
    projection: Float[Tensor, "M D"], *, features: str = "positive", floor: float = 0.0
) -> LinearAttend:
    """Build ENLA with F = `projection`; `features` and `floor` as in `NonLocalBlock`."""
    attend = linear_attend(
        projection.shape[1], n_features=1, features=features, floor=floor, generator=torch.Generator()
    )
    attend.projection = projection
    return attend


@torch.inference_mode()
def output_error(
    q: Float[Tensor, "B D N"],
    k: Float[Tensor, "B D N"],
    v: Float[Tensor, "B E N"],
    *,
    projection: Float[Tensor, "M D"],
    features: str = "positive",
    floor: float = 0.0,
) -> float:
    """Return |ENLA - exact| / |exact|, norms over all positions and channels.

    A projection of zeros, with positive features, weights all positions equally, and gives the error of the
    plain mean of the values.
    """
    attend = attend_with(projection, features=features, floor=floor)
    return _relative(attend(q, k, v), ExactAttend()(q, k, v))


def _relative(y: Tensor, exact: Tensor) -> float:
    return float((y - exact).norm() / exact.norm())


class Error(NamedTuple):
    """`output_error` over redraws of F: mean, and deviation of single draws (n - 1)."""

    amplification: float
    n_features: int
    orthogonal: bool
    mean: float
    deviation: float


@torch.inference_mode()
def error_over(
    q: Float[Tensor, "B D N"],
    k: Float[Tensor, "B D N"],
    v: Float[Tensor, "B E N"],
    *,
    amplifications: Sequence[float],
    n_features: Sequence[int],
    draws: int,
    generator: torch.Generator,
    orthogonal: Sequence[bool] = (True, False),
    features: str = "positive",
    floor: float = 0.0,
) -> Iterator[Error]:
    """Yield the output's error for each k, each m and each kind of F.

    For every k, the vectors `q` and `k` (random, or from `NonLocalBlock.embed` of a trained network) are
    scaled to length sqrt(k).

    Raises:
        ValueError: if there are fewer than two draws, or a k is not positive; raised by the first `next`.
    """
    if draws < 2:
        raise ValueError(f"a spread takes at least 2 draws, got {draws}")
    if min(amplifications) <= 0:
        raise ValueError(f"amplifications must be positive, got {min(amplifications)}")
    for amplification in amplifications:
        queries, keys = (unit(u, eps=1e-12, length=amplification**0.5) for u in (q, k))
        exact = ExactAttend()(queries, keys, v)
        for m in n_features:
            for kind in orthogonal:
                errors = q.new_empty(draws, dtype=torch.float64)
                for number in range(draws):
                    f = draw(m, q.shape[1], orthogonal=kind, generator=generator).to(q)
                    attend = attend_with(f, features=features, floor=floor)
                    errors[number] = _relative(attend(queries, keys, v), exact)
                yield Error(amplification, m, kind, float(errors.mean()), float(errors.std()))


def with_estimator(
    network: SRNetwork,
    *,
    kind: str = "linear",
    n_features: int | None = None,
    features: str | None = None,
    seed: int = 0,
    orthogonal: bool = True,
) -> SRNetwork:
    """Copy a trained network with another estimator of the softmax, or with the softmax itself.

    The copy's `config` says so, hence it can be saved, loaded and scored as any network.

    Args:
        network: with linear attention.
        kind: "exact", or "linear" with new features, drawn for each block.
        n_features: the m of the copy; None is that of `network`. "linear" only.
        features: the kind of features of the copy; None is that of `network`. "linear" only.
        seed: of the features. "linear" only.
        orthogonal: whether they are orthogonal, `dim` rows at a time. "linear" only.

    Raises:
        ValueError: for an unknown `kind`, a network without linear attention, or an `n_features` below 1.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind of attention {kind!r}; choose from {', '.join(KINDS)}")
    if network.config.attention != "linear":
        raise ValueError(f"attention {network.config.attention!r} has no random features to replace")
    m = network.config.n_features if n_features is None else n_features
    changed = copy.deepcopy(network)
    features = network.config.features if features is None else features
    changed.config = replace(network.config, attention=kind, n_features=m, features=features)
    generator = torch.Generator().manual_seed(seed)
    for block in changed.non_local_blocks:
        old = block.attend
        assert isinstance(old, LinearAttend)
        block.attend = ExactAttend()
        if kind == "linear":
            f = draw(m, old.projection.shape[1], orthogonal=orthogonal, generator=generator)
            block.attend = attend_with(f.to(old.projection), features=features, floor=old.floor)
        block.attend.train(old.training)
    return changed
