"""Attention inside windows against its definition: the whole softmax with all far pairs left out."""

import pytest
import torch
from torch import Tensor

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


@pytest.mark.parametrize(("side", "step"), [(16, 8), (7, 3), (5, 5), (3, 5)])
def test_the_gradient_of_cutting_windows_out_is_that_of_unfold(side, step):
    u = torch.randn(2, side + 2 * step, side + 3 * step, 3, dtype=torch.float64, requires_grad=True)
    fast, slow = module._windows(u, side, step), module._cut(u, side, step)
    assert torch.equal(fast, slow)
    upstream = torch.randn_like(slow)
    gradients = [torch.autograd.grad(y, u, upstream)[0] for y in (fast, slow)]
    torch.testing.assert_close(*gradients)
    assert torch.autograd.gradgradcheck(lambda x: module._windows(x, side, step).square(), u[:1, :, :, :1])


@torch.no_grad()
def test_the_parts_that_a_picture_is_cut_into_leave_no_seam(monkeypatch):
    qkv = inputs(23, 37)
    at_once = WindowAttend(window=5, halo=3)(*qkv, width=37)
    monkeypatch.setattr(module, "WINDOWS", 2)
    monkeypatch.setattr(module, "COLUMNS", 2)
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
