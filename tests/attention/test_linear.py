"""Linear attention against its dense form: the same features, all pairs of positions."""

import pytest
import torch
from torch import Tensor

from enlca.attention.features import log_features, orthogonal_gaussian, positive_features
from enlca.attention.linear import KeyValueSummary, LinearAttend, combine, read, summarise

B, N, D, M, E = 2, 59, 13, 31, 7  # distinct primes: a swapped axis cannot hide
AMPLIFICATION = 6.0


def embeddings(n: int = N, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)

    def unit() -> Tensor:
        u = torch.randn(B, D, n, generator=generator, dtype=torch.float64)
        return (AMPLIFICATION**0.5 * u / u.norm(dim=1, keepdim=True)).to(dtype)

    v = torch.randn(B, E, n, generator=generator, dtype=torch.float64).to(dtype)
    return unit(), unit(), v


def projection(dtype: torch.dtype = torch.float64) -> Tensor:
    return orthogonal_gaussian(M, D, generator=torch.Generator().manual_seed(7)).to(dtype)


def dense(q: Tensor, k: Tensor, v: Tensor, f: Tensor, *, floor: float = 0.0) -> Tensor:
    """Eq. 5-6 with the N x N matrix of weights written out, and the exponentials as Eq. 4 prints them."""
    weights = positive_features(q, f, floor=floor).mT @ positive_features(k, f, floor=floor)
    return v @ (weights / weights.sum(dim=-1, keepdim=True)).mT


def fast(q: Tensor, k: Tensor, v: Tensor, f: Tensor, *, floor: float = 0.0) -> Tensor:
    return read(log_features(q, f, floor=floor), summarise(log_features(k, f, floor=floor), v))


@pytest.mark.parametrize("floor", [0.0, 1e-4])
def test_linear_is_dense_attention_with_the_same_features_in_value_and_gradient(floor):
    f = projection()
    inputs = [u.requires_grad_() for u in embeddings()]
    slow, quick = dense(*inputs, f, floor=floor), fast(*inputs, f, floor=floor)
    torch.testing.assert_close(quick, slow)
    upstream = torch.randn_like(slow)
    for a, b in zip(
        torch.autograd.grad(quick, inputs, upstream), torch.autograd.grad(slow, inputs, upstream), strict=True
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("cut", [1, 29, N - 1])
def test_summaries_of_parts_add_up_to_the_whole(cut):
    q, k, v = embeddings()
    f = projection()
    log_phi = log_features(k, f)
    parts = combine(summarise(log_phi[..., :cut], v[..., :cut]), summarise(log_phi[..., cut:], v[..., cut:]))
    whole = summarise(log_phi, v)
    torch.testing.assert_close(parts.mean, whole.mean)
    torch.testing.assert_close(parts.log_total, whole.log_total)
    torch.testing.assert_close(read(log_features(q, f), parts), read(log_features(q, f), whole))


def test_combining_is_commutative_and_associative():
    _, k, v = embeddings()
    log_phi = log_features(k, projection())
    a, b, c = (
        summarise(log_phi[..., part], v[..., part]) for part in (slice(0, 7), slice(7, 30), slice(30, None))
    )

    def same(x: KeyValueSummary, y: KeyValueSummary) -> None:
        torch.testing.assert_close(x.mean, y.mean)
        torch.testing.assert_close(x.log_total, y.log_total)

    same(combine(a, b), combine(b, a))
    same(combine(combine(a, b), c), combine(a, combine(b, c)))


def test_the_order_of_keys_does_not_matter_and_queries_keep_theirs():
    q, k, v = embeddings()
    f = projection()
    order = torch.randperm(N, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(fast(q, k[..., order], v[..., order], f), fast(q, k, v, f))
    torch.testing.assert_close(fast(q[..., order], k, v, f), fast(q, k, v, f)[..., order])


def test_the_output_is_an_average_of_values():
    q, k, v = embeddings()
    f = projection()
    y = fast(q, k, v, f)
    low, high = v.amin(dim=-1, keepdim=True), v.amax(dim=-1, keepdim=True)
    assert bool(((y >= low - 1e-12) & (y <= high + 1e-12)).all())
    constant = torch.full_like(v, 3.25)
    torch.testing.assert_close(fast(q, k, constant, f), constant)


def test_the_module_is_the_function_and_owns_only_its_projection():
    q, k, v = embeddings(dtype=torch.float32)
    module = LinearAttend(D, n_features=M, generator=torch.Generator().manual_seed(7))
    assert list(module.state_dict()) == ["projection"]
    assert not list(module.parameters())
    torch.testing.assert_close(module(q, k, v), fast(q, k, v, projection(torch.float32)))


def test_redrawing_is_a_function_of_the_generator():
    module = LinearAttend(D, n_features=M)
    before = module.projection.clone()
    module.redraw_(torch.Generator().manual_seed(11))
    first = module.projection.clone()
    module.redraw_(torch.Generator().manual_seed(11))
    assert torch.equal(module.projection, first)
    assert not torch.equal(first, before)


def test_autocast_does_not_reach_the_sums():
    q, k, v = embeddings(dtype=torch.float32)
    module = LinearAttend(D, n_features=M)
    expected = module(q, k, v)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(module(q, k, v), expected)
