"""Finite in every type for inputs at which a plain exponential overflows."""

import pytest
import torch
from torch import Tensor

from enlca.attention.exact import ExactAttend
from enlca.attention.features import positive_features
from enlca.attention.linear import LinearAttend

D, M, E = 13, 31, 7
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
# Relative to the largest value: rounding the inputs to the type, then fp32 arithmetic on both sides.
OUTPUT_ROUNDING = {torch.float32: 1e-5, torch.bfloat16: 2**-8, torch.float16: 2**-11}


def attend() -> LinearAttend:
    return LinearAttend(D, n_features=M, generator=torch.Generator().manual_seed(3))


def values(n: int, *, size: float = 1.0) -> Tensor:
    return size * (2 * torch.rand(1, E, n, generator=torch.Generator().manual_seed(1)) - 1)


def aligned(module: LinearAttend, n: int, length: float) -> Tensor:
    """Vectors along the rows of F: f.u is as large as it can be."""
    rows = module.projection / module.projection.norm(dim=1, keepdim=True)
    return length * rows[torch.arange(n) % M].T[None]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [6.0**0.5, 30.0, 200.0])
def test_queries_and_keys_along_rows_of_the_projection_stay_finite(dtype, length):
    module = attend()
    u = aligned(module, 61, length).to(dtype)
    v = values(61).to(dtype)
    y = module(u, u, v)
    assert y.dtype == dtype
    assert bool(y.isfinite().all())
    assert float(y.abs().max()) <= float(v.abs().max()) * (1 + OUTPUT_ROUNDING[dtype])


def test_a_plain_exponential_overflows_where_this_one_does_not():
    module = attend()
    u = aligned(module, 61, 200.0)
    # The twin of the test above: without shifts the same inputs are lost (inf, or 0 / 0).
    phi = positive_features(u, module.projection)
    plain = (phi.mT @ phi) / (phi.mT @ phi).sum(dim=-1, keepdim=True)
    assert not bool(plain.isfinite().all())
    assert bool(module(u, u, values(61)).isfinite().all())


@pytest.mark.parametrize("dtype", DTYPES)
def test_equal_keys_give_the_mean_value(dtype):
    module = attend()
    k = aligned(module, 1, 6.0**0.5).expand(1, D, 61).to(dtype)
    q = aligned(module, 61, 6.0**0.5).to(dtype)
    v = values(61).to(dtype)
    expected = v.float().mean(dim=-1, keepdim=True).expand_as(v)
    torch.testing.assert_close(
        module(q, k, v).float(), expected, atol=OUTPUT_ROUNDING[dtype], rtol=OUTPUT_ROUNDING[dtype]
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_million_positions_sum_without_loss(dtype):
    n = 1_000_003
    module = LinearAttend(D, n_features=5, generator=torch.Generator().manual_seed(3))
    u = torch.randn(1, D, 1, generator=torch.Generator().manual_seed(1)).expand(1, D, n).to(dtype)
    v = torch.ones(1, 1, n, dtype=dtype)
    torch.testing.assert_close(module(u[..., :3], u, v), v[..., :3], rtol=OUTPUT_ROUNDING[dtype] * 4, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_largest_finite_inputs_stay_finite(dtype):
    largest = torch.finfo(dtype).max
    module = attend()
    signs = torch.randn(1, D, 61, generator=torch.Generator().manual_seed(1)).sign().to(dtype)
    for scale in (largest, largest**0.5, torch.finfo(dtype).tiny, 0.0):
        u = signs * scale
        v = values(61).to(dtype)
        assert bool(module(u, u, v).isfinite().all()), scale
        assert bool(module(u, u, v.sign() * largest).isfinite().all()), scale


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_of_adversarial_inputs_are_finite(dtype):
    module = attend()
    u = aligned(module, 61, 50.0).to(dtype).requires_grad_()
    v = values(61).to(dtype).requires_grad_()
    for gradient in torch.autograd.grad(module(u, u, v).float().square().sum(), (u, v)):
        assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("dtype", DTYPES)
def test_exact_attention_is_finite_too(dtype):
    u = aligned(attend(), 61, 200.0).to(dtype)
    y = ExactAttend()(u, u, values(61).to(dtype))
    assert y.dtype == dtype
    assert bool(y.isfinite().all())
