"""The estimator beside Eq. 7 and the dense forms, and copies of networks that say what they are."""

import math
from functools import cache

import pytest
import torch
from torch import Tensor

from enlca.analysis.approximation import (
    Moments,
    attend_with,
    draw,
    eq7_variance,
    error_over,
    estimator_moments,
    independent_gaussian,
    output_error,
    with_estimator,
)
from enlca.attention.block import NonLocalBlock
from enlca.attention.exact import ExactAttend, dense_attention
from enlca.attention.features import orthogonal_gaussian, positive_features
from enlca.checkpoint.file import load_file, save
from enlca.network.sr import SRNetwork
from enlca.network.zoo import enlcn_tiny

N, D, M, E = 97, 13, 31, 7  # distinct primes
COSINES = (-0.9, 0.0, 0.7)
ESTIMATORS = [{"kind": "exact"}, {"n_features": M}, {"orthogonal": False}, {"features": "sharp"}]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pairs(k: float, cosines: tuple[float, ...] = COSINES) -> tuple[Tensor, Tensor]:
    """q and k of length sqrt(k), a column for each angle between them."""
    q, u = torch.zeros(2, D, len(cosines), dtype=torch.float64)
    q[0] = 1.0
    u[0] = torch.tensor(cosines)
    u[1] = (1 - u[0].square()).sqrt()
    return math.sqrt(k) * q, math.sqrt(k) * u


def qkv(k: float, n: int = N) -> tuple[Tensor, Tensor, Tensor]:
    generator = seeded(5)
    q, u = (torch.randn(2, D, n, generator=generator) for _ in range(2))
    q, u = (math.sqrt(k) * x / x.norm(dim=1, keepdim=True) for x in (q, u))
    return q, u, torch.randn(2, E, n, generator=generator)


def test_independent_rows_have_the_law_of_gaussian_vectors():
    rows = independent_gaussian(20_011, D, generator=seeded(1)).double()
    n = len(rows)
    assert float(rows.mean(dim=0).abs().max()) < 5 / math.sqrt(n)
    # The variance of a square is 2, that of a product of two coordinates 1.
    off = rows.mT @ rows / n - torch.eye(D)
    assert float(off.abs().max()) < 5 * math.sqrt(2 / n)


