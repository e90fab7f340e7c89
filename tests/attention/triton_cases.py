"""The Triton kernels against their PyTorch twin; `test_triton.py` runs these in a subprocess.

Triton decides at its first import whether it compiles or interprets (TRITON_INTERPRET=1). These tests use the
GPU if there is one, else they need the interpreter.
"""

import pytest
import torch
from torch import Tensor

from enlca.attention import chunked
from enlca.attention.features import log_features
from enlca.attention.linear import LinearAttend, read, summarise
from enlca.attention.sharp import SharpAttend
from enlca.attention.triton import launch

B, N, NQ, D, M, E = 2, 139, 61, 13, 37, 7  # distinct primes: a swapped axis cannot hide
# Relative to the largest number: sums in another order, or one rounding to the type and the other way.
ROUNDING = {torch.float32: 3e-6, torch.bfloat16: 2**-7, torch.float16: 2**-10}
DTYPES = list(ROUNDING)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# B, N, NQ, D, M, E. More value channels than `launch.FEW_CHANNELS` have other tiles.
SIZES = {"few channels": (B, N, NQ, D, M, E), "many channels": (1, 83, 47, D, M, 67)}
# The interpreter would take minutes for these.
LARGE = {"large": (2, 20011, 4099, 61, 127, 31), "large, many channels": (1, 9973, 1009, 61, 127, 257)}
if DEVICE == "cuda":
    SIZES |= LARGE
FORMULA_SIZES = SIZES if DEVICE == "cuda" else {"few channels": SIZES["few channels"]}


def inputs(dtype: torch.dtype, sizes: tuple[int, ...] = (B, N, NQ, D, M, E)) -> list[Tensor]:
    b, n, nq, d, _, e = sizes
    generator = torch.Generator().manual_seed(5)
    shapes = ((b, d, nq), (b, d, n), (b, e, n))
    return [torch.randn(shape, generator=generator).to(DEVICE, dtype) for shape in shapes]


def attend(sizes: tuple[int, ...] = (B, N, NQ, D, M, E), *, floor: float = 0.0) -> LinearAttend:
    generator = torch.Generator().manual_seed(7)
    return LinearAttend(sizes[3], n_features=sizes[4], floor=floor, generator=generator).to(DEVICE)


def assert_close_summary(mine: tuple[Tensor, ...], theirs: tuple[Tensor, ...], dtype: torch.dtype) -> None:
    """The summary is in float32; on tensor cores its products are as exact as `dtype` is."""
    assert_same(mine, theirs, dtype if DEVICE == "cuda" else torch.float32)


