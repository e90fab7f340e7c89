"""The Triton kernels against their PyTorch twin: run by `test_kernels.py`, in a process of its own.

Triton decides when it is first imported whether it compiles or interprets (TRITON_INTERPRET=1).
"""

import pytest
import torch
from torch import Tensor

from enlca.attention import blocks, kernels
from enlca.attention.linear import LinearAttend

B, N, NQ, D, M, E = 2, 139, 61, 13, 37, 7  # distinct primes: a swapped axis cannot hide
# Relative to the largest number: sums in another order, or one rounding to the type and the other way.
ROUNDING = {torch.float32: 3e-6, torch.bfloat16: 2**-7, torch.float16: 2**-10}
DTYPES = list(ROUNDING)


@pytest.fixture
def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def inputs(dtype: torch.dtype, device: str) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    shapes = ((B, D, NQ), (B, D, N), (B, E, N))
    return [torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes]


def assert_close_summary(mine: tuple[Tensor, ...], theirs: tuple[Tensor, ...], dtype: torch.dtype) -> None:
    """The summary is in float32; on tensor cores its products are as exact as `dtype` is."""
    assert_same(mine, theirs, dtype if torch.cuda.is_available() else torch.float32)


def assert_same(mine: tuple[Tensor, ...], theirs: tuple[Tensor, ...], dtype: torch.dtype) -> None:
    for a, b in zip(mine, theirs, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert float((a - b).detach().abs().max()) <= ROUNDING[dtype] * float(b.detach().abs().max())


@pytest.mark.parametrize("floor", [0.0, 1e-4])
@pytest.mark.parametrize("dtype", DTYPES)
def test_kernels_are_their_twin_in_value_and_gradient(monkeypatch, device, dtype, floor):
    monkeypatch.setattr(kernels, "PARTS", 2)
    q, k, v = inputs(dtype, device)
    f = LinearAttend(D, n_features=M, generator=torch.Generator().manual_seed(7)).projection.to(device)
    image = blocks.summarise_forward(k, v, f, floor)
    assert_close_summary(kernels.summarise_forward(k, v, f, floor), image, dtype)
    y = blocks.read_forward(q, *image, f, floor)
    assert_same((kernels.read_forward(q, *image, f, floor),), (y,), dtype)
    torch.manual_seed(11)
    upstream = [torch.randn_like(u) for u in (*image, y)]
    arguments = (*upstream[:2], k, v, f, *image, floor)
    assert_same(kernels.summarise_backward(*arguments), blocks.summarise_backward(*arguments), dtype)
    arguments = (upstream[2], q, *image, f, floor)
    assert_same(kernels.read_backward(*arguments), blocks.read_backward(*arguments), dtype)


def test_the_switch_leads_to_the_kernels_and_is_off_by_default(monkeypatch, device):
    calls = []
    for name in ("summarise_forward", "read_forward", "summarise_backward", "read_backward"):
        real = getattr(kernels, name)
        monkeypatch.setattr(kernels, name, lambda *a, name=name, real=real: (calls.append(name), real(*a))[1])
    module = LinearAttend(D, n_features=M).to(device)
    q, k, v = (u.requires_grad_() for u in inputs(torch.float32, device))
    expected = module(q, k, v)
    assert not calls
    module.kernel = "triton"
    found = module(q, k, v)
    assert_same((found,), (expected,), torch.float32)
    gradients = (torch.autograd.grad(y.square().sum(), (q, k, v)) for y in (found, expected))
    assert_same(*gradients, torch.float32)
    assert calls == ["summarise_forward", "read_forward", "read_backward", "summarise_backward"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_layout_and_any_finite_input_will_do(device, dtype):
    largest = torch.finfo(dtype).max
    f = LinearAttend(D, n_features=M).projection.to(device)
    q, k, v = inputs(dtype, device)
    channels_last = [u.mT.contiguous().mT for u in (q, k, v)]
    image = kernels.summarise_forward(k, v, f, 0.0)
    assert_same(kernels.summarise_forward(*channels_last[1:], f, 0.0), image, torch.float32)
    y = kernels.read_forward(q, *image, f, 0.0)
    assert_same((kernels.read_forward(channels_last[0], *image, f, 0.0),), (y,), dtype)
    for u in (q.sign() * largest, q * 0):
        image = kernels.summarise_forward(k.sign() * largest, torch.full_like(v, largest), f, 0.0)
        assert bool(kernels.read_forward(u, *image, f, 0.0).isfinite().all())


@pytest.mark.parametrize("name", ["q", "k", "v"])
def test_what_is_not_a_number_is_not_hidden(device, name):
    f = LinearAttend(D, n_features=M).projection.to(device)
    given = dict(zip("qkv", inputs(torch.float32, device), strict=True))
    given[name][0, 3, 5] = torch.nan
    for twin in (blocks, kernels):
        image = twin.summarise_forward(given["k"], given["v"], f, 0.0)
        y = twin.read_forward(given["q"], *image, f, 0.0)
        assert bool(y[0].isnan().any()), twin
        assert bool(y[1].isfinite().all()), twin
