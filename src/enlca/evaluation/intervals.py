"""Confidence intervals of a mean difference between two methods.

Pictures differ far more from each other than methods do: so methods are compared picture by picture, and the
interval is that of the mean of the differences. Trained networks differ by their seed as well: two arms that
share seeds, patches and pictures are compared in a table of seeds by pictures.

Letters:  P pictures   S seeds
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

CONFIDENCE = 0.95
DRAWS = 10_000


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean difference and its confidence interval; `low` and `high` are infinite where there is none."""

    mean: float
    low: float
    high: float

    @property
    def decided(self) -> bool:
        """Whether the interval excludes zero: whether one of the two is better."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def paired_interval(
    differences: Sequence[float] | Float[np.ndarray, "P"], *, confidence: float = CONFIDENCE
) -> Interval:
    """Return Student's t interval of the mean of paired differences, of one for each picture or each seed.

    One difference has no interval: its ends are infinite.

    Raises:
        ValueError: no differences, some that are not finite, or a confidence outside (0, 1).
    """
    values = _finite(differences)
    mean, n = float(values.mean()), len(values)
    if n == 1:
        return Interval(mean=mean, low=-math.inf, high=math.inf)
    margin = student_t(confidence, n - 1) * float(values.std(ddof=1)) / math.sqrt(n)
    return Interval(mean=mean, low=mean - margin, high=mean + margin)


def bootstrap_interval(
    differences: Float[np.ndarray, "S P"],
    *,
    confidence: float = CONFIDENCE,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """Return the percentile interval of the mean difference under a bootstrap over seeds and pictures.

    Every seed was scored on the same pictures, so that all seeds share what a picture adds to the difference.
    Hence each draw takes S seeds and, once for all of them, P pictures, both with replacement; other pictures
    for each seed would make the interval too narrow.
    (Owen 2007, "The pigeonhole bootstrap", which is conservative for two crossed factors)

    With few seeds the sample of seeds says little of their spread: report Student's t over the seeds' means,
    `paired_interval(differences.mean(axis=1))`, beside it. One seed leaves an interval over pictures alone.

    Args:
        differences: of the two arms, a row for each seed.
        confidence: probability that the interval covers the mean.
        draws: bootstrap samples.
        seed: of the draws: the same numbers give the same interval.

    Raises:
        ValueError: no differences, some that are not finite, or a confidence outside (0, 1).
    """
    values = _finite(differences)
    _check(confidence)
    generator = np.random.default_rng(seed)
    # How often each seed and each picture is drawn; the mean of a draw is a product with these weights.
    rows, columns = (generator.multinomial(n, np.full(n, 1 / n), size=draws) / n for n in values.shape)
    means = np.einsum("ds,sp,dp->d", rows, values, columns, optimize=True)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, (tail, 1 - tail))
    return Interval(mean=float(values.mean()), low=float(low), high=float(high))


def student_t(confidence: float, freedom: int) -> float:
    """Return the t that |Student's t| of `freedom` degrees stays below with probability `confidence`.

    Raises:
        ValueError: a confidence outside (0, 1), or less than one degree of freedom.
    """
    _check(confidence)
    if freedom < 1:
        raise ValueError(f"Student's t needs at least 1 degree of freedom, got {freedom}")
    low, high = 0.0, math.pi / 2
    while low < (angle := (low + high) / 2) < high:
        low, high = (angle, high) if _coverage(angle, freedom) < confidence else (low, angle)
    return math.sqrt(freedom) * math.tan(angle)


def _coverage(angle: float, freedom: int) -> float:
    """Return P(|t| < sqrt(freedom) tan(angle)): a finite sum. (Abramowitz and Stegun 1964, 26.7.3, 26.7.4)"""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = 0.0
    for power in range(odd, freedom - 1, 2):
        total += term
        term *= cosine**2 * (power + 1) / (power + 2)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def _finite(differences: Sequence[float] | np.ndarray) -> np.ndarray:
    values = np.asarray(differences, dtype=np.float64)
    if values.size == 0:
        raise ValueError("there are no differences")
    if not np.isfinite(values).all():
        raise ValueError("differences must be finite: equal pictures have an infinite PSNR")
    return values


def _check(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