def test_independent_rows_come_from_the_generator_alone():
    first, again, other = (independent_gaussian(M, D, generator=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(("m", "dim"), [(0, 3), (3, 0)])
@pytest.mark.parametrize("orthogonal", [True, False])
def test_impossible_sizes_are_refused(m, dim, orthogonal):
    with pytest.raises(ValueError, match=f"must be at least 1, got {m} and {dim}"):
        draw(m, dim, orthogonal=orthogonal, generator=seeded(1))


def test_eq_7_is_the_variance_of_a_log_normal_mean():
    k = 0.5
    for cosine, found in zip(COSINES, eq7_variance(*pairs(k), M), strict=True):
        kernel, squares = math.exp(k * cosine), 2 * k * (1 + cosine)
        assert float(found) == pytest.approx(kernel**2 * (math.exp(squares) - 1) / M)


@cache
def at_small_k(*, orthogonal: bool) -> Moments:
    q, k = pairs(0.3)
    return estimator_moments(q, k, n_features=D, draws=1000, orthogonal=orthogonal, generator=seeded(2))


@pytest.mark.parametrize("orthogonal", [True, False])
def test_the_estimate_is_unbiased_where_k_is_small(orthogonal):
    found = at_small_k(orthogonal=orthogonal)
    assert bool(((found.mean - 1).abs() < 4 * found.mean_error).all())


def test_independent_features_vary_as_eq_7_says_and_orthogonal_ones_less():
    found = at_small_k(orthogonal=False)
    assert bool(((found.variance - found.eq7).abs() < 4 * found.variance_error).all())
    assert bool((at_small_k(orthogonal=True).variance < found.variance).all())


def test_moments_are_relative_to_the_kernel():
    q, k = pairs(0.3)
    kernel = (q * k).sum(dim=0).exp()
    torch.testing.assert_close(at_small_k(orthogonal=False).eq7 * kernel.square(), eq7_variance(q, k, D))


def test_at_the_paper_s_k_the_mean_of_many_draws_still_misses_most_of_the_kernel():
    # |q + k|^2 = 24: half of the mean comes from features with f.u > 24, one in two million.
    found = estimator_moments(
        *pairs(6.0, (1.0,)), n_features=64, draws=50, orthogonal=True, generator=seeded(1)
    )
    assert float(found.mean) < 0.5
    assert float(found.median) < 0.1
    assert float(found.variance) < float(found.eq7) / 100


def test_large_k_overflows_only_what_cannot_be_written():
    found = estimator_moments(
        *pairs(500.0, (1.0,)), n_features=8, draws=2, orthogonal=True, generator=seeded(1)
    )
    assert bool(torch.stack([found.mean, found.variance, found.median]).isfinite().all())
    assert math.isinf(float(found.eq7))


@pytest.mark.parametrize("floor", [0.0, 1e-4])
def test_the_output_s_error_is_that_of_the_dense_forms(floor):
    q, k, v = qkv(6.0)
    f = orthogonal_gaussian(M, D, generator=seeded(7))
    weights = positive_features(q, f, floor=floor).mT @ positive_features(k, f, floor=floor)
    estimate = v @ (weights / weights.sum(dim=-1, keepdim=True)).mT
    exact = dense_attention(q, k, v)
    expected = float((estimate - exact).norm() / exact.norm())
    assert output_error(q, k, v, projection=f, floor=floor) == pytest.approx(expected, rel=1e-4)


def test_features_of_zeros_weight_all_positions_equally():
    q, k, v = qkv(6.0)
    exact = dense_attention(q, k, v)
    expected = float((v.mean(dim=-1, keepdim=True) - exact).norm() / exact.norm())
    assert output_error(q, k, v, projection=torch.zeros(1, D)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("orthogonal", [True, False])
def test_the_error_falls_with_the_square_root_of_m_where_k_is_small(orthogonal):
    few, many = error_over(
        *qkv(1.0), amplifications=[0.5], n_features=[64, 4096], draws=8, generator=seeded(3),
        orthogonal=[orthogonal],
    )  # fmt: skip
    assert few.mean / many.mean == pytest.approx(8, rel=0.25)


def test_the_error_over_draws_is_mean_and_deviation_at_the_asked_lengths():
    draws = 3
    rows = list(
        error_over(*qkv(1.0), amplifications=[0.5, 6.0], n_features=[M], draws=draws, generator=seeded(3))
    )
    assert [row[:3] for row in rows] == [(k, M, kind) for k in (0.5, 6.0) for kind in (True, False)]
    again = seeded(3)
    for row in rows:
        fs = [draw(M, D, orthogonal=row.orthogonal, generator=again) for _ in range(draws)]
        errors = [output_error(*qkv(row.amplification), projection=f) for f in fs]
        assert row.mean == pytest.approx(float(torch.tensor(errors).mean()), rel=1e-4)
        assert row.deviation == pytest.approx(float(torch.tensor(errors).std()), rel=1e-2)


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"draws": 1}, "at least 2 draws"), ({"amplifications": [6.0, 0.0]}, "amplifications must be positive")],
)
def test_impossible_errors_are_refused(settings, words):
    asked = {"amplifications": [6.0], "n_features": [M], "draws": 2, "generator": seeded(1), **settings}
    with pytest.raises(ValueError, match=words):
        next(error_over(*qkv(1.0), **asked))


def test_one_draw_has_no_variance():
    with pytest.raises(ValueError, match="at least 2 draws, got 1"):
        estimator_moments(*pairs(1.0), n_features=M, draws=1, orthogonal=True, generator=seeded(1))


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
def test_a_copy_is_a_network_like_any_other(tiny_network, tmp_path, estimator):
    lr = torch.rand(1, 3, 7, 5, generator=seeded(1))
    made = with_estimator(tiny_network, **estimator)
    save(made, tmp_path / "copy.safetensors")
    again, card = load_file(tmp_path / "copy.safetensors")
    assert card.network == made.config
    assert not made.training
    with torch.inference_mode():
        assert torch.equal(again(lr), made(lr))


