"""Features fitted to the picture: exact identities, an unbiased estimate, and sums that add up over tiles."""

import pytest
import torch

from enlca.attention import sharp
from enlca.attention.block import NonLocalBlock
from enlca.attention.exact import ExactAttend
from enlca.attention.features import log_features, orthogonal_gaussian
from enlca.attention.linear import LinearAttend, combine
from enlca.attention.sharp import (
    FEATURES,
    FittedAttend,
    SharpAttend,
    Statistics,
    add,
    fit,
    newton_schulz,
    roots,
    statistics,
)

B, D, N, M, E = 2, 5, 53, 31, 3
KINDS = sorted(FEATURES)


def picture(seed=0, *, n=N, spread=0.1, offset=1.0, dtype=torch.float32, length=2.0):
    """q, k and v of an anisotropic picture; q and k have one length."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.logspace(0, torch.tensor(spread).log10().item(), D).view(1, D, 1)
    q, k = (torch.randn(B, D, n, generator=generator) * scale for _ in range(2))
    q, k = (u + offset * torch.randn(B, D, 1, generator=generator) for u in (q, k + 0.5 * q))
    q, k = (length * u / u.norm(dim=1, keepdim=True) for u in (q, k))
    return q.to(dtype), k.to(dtype), torch.randn(B, E, n, generator=generator).to(dtype)


def attend(kind, *, m=M, seed=1):
    return SharpAttend(D, n_features=m, features=kind, generator=torch.Generator().manual_seed(seed))


def dense(module, q, k, v, frame=None):
    """The estimate written out: every feature of every position, in float64, by the docstring's formulas."""
    seen = statistics(q, k)
    frame = frame or module.fitted(seen).frame
    f = module.projection.double()
    rows = []
    for b in range(len(q)):
        to_k = frame.to_k[b].double()
        to_q = to_k.inverse().mT
        mean_q, mean_k = seen.q[b] / seen.n_q, seen.k[b] / seen.n_k
        own = frame.of_keys[b].double()
        growth = (own.norm() / f.norm()) ** 2  # B^2 = 1 - 4A
        a = (1 - growth) / 4
        x = to_q @ (q[b].double() - mean_q.unsqueeze(1))
        y = to_k @ (k[b].double() - mean_k.unsqueeze(1))
        weight = (to_q @ mean_q) @ y
        square = a * f.square().sum(1, keepdim=True)
        phi_q = (square + own @ x - x.square().sum(0) / 2).exp()
        phi_k = (square + own @ y - y.square().sum(0) / 2 + weight).exp()
        weights = phi_q.mT @ phi_k
        rows.append((weights @ v[b].double().mT / weights.sum(1, keepdim=True)).mT)
    return torch.stack(rows)


