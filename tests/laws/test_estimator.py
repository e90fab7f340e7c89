"""The laws of the random-feature estimator: unbiased (Eq. 4), variance (Eq. 7), orthogonal no worse."""

import math
from functools import cache

import pytest
import torch
from torch import Tensor

from enlca.attention.exact import dense_attention
from enlca.attention.features import orthogonal_gaussian, positive_features
from enlca.attention.linear import LinearAttend

D = 13


def pair(k: float, cosine: float) -> tuple[Tensor, Tensor]:
    """q and k of length sqrt(k) with a given angle between them."""
    q, u = torch.zeros(2, 1, D, 1, dtype=torch.float64)
    q[0, 0] = 1.0
    u[0, 0], u[0, 1] = cosine, math.sqrt(1 - cosine**2)
    return math.sqrt(k) * q, math.sqrt(k) * u


def eq7(k: float, cosine: float, m: int) -> float:
    """Var = K^2 (exp(|q + k|^2) - 1) / m for independent features."""
    kernel = math.exp(k * cosine)
    return kernel**2 * (math.exp(2 * k * (1 + cosine)) - 1) / m


def estimates(k: float, cosine: float, projections: Tensor) -> Tensor:
    """phi(q)^T phi(k) of each projection: `draws m D` -> `draws`."""
    phi_q, phi_k = (positive_features(u, projections.flatten(0, 1)).squeeze() for u in pair(k, cosine))
    # All draws were one large projection: undo its 1/sqrt(draws m) twice, and average within each draw.
    return (phi_q * phi_k).view(projections.shape[:2]).sum(dim=1) * len(projections)


def independent(draws: int, m: int, seed: int) -> Tensor:
    return torch.randn(draws, m, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@cache
def orthogonal(draws: int, m: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([orthogonal_gaussian(m, D, generator=generator) for _ in range(draws)]).double()


@pytest.mark.parametrize("cosine", [-0.9, 0.0, 0.7])
@pytest.mark.parametrize("draw", [independent, orthogonal], ids=["independent", "orthogonal"])
def test_the_estimate_of_the_kernel_is_unbiased(draw, cosine):
    k, m, draws = 0.5, 2 * D, 1000
    mean = estimates(k, cosine, draw(draws, m, 1)).mean()
    # Eq. 7 is the variance of one estimate (an upper bound for orthogonal features): four standard errors.
    assert abs(float(mean) - math.exp(k * cosine)) < 4 * math.sqrt(eq7(k, cosine, m) / draws)


@pytest.mark.parametrize("cosine", [-0.9, 0.0])
def test_the_variance_of_independent_features_is_eq_7(cosine):
    k, m, draws = 0.3, 29, 4000
    sample = estimates(k, cosine, independent(draws, m, seed=2))
    variance = float(sample.var())
    # The standard error of a sample variance, from the sample's own fourth moment.
    fourth = float((sample - sample.mean()).pow(4).mean())
    error = math.sqrt((fourth - variance**2) / draws)
    assert abs(variance - eq7(k, cosine, m)) < 4 * error


@pytest.mark.parametrize("cosine", [-0.9, 0.0, 0.7])
def test_orthogonal_features_are_no_worse_than_independent_ones(cosine):
    k, m, draws = 0.5, 2 * D, 1000
    spread = {}
    for name, draw in (("orthogonal", orthogonal), ("independent", independent)):
        spread[name] = float(estimates(k, cosine, draw(draws, m, 1)).var())
    assert spread["orthogonal"] < spread["independent"]


def test_rows_within_a_block_are_orthogonal_and_blocks_are_not_copies():
    f = orthogonal_gaussian(2 * D + 5, D, generator=torch.Generator().manual_seed(1)).double()
    assert f.shape == (2 * D + 5, D)
    for block in (f[:D], f[D : 2 * D], f[2 * D :]):
        gram = block @ block.T
        torch.testing.assert_close(gram, gram.diagonal().diag(), atol=1e-5, rtol=0)
    assert float((f[:D] - f[D : 2 * D]).abs().max()) > 0.1


def test_each_row_has_the_law_of_a_gaussian_vector():
    rows = orthogonal(1000, 2 * D, 1)[:, :D].reshape(-1, D)
    n = len(rows)
    squares = rows.square().sum(dim=1)
    # |f|^2 is chi-squared with D degrees: mean D, variance 2 D.
    assert abs(float(squares.mean()) - D) < 4 * math.sqrt(2 * D / n)
    # Each coordinate has mean 0 and variance 1 (variance of a square: 2).
    assert float(rows.mean(dim=0).abs().max()) < 5 / math.sqrt(n)
    assert float((rows.square().mean(dim=0) - 1).abs().max()) < 5 * math.sqrt(2 / n)


def test_features_come_from_the_generator_alone():
    draws = [orthogonal_gaussian(31, D, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize(("m", "dim"), [(0, 3), (3, 0)])
def test_impossible_sizes_are_refused(m, dim):
    with pytest.raises(ValueError, match="must be at least 1"):
        orthogonal_gaussian(m, dim)


def test_linear_attention_approaches_exact_attention_as_features_grow():
    # At k <= 1 only: at the paper's k = 6 and m = 128 the two are far apart, and Eq. 7 says why.
    generator = torch.Generator().manual_seed(8)
    q, k = (torch.randn(1, D, 97, generator=generator) for _ in range(2))
    q, k = (0.5**0.5 * u / u.norm(dim=1, keepdim=True) for u in (q, k))
    v = torch.randn(1, 7, 97, generator=generator)
    exact = dense_attention(q, k, v)

    def error(m: int) -> float:
        y = LinearAttend(D, n_features=m, generator=torch.Generator().manual_seed(m))(q, k, v)
        return float((y - exact).norm() / exact.norm())

    few, many = error(64), error(16384)
    # The error falls like 1 / sqrt(m): 16 times from 64 to 16,384; half of that is asked.
    assert many < few / 8
    assert many < 0.05
