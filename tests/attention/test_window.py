"""Attention inside windows against its definition: the whole softmax with all far pairs left out."""

import pytest
import torch
from torch import Tensor

from enlca.attention import cutting
from enlca.attention import window as module
from enlca.attention.block import NonLocalBlock
from enlca.attention.exact import dense_attention
from enlca.attention.window import WindowAttend

B, D, E = 2, 5, 7
SIZES = [(13, 17), (1, 1), (1, 23), (29, 3)]


def inputs(height: int, width: int, channels: tuple[int, ...] = (D, D, E)) -> list[Tensor]:
    generator = torch.Generator().manual_seed(height)
    return [
        torch.randn(B, c, height * width, generator=generator, dtype=torch.float64).requires_grad_()
        for c in channels
    ]


def near(height: int, width: int, *, window: int, halo: int) -> Tensor:
    """Which keys a query meets, position by position."""
    row, column = (torch.arange(height * width) // width, torch.arange(height * width) % width)

    def along(at: Tensor) -> Tensor:
        first = at // window * window
        return (at >= (first - halo)[:, None]) & (at < (first + window + halo)[:, None])

    return along(row) & along(column)


def slow(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return v @ (q.mT @ k).masked_fill(~mask, -torch.inf).softmax(dim=-1).mT


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("window", "halo"), [(5, 3), (4, 0), (3, 7), (1, 0)])
def test_windows_are_the_softmax_without_far_pairs_in_value_and_gradient(size, window, halo):
    qkv = inputs(*size)
    fast = WindowAttend(window=window, halo=halo)(*qkv, width=size[1])
    expected = slow(*qkv, near(*size, window=window, halo=halo))
    torch.testing.assert_close(fast, expected)
    with torch.no_grad():
        torch.testing.assert_close(WindowAttend(window=window, halo=halo)(*qkv, width=size[1]), expected)
    upstream = torch.randn_like(expected)
    for a, b in zip(
        torch.autograd.grad(fast, qkv, upstream), torch.autograd.grad(expected, qkv, upstream), strict=True
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("size", SIZES)
def test_many_rows_at_a_time_as_on_a_gpu_are_the_same(size, monkeypatch):
    qkv = inputs(*size)

    def results() -> list[Tensor]:
        y = WindowAttend(window=5, halo=3)(*qkv, width=size[1])
        return [y, *torch.autograd.grad(y, qkv, torch.ones_like(y))]

    expected = results()
    monkeypatch.setattr(module, "runs", lambda windows, n_keys, apart=1: cutting.rows_apart(windows, apart))
    for a, b in zip(results(), expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("size", SIZES)
def test_gradients_of_gradients_are_those_of_the_softmax(size):
    qkv = inputs(*size)
    attend, mask = WindowAttend(window=5, halo=3), near(*size, window=5, halo=3)

    def second(y: Tensor) -> tuple[Tensor, ...]:
        first = torch.autograd.grad(y.square().sum(), qkv, create_graph=True)
        return torch.autograd.grad(torch.stack([u.square().sum() for u in first]).sum(), qkv)

    for a, b in zip(second(attend(*qkv, width=size[1])), second(slow(*qkv, mask)), strict=True):
        torch.testing.assert_close(a, b)


def test_only_the_gradients_that_are_asked_for_are_needed():
    q, k, v = inputs(13, 17)
    attend = WindowAttend(window=5, halo=3)
    whole = torch.autograd.grad(attend(q, k, v, width=17).square().sum(), v)
    alone = torch.autograd.grad(
        attend(q.detach(), k.detach(), v, width=17).square().sum(), v, create_graph=True
    )
    torch.testing.assert_close(whole, alone)


def test_training_on_bfloat16_values_rounds_only_what_is_multiplied_with_them():
    q, k, v = (u.detach().float() for u in inputs(29, 31))
    v = v.bfloat16()
    attend = WindowAttend(window=8, halo=4)

    def result(*qkv: Tensor) -> list[Tensor]:
        leaves = [u.clone().requires_grad_() for u in qkv]
        y = attend(*leaves, width=31)
        assert y.dtype == qkv[-1].dtype
        upstream = torch.linspace(-1, 1, y.numel()).view(y.shape).bfloat16().to(y.dtype)
        return [y, *torch.autograd.grad(y, leaves, upstream)]

    for rounded, exact in zip(result(q, k, v), result(q, k, v.float()), strict=True):
        error = (rounded.float() - exact).norm() / exact.norm()
        assert error < 0.01, error


@torch.no_grad()
def test_the_parts_that_a_picture_is_cut_into_leave_no_seam(monkeypatch):
    qkv = inputs(23, 37)
    at_once = WindowAttend(window=5, halo=3)(*qkv, width=37)
    monkeypatch.setattr(module, "WINDOWS", 2)
    monkeypatch.setattr(module, "COLUMNS", 2)
    monkeypatch.setattr(cutting, "SCORES", 1)
    torch.testing.assert_close(WindowAttend(window=5, halo=3)(*qkv, width=37), at_once)


def test_a_window_as_large_as_the_picture_is_exact_attention():
    q, k, v = inputs(11, 13)
    torch.testing.assert_close(WindowAttend(window=13, halo=0)(q, k, v, width=13), dense_attention(q, k, v))


def test_what_lies_outside_the_windows_has_no_effect():
    q, k, v = (u.detach() for u in inputs(13, 17))
    attend, reach = WindowAttend(window=5, halo=2), near(13, 17, window=5, halo=2)
    before = attend(q, k, v, width=17)
    changed = attend(q, k, v + 1e3 * ~reach[40], width=17)
    assert torch.equal(before[..., 40], changed[..., 40])
    assert not torch.equal(before[..., -1], changed[..., -1])


def test_equal_values_are_returned():
    q, k, v = (u.detach() for u in inputs(13, 17))
    same = torch.full_like(v, 3.25)
    torch.testing.assert_close(WindowAttend(window=5, halo=3)(q, k, same, width=17), same)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    qkv = [(30 * u.detach()).to(dtype) for u in inputs(13, 17)]
    attend = WindowAttend(window=5, halo=3)
    y = attend(*qkv, width=17)
    assert y.dtype == dtype
    torch.testing.assert_close(y, attend(*(u.float() for u in qkv), width=17).to(dtype))


def test_a_block_knows_the_width_of_its_picture():
    torch.manual_seed(1)
    block = NonLocalBlock(8, attend="window", window=4, halo=2, res_scale=1.0).double()
    x = torch.randn(B, 8, 13, 17, dtype=torch.float64)
    y = slow(*block.embed(x), near(13, 17, window=4, halo=2))
    torch.testing.assert_close(block(x), x + y.view_as(x))


@pytest.mark.parametrize("settings", [{"window": 0}, {"halo": -1}])
def test_impossible_windows_are_refused(settings):
    with pytest.raises(ValueError, match=r"window must be at least 1 and halo at least 0, got "):
        WindowAttend(**settings)