def test_the_copy_s_config_says_what_it_is(tiny_network):
    own = tiny_network.config
    exact, more = (
        with_estimator(tiny_network, kind="exact").config,
        with_estimator(tiny_network, n_features=M),
    )
    assert (exact.attention, exact.n_features) == ("exact", own.n_features)
    assert (more.config.attention, more.config.n_features) == ("linear", M)
    assert with_estimator(tiny_network, features="sharp").config.features == "sharp"
    assert with_estimator(tiny_network).config == own


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
def test_copying_leaves_the_network_and_its_weights_alone(tiny_network, estimator):
    before = {name: tensor.clone() for name, tensor in tiny_network.state_dict().items()}
    made = with_estimator(tiny_network, **estimator).state_dict()
    for name, tensor in tiny_network.state_dict().items():
        assert torch.equal(tensor, before[name])
        if "projection" not in name:
            assert torch.equal(made[name], tensor)


def test_the_exact_copy_attends_exactly(tiny_network):
    own, copies = (
        [stage for stage in network.body if isinstance(stage, NonLocalBlock)]
        for network in (tiny_network, with_estimator(tiny_network, kind="exact"))
    )
    x = torch.randn(1, tiny_network.config.channels, 5, 7, generator=seeded(1))
    for mine, other in zip(own, copies, strict=True):
        assert isinstance(other.attend, ExactAttend)
        with torch.inference_mode():
            y = dense_attention(*mine.embed(x)).unflatten(-1, (5, 7))
            torch.testing.assert_close(other(x), x + mine.res_scale * y)


def test_every_block_has_features_of_its_own_that_come_from_the_seed(tiny_network):
    def features(**settings: object) -> list[Tensor]:
        made = with_estimator(tiny_network, n_features=M, **settings).state_dict()  # pyright: ignore[reportArgumentType]
        return [tensor for name, tensor in made.items() if name.endswith("projection")]

    first, again, other = features(seed=1), features(seed=1), features(seed=2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], features(seed=1, orthogonal=False)[0])


def test_copies_come_near_the_exact_one_as_features_grow_where_k_is_small():
    with torch.random.fork_rng():
        torch.manual_seed(7)
        small = {"channels": 8, "n_blocks": 2, "blocks_per_stage": 1, "embed_channels": 4}
        network: SRNetwork = enlcn_tiny(2, amplification=0.5, **small).eval()
    lr = torch.rand(1, 3, 7, 11, generator=seeded(1))
    with torch.inference_mode():
        exact = with_estimator(network, kind="exact")(lr)
        few, many = (
            sum(float((with_estimator(network, n_features=m, seed=s)(lr) - exact).norm()) for s in range(3))
            for m in (16, 1024)
        )
    # 1 / sqrt(64) is expected of 64 times the features; half of that is asked.
    assert many < few / 4


@pytest.mark.parametrize("attention", ["none", "exact", "lsh"])
def test_networks_without_random_features_are_refused(attention):
    network = enlcn_tiny(2, attention=attention, channels=4, n_blocks=1, blocks_per_stage=1, embed_channels=2)
    with pytest.raises(ValueError, match=f"attention '{attention}' has no random features"):
        with_estimator(network)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "lsh"}, "unknown kind of attention 'lsh'"),
        ({"n_features": 0}, "n_features must be at least 1"),
    ],
)
def test_impossible_estimators_are_refused(tiny_network, settings, words):
    with pytest.raises(ValueError, match=words):
        with_estimator(tiny_network, **settings)


def test_attention_with_given_features_takes_nothing_from_the_global_generator():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    f = orthogonal_gaussian(M, D, generator=seeded(7))
    assert attend_with(f, floor=1e-4).projection is f
    assert torch.equal(torch.random.get_rng_state(), before)
