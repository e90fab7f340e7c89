"""How far ENLA is from the softmax that it estimates: one kernel value, the output, a trained network.

    one pair   phi(q)^T phi(k) against exp(q.k) over redraws of F, beside Eq. 7        `estimator_moments`
    output     |ENLA - exact| / |exact| over k and m                                    `error_over`
    network    the same weights with exact attention or other features: score the copy  `with_estimator`

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

from enlca.attention.block import unit
from enlca.attention.exact import ExactAttend
from enlca.attention.features import orthogonal_gaussian
from enlca.attention.linear import LinearAttend
from enlca.network.sr import SRNetwork

KINDS = ("exact", "linear")


def independent_gaussian(n_features: int, dim: int, *, generator: torch.Generator) -> Float[Tensor, "M D"]:
    """Rows f ~ N(0, I) of which none knows of the others: what Eq. 7 is about.

    The twin of `orthogonal_gaussian`: drawn in float64, returned as float32.

    Raises:
        ValueError: if `n_features` or `dim` is below 1.
    """
    if n_features < 1 or dim < 1:
        raise ValueError(f"n_features and dim must be at least 1, got {n_features} and {dim}")
    rows = torch.randn(n_features, dim, generator=generator, device=generator.device, dtype=torch.float64)
    return rows.float()


def draw(n_features: int, dim: int, *, orthogonal: bool, generator: torch.Generator) -> Float[Tensor, "M D"]:
    """F of either kind."""
    return (orthogonal_gaussian if orthogonal else independent_gaussian)(n_features, dim, generator=generator)


def eq7_variance(q: Float[Tensor, "D P"], k: Float[Tensor, "D P"], n_features: int) -> Float[Tensor, "P"]:
    """Var( phi(q)^T phi(k) ) = exp(q.k)^2 ( exp(|q + k|^2) - 1 ) / m, of each pair.  (Eq. 7)

    For independent features, as the paper prints it; orthogonal ones vary less. In float64, infinite
    where that overflows.
    """
    q, k = q.double(), k.double()
    return (2 * (q * k).sum(dim=0)).exp() * (q + k).square().sum(dim=0).expm1() / n_features


class Moments(NamedTuple):
    """Estimates of exp(q.k) over redraws of F, divided by exp(q.k): ideal are a mean of 1, a variance of 0.

    Attributes:
        mean: of the draws.
        mean_error: its standard error, by Eq. 7.
        variance: of single draws (n - 1).
        variance_error: its standard error, by the sample's own fourth moment.
        median: what a typical draw gives.
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
    """What the estimator does to each pair, in float64.

    phi(q)^T phi(k) / exp(q.k) = mean_r exp( f_r.u - |u|^2/2 ) with u = q + k: a mean of log-normal numbers.
    It does not overflow before |u| does by far more than attention needs; `eq7` is infinite from |u|^2 = 710
    on. Where |u|^2 is well above 2 log(m draws), mean and variance rest on features that nobody draws: what
    is measured lies far below 1 and Eq. 7, for any affordable number of draws, and the median near 0.

    Raises:
        ValueError: fewer than two draws.
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


def attend_with(projection: Float[Tensor, "M D"], *, floor: float = 0.0) -> LinearAttend:
    """ENLA with the features F = `projection`."""
    attend = LinearAttend(projection.shape[1], n_features=1, floor=floor, generator=torch.Generator())
    attend.projection = projection
    return attend


@torch.inference_mode()
def output_error(
    q: Float[Tensor, "B D N"],
    k: Float[Tensor, "B D N"],
    v: Float[Tensor, "B E N"],
    *,
    projection: Float[Tensor, "M D"],
    floor: float = 0.0,
) -> float:
    """|ENLA - exact| / |exact|, lengths over all positions and channels.

    A projection of zeros weighs all positions alike: how far the plain mean of the values is from exact.
    """
    return _relative(attend_with(projection, floor=floor)(q, k, v), ExactAttend()(q, k, v))


def _relative(y: Tensor, exact: Tensor) -> float:
    return float((y - exact).norm() / exact.norm())


class Error(NamedTuple):
    """`output_error` over redraws of F; the deviation is of single draws (n - 1)."""

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
    floor: float = 0.0,
) -> Iterator[Error]:
    """The output's error for each k, each m and each kind of F.

    Every k takes the directions of `q` and `k` with lengths sqrt(k): of random vectors, or of what
    `NonLocalBlock.embed` of a trained network gives.

    Raises:
        ValueError: fewer than two draws, or a k that is not positive; on the first step.
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
                    errors[number] = _relative(attend_with(f, floor=floor)(queries, keys, v), exact)
                yield Error(amplification, m, kind, float(errors.mean()), float(errors.std()))


def with_estimator(
    network: SRNetwork,
    *,
    kind: str = "linear",
    n_features: int | None = None,
    seed: int = 0,
    orthogonal: bool = True,
) -> SRNetwork:
    """A copy of a trained network whose attention estimates the softmax otherwise, or is the softmax itself.

    Its `config` is that of the copy, so it can be saved, loaded and scored as any network.

    Args:
        network: with linear attention.
        kind: "exact", or "linear" with features drawn anew, for each block its own.
        n_features: the m of the copy; None is that of `network`. "linear" only.
        seed: where the features come from. "linear" only.
        orthogonal: whether they are orthogonal within blocks. "linear" only.

    Raises:
        ValueError: an unknown `kind`, a network without linear attention, or an `n_features` below 1.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind of attention {kind!r}; choose from {', '.join(KINDS)}")
    if network.config.attention != "linear":
        raise ValueError(f"attention {network.config.attention!r} has no random features to replace")
    m = network.config.n_features if n_features is None else n_features
    changed = copy.deepcopy(network)
    changed.config = replace(network.config, attention=kind, n_features=m)
    generator = torch.Generator().manual_seed(seed)
    for block in changed.non_local_blocks:
        old = block.attend
        assert isinstance(old, LinearAttend)
        block.attend = ExactAttend()
        if kind == "linear":
            f = draw(m, old.projection.shape[1], orthogonal=orthogonal, generator=generator)
            block.attend = attend_with(f.to(old.projection), floor=old.floor)
        block.attend.train(old.training)
    return changed