@pytest.mark.parametrize("kind", KINDS)
def test_the_affine_maps_compute_the_features_of_the_paper(kind):
    q, k, v = picture()
    module = attend(kind)
    torch.testing.assert_close(module(q, k, v).double(), dense(module, q, k, v), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_dense_form_with_the_statistics_as_constants(kind):
    module, upstream = attend(kind), torch.randn(B, E, N, generator=torch.Generator().manual_seed(9))
    found = []
    for form in (lambda *u: module(*u), lambda *u: dense(module, *u).float()):
        leaves = [u.requires_grad_() for u in picture()]
        found.append(torch.autograd.grad(form(*leaves), leaves, upstream))
    for fast, slow in zip(*found, strict=True):
        torch.testing.assert_close(fast, slow, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_with_many_features_it_is_softmax_attention(kind):
    q, k, v = picture(length=1.0)
    many = attend(kind, m=20_000)
    torch.testing.assert_close(many(q, k, v), ExactAttend()(q, k, v), rtol=0, atol=0.03)


@pytest.mark.parametrize("kind", KINDS)
def test_the_estimate_of_the_kernel_is_unbiased_for_fixed_statistics(kind):
    q, k, _ = (u[:1] for u in picture(length=1.5))
    seen, draws = statistics(q, k), 40_000
    generator = torch.Generator().manual_seed(4)
    # Features are independent of one another in the mean: many rows are many draws.
    frame = fit(seen, orthogonal_gaussian(draws, D, generator=generator), kind=kind)
    fitted = FittedAttend(attend(kind), frame)
    log_phi_q, log_phi_k = fitted.log_query_features(q), fitted.log_key_features(k)
    products = (log_phi_q[0, :, :7].unsqueeze(-1) + log_phi_k[0, :, None, :7]).exp()
    mean, spread = products.mean(0), products.std(0) / draws**0.5
    # exp(q.k) but for a factor of each query, so that of its first key is taken out.
    wanted = (q[0, :, :7].mT @ k[0, :, :7]).exp()
    ratio = mean / wanted
    off = (ratio / ratio[:, :1] - 1).abs()
    margin = 5 * (spread / mean + (spread / mean)[:, :1])
    assert (off <= margin).all()


def relative_error(module, parts):
    exact = ExactAttend()(*parts)
    return float((module(*parts) - exact).square().mean() / exact.square().mean()) ** 0.5


def test_each_part_lowers_the_error_where_queries_and_keys_spread_in_different_directions():
    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([2.0, 1.4, 1.0, 0.7, 0.5]).view(1, D, 1)
    q, k = (torch.randn(B, D, 499, generator=generator) * scale / 2 for scale in (spread, 1 / spread))
    q, k = (u + 0.7 * torch.randn(B, D, 1, generator=generator) for u in (q, k))
    parts = (q, k, torch.randn(B, E, 499, generator=generator))
    errors = []
    for kind in ("positive", "centred", "balanced", "sharp"):
        total = 0.0
        for seed in range(12):
            generator = torch.Generator().manual_seed(seed)
            module = (
                LinearAttend(D, n_features=M, generator=generator)
                if kind == "positive"
                else SharpAttend(D, n_features=M, features=kind, generator=generator)
            )
            total += relative_error(module, parts)
        errors.append(total)
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.75 * errors[0]


def test_balancing_gives_queries_and_keys_one_covariance():
    q, k, _ = picture(n=997)
    frame = fit(statistics(q, k), torch.randn(M, D), kind="balanced")
    to_q = frame.to_k.inverse().mT
    cov_q, cov_k = (
        torch.stack([torch.cov(one) for one in maps @ u]) for maps, u in ((to_q, q), (frame.to_k, k))
    )
    torch.testing.assert_close(cov_q, cov_k, rtol=0.02, atol=1e-3)
    torch.testing.assert_close(frame.of_queries, frame.of_keys @ to_q, rtol=1e-5, atol=1e-5)


def test_isotropic_centred_data_is_left_as_it_is_but_for_the_sharpening():
    generator = torch.Generator().manual_seed(2)
    q = torch.randn(1, D, 50_021, generator=generator)
    k = torch.randn(1, D, 50_021, generator=generator)
    frame = fit(statistics(q, k), torch.randn(M, D), kind="balanced")
    torch.testing.assert_close(frame.to_k, torch.eye(D).unsqueeze(0), rtol=0, atol=0.02)
    torch.testing.assert_close(frame.of_queries, frame.of_keys, rtol=0, atol=0.1)
    torch.testing.assert_close(frame.log_weight, torch.zeros(1, M), rtol=0, atol=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_tiles_add_up_to_the_whole(kind):
    q, k, v = picture()
    module, cut = attend(kind), 19
    seen = add(statistics(q[..., :cut], k[..., :cut]), statistics(q[..., cut:], k[..., cut:]))
    for one, whole in zip(seen, statistics(q, k), strict=True):
        torch.testing.assert_close(one, whole, rtol=1e-6, atol=1e-6)
    fitted = module.fitted(Statistics(*seen))
    summary = combine(
        fitted.summarise(k[..., :cut], v[..., :cut]), fitted.summarise(k[..., cut:], v[..., cut:])
    )
    torch.testing.assert_close(fitted.read(q, summary), module(q, k, v), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_does_not_depend_on_its_company_in_the_batch(kind):
    q, k, v = picture()
    module = attend(kind)
    alone = module(q[1:], k[1:], v[1:])
    torch.testing.assert_close(module(q, k, v)[1:], alone)


@pytest.mark.parametrize("kind", KINDS)
def test_constant_pictures_and_single_positions_give_the_average_of_the_values(kind):
    module = attend(kind)
    q = torch.ones(1, D, N)
    v = torch.randn(1, E, N, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(
        module(q, q, v), v.mean(-1, keepdim=True).expand(1, E, N), rtol=1e-4, atol=1e-4
    )
    one = picture(n=1)
    torch.testing.assert_close(module(*one), one[2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_finite_and_near_float32(dtype):
    parts = picture(length=5.0)
    module = attend("sharp")
    half = module(*(part.to(dtype) for part in parts))
    assert half.dtype == dtype
    full = module(*(part.to(dtype).float() for part in parts))
    torch.testing.assert_close(half.float(), full, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize("by", ["eigenvalues", "products"])
def test_roots_are_those_of_the_eigenvalues(by, order):
    generator = torch.Generator().manual_seed(6)
    basis = torch.linalg.qr(torch.randn(3, 7, 7, generator=generator, dtype=torch.float64)).Q
    values = torch.logspace(-6, 1, 7, dtype=torch.float64)
    given = basis * values @ basis.mT
    if by == "eigenvalues":
        root, inverse = roots(given, order=order)
    else:
        root, inverse = newton_schulz(given if order == 2 else newton_schulz(given)[0])
    torch.testing.assert_close(root, basis * values.pow(1 / order) @ basis.mT, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(inverse, basis * values.pow(-1 / order) @ basis.mT, rtol=1e-6, atol=1e-4)


def test_unknown_features_are_refused():
    with pytest.raises(ValueError, match="features must be one of centred, balanced, sharp; got 'soft'"):
        SharpAttend(D, features="soft")


def test_the_least_variance_keeps_flat_directions_finite():
    q, k, v = picture()
    q[:, 2] = 0
    k[:, 3] = 0
    assert sharp.LEAST_VARIANCE > 0
    assert attend("sharp")(q, k, v).isfinite().all()


def one_pair_variance(kind, q, k, *, draws=20_000):
    """Variance of the estimate of exp(q.k), by its square: the mean of five pairs."""
    frame = fit(statistics(q, k), orthogonal_gaussian(draws, D, generator=seeded(8)), kind=kind)
    fitted = FittedAttend(attend(kind), frame)
    products = fitted.log_query_features(q[..., :5]) + fitted.log_key_features(k[..., :5])
    estimates = (products - products.amax(dim=1, keepdim=True)).double().exp()[0]
    return float((estimates.var(dim=0) / estimates.mean(dim=0).square()).mean())


def positive_variance(q, k, *, draws=20_000):
    f = orthogonal_gaussian(draws, D, generator=seeded(8))
    products = (log_features(q[..., :5], f) + log_features(k[..., :5], f))[0]
    estimates = (products - products.amax(dim=0)).double().exp()
    return float((estimates.var(dim=0) / estimates.mean(dim=0).square()).mean())


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_the_variance_is_below_that_of_positive_features_where_directions_differ():
    spread = torch.tensor([1.2, 1.0, 0.7, 0.5, 0.4]).view(1, D, 1)
    q, k = (torch.randn(1, D, 499, generator=seeded(1 + i)) * (spread, spread.flip(1))[i] / 2 for i in (0, 1))
    q, k = q + 0.5, k - 0.3
    assert one_pair_variance("sharp", q, k) < one_pair_variance("balanced", q, k)
    assert one_pair_variance("balanced", q, k) < one_pair_variance("centred", q, k)
    assert one_pair_variance("centred", q, k) < positive_variance(q, k)


def test_without_sharpening_isotropic_centred_data_have_the_features_of_the_paper():
    # A sphere's corners: mean zero and covariance 1 / D for both, exactly.
    corners = torch.cat([torch.eye(D), -torch.eye(D)], dim=1).unsqueeze(0)
    v = torch.randn(1, E, 2 * D, generator=seeded(3))
    generator = (seeded(1) for _ in range(2))
    positive = LinearAttend(D, n_features=M, generator=next(generator))
    balanced = SharpAttend(D, n_features=M, features="balanced", generator=next(generator))
    torch.testing.assert_close(balanced(corners, corners, v), positive(corners, corners, v))
    assert one_pair_variance("balanced", corners, corners) == pytest.approx(
        positive_variance(corners, corners), rel=1e-3
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_the_positions_does_not_matter(kind):
    q, k, v = picture()
    order = torch.randperm(N, generator=seeded(5))
    module = attend(kind)
    torch.testing.assert_close(
        module(q[..., order], k[..., order], v[..., order]), module(q, k, v)[..., order], rtol=1e-4, atol=1e-5
    )


def test_queries_may_be_others_than_the_positions():
    q, k, v = picture()
    module = attend("sharp")
    few = module(q[..., :17], k, v)
    torch.testing.assert_close(few.double(), dense(module, q[..., :17], k, v), rtol=1e-3, atol=1e-4)


def test_a_million_positions_lose_no_digits_in_the_statistics():
    u = torch.full((1, 2, 1_000_003), 0.1)
    seen = statistics(u, u)
    torch.testing.assert_close(seen.q, torch.full((1, 2), 100_000.3, dtype=torch.float64), rtol=1e-6, atol=0)
    torch.testing.assert_close(seen.kk, torch.full((1, 2, 2), 10_000.03).double(), rtol=5e-6, atol=0)


def test_redrawing_changes_f_and_so_the_features():
    q, k, v = picture()
    module = attend("sharp")
    before = module(q, k, v)
    module.redraw_(seeded(9))
    assert not torch.allclose(module(q, k, v), before)


def test_products_alone_find_the_frame_of_the_eigenvalues(monkeypatch):
    q, k, v = picture()
    expected = attend("sharp")(q, k, v)
    monkeypatch.setattr(
        sharp,
        "roots",
        lambda c, *, order: newton_schulz(c) if order == 2 else newton_schulz(newton_schulz(c)[0]),
    )
    torch.testing.assert_close(attend("sharp")(q, k, v), expected, rtol=1e-5, atol=1e-5)


def test_a_floor_needs_positive_features():
    with pytest.raises(ValueError, match=r"a floor .* needs positive features; got features 'sharp'"):
        NonLocalBlock(8, features="sharp", floor=1e-4)
    with pytest.raises(ValueError, match="features must be one of centred, balanced, sharp; got 'soft'"):
        NonLocalBlock(8, features="soft")


def test_a_block_takes_the_features_and_passes_its_embeddings_on():
    block = NonLocalBlock(8, features="balanced", n_features=M)
    assert isinstance(block.attend, SharpAttend)
    assert (block.attend.features, NonLocalBlock(8).attend.features) == ("balanced", "positive")
    x = torch.randn(2, 8, 5, 7, generator=seeded(4))
    y, (q, k, v) = block.forward_with_embeddings(x)
    torch.testing.assert_close(y, x + 0.1 * block.attend(q, k, v).unflatten(-1, (5, 7)))
    y.square().sum().backward()
    assert all(parameter.grad is not None for parameter in block.parameters())