def assert_same(mine: tuple[Tensor, ...], theirs: tuple[Tensor, ...], dtype: torch.dtype) -> None:
    for a, b in zip(mine, theirs, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert float((a - b).detach().abs().max()) <= ROUNDING[dtype] * float(b.detach().abs().max())


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("floor", [0.0, 1e-4])
@pytest.mark.parametrize("dtype", DTYPES)
def test_kernels_are_their_twin_in_value_and_gradient(monkeypatch, dtype, floor, sizes):
    if sizes[1] == N:
        monkeypatch.setattr(launch, "PARTS", 2)
    q, k, v = inputs(dtype, sizes)
    f = attend(sizes).projection
    image = chunked.summarise_forward(k, v, f, floor)
    assert_close_summary(launch.summarise_forward(k, v, f, floor), image, dtype)
    y = chunked.read_forward(q, *image, f, floor)
    assert_same((launch.read_forward(q, *image, f, floor),), (y,), dtype)
    torch.manual_seed(11)
    upstream = [torch.randn_like(u) for u in (*image, y)]
    arguments = (*upstream[:2], k, v, f, *image, floor)
    assert_same(launch.summarise_backward(*arguments), chunked.summarise_backward(*arguments), dtype)
    arguments = (upstream[2], q, *image, f, floor)
    assert_same(launch.read_backward(*arguments), chunked.read_backward(*arguments), dtype)


@pytest.mark.parametrize("sizes", FORMULA_SIZES.values(), ids=FORMULA_SIZES)
@pytest.mark.parametrize("kernel", ["torch", "triton"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_both_kernels_are_the_formulas_in_float64_in_value_and_gradient(dtype, kernel, sizes):
    module = attend(sizes, floor=1e-4)
    module.kernel = kernel
    given = [u.requires_grad_() for u in inputs(dtype, sizes)]
    exact = [u.detach().cpu().double().requires_grad_() for u in given]
    f, (q, k, v) = module.projection.cpu(), exact
    formulas = read(log_features(q, f, floor=1e-4), summarise(log_features(k, f, floor=1e-4), v))
    found = module(*given)
    upstream = torch.randn(found.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    mine = [found, *torch.autograd.grad(found, given, upstream.to(found))]
    theirs = [formulas, *torch.autograd.grad(formulas, exact, upstream)]
    for a, b in zip(mine, theirs, strict=True):
        error = float((a.detach().cpu().double() - b.detach()).abs().max())
        # The upstream gradient is rounded to the type as well.
        assert error <= 2 * ROUNDING[dtype] * max(1.0, float(b.detach().abs().max()))


def test_the_switch_leads_to_the_kernels_and_is_off_by_default(monkeypatch):
    calls = []
    for name in ("summarise_forward", "read_forward", "summarise_backward", "read_backward"):
        real = getattr(launch, name)
        monkeypatch.setattr(launch, name, lambda *a, name=name, real=real: (calls.append(name), real(*a))[1])
    module = attend()
    q, k, v = (u.requires_grad_() for u in inputs(torch.float32))
    expected = module(q, k, v)
    assert not calls
    module.kernel = "triton"
    found = module(q, k, v)
    assert_same((found,), (expected,), torch.float32)
    gradients = (torch.autograd.grad(y.square().sum(), (q, k, v)) for y in (found, expected))
    assert_same(*gradients, torch.float32)
    assert calls == ["summarise_forward", "read_forward", "read_backward", "summarise_backward"]


def test_fitted_features_go_through_the_same_switch():
    module = SharpAttend(D, n_features=M, generator=torch.Generator().manual_seed(7)).to(DEVICE)
    results = []
    for kernel in ("torch", "triton"):
        module.kernel = kernel
        given = [u.requires_grad_() for u in inputs(torch.float32)]
        y = module(*given)
        results.append([y, *torch.autograd.grad(y.square().sum(), given)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_layout_and_any_finite_input_will_do(dtype):
    largest = torch.finfo(dtype).max
    f = attend().projection
    q, k, v = inputs(dtype)
    channels_last = [u.mT.contiguous().mT for u in (q, k, v)]
    image = launch.summarise_forward(k, v, f, 0.0)
    assert_same(launch.summarise_forward(*channels_last[1:], f, 0.0), image, torch.float32)
    y = launch.read_forward(q, *image, f, 0.0)
    assert_same((launch.read_forward(channels_last[0], *image, f, 0.0),), (y,), dtype)
    for u in (q.sign() * largest, q * 0):
        image = launch.summarise_forward(k.sign() * largest, torch.full_like(v, largest), f, 0.0)
        assert bool(launch.read_forward(u, *image, f, 0.0).isfinite().all())


@pytest.mark.parametrize("name", ["q", "k", "v"])
def test_nan_is_not_hidden(name):
    f = attend().projection
    given = dict(zip("qkv", inputs(torch.float32), strict=True))
    given[name][0, 3, 5] = torch.nan
    for twin in (chunked, launch):
        image = twin.summarise_forward(given["k"], given["v"], f, 0.0)
        y = twin.read_forward(given["q"], *image, f, 0.0)
        assert bool(y[0].isnan().any()), twin
        assert bool(y[1].isfinite().all()), twin
