"""Chop against a literal reading of its description, self-ensemble against its symmetries."""

import pytest
import torch
from torch import Tensor

from enlca.inference.transforms import chopped, dihedral, quadrant, self_ensemble, undo_dihedral

SCALE = 2


def nearest(lr: Tensor) -> Tensor:
    return lr.repeat_interleave(SCALE, -2).repeat_interleave(SCALE, -1)


def seen(lr: Tensor) -> Tensor:
    """A network that tells what it saw: each pixel plus the mean of the picture that it was given."""
    return nearest(lr + lr.mean())


def picture(height: int, width: int) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1))


def literal_chop(x: Tensor) -> Tensor:
    """DESIGN section 5, last rows, quadrant by quadrant."""
    h, w = x.shape[-2:]
    h_half, w_half = h // 2, w // 2
    h_size, w_size = h_half + 10, w_half + 10
    h_size += 4 - h_size % 4
    w_size += 8 - w_size % 8
    quarters = [
        x[..., 0:h_size, 0:w_size],
        x[..., 0:h_size, w - w_size : w],
        x[..., h - h_size : h, 0:w_size],
        x[..., h - h_size : h, w - w_size : w],
    ]
    outs = [seen(q) if h_size * w_size < 120_000 else literal_chop(q) for q in quarters]
    h, w, h_half, w_half, h_size, w_size = (SCALE * n for n in (h, w, h_half, w_half, h_size, w_size))
    out = torch.empty(1, 3, h, w)
    out[..., 0:h_half, 0:w_half] = outs[0][..., 0:h_half, 0:w_half]
    out[..., 0:h_half, w_half:w] = outs[1][..., 0:h_half, w_size - w + w_half : w_size]
    out[..., h_half:h, 0:w_half] = outs[2][..., h_size - h + h_half : h_size, 0:w_half]
    out[..., h_half:h, w_half:w] = outs[3][..., h_size - h + h_half : h_size, w_size - w + w_half : w_size]
    return out


@pytest.mark.parametrize(("height", "width"), [(37, 41), (61, 101), (64, 96), (701, 709), (1451, 83)])
def test_chop_is_the_released_code_s(height, width):
    x = picture(height, width)
    assert torch.equal(chopped(seen, scale=SCALE)(x), literal_chop(x))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (7, 11), (28, 5), (5, 997)])
def test_chop_of_small_pictures_ends_at_their_borders(height, width):
    x = picture(height, width)
    assert torch.equal(chopped(nearest, scale=SCALE)(x), nearest(x))


def test_quadrants_grow_by_a_full_step_where_they_already_divide():
    assert quadrant(100, 108) == (64, 72)
    assert quadrant(101, 109) == (64, 72)


def test_chop_hides_the_whole_picture_from_the_network():
    x = picture(61, 101)
    assert not torch.allclose(chopped(seen, scale=SCALE)(x), seen(x))


def test_the_eight_views_are_different_and_each_is_undone():
    x = picture(13, 11)
    views = [dihedral(x, index) for index in range(8)]
    for index, view in enumerate(views):
        assert torch.equal(undo_dihedral(view, index), x)
    square = [dihedral(picture(11, 11), index) for index in range(8)]
    assert len({view.numpy().tobytes() for view in square}) == 8


def test_self_ensemble_leaves_an_equivariant_network_as_it_is():
    x = picture(13, 11)
    torch.testing.assert_close(self_ensemble(seen)(x), seen(x))


def test_self_ensemble_makes_any_network_equivariant():
    def lopsided(lr: Tensor) -> Tensor:
        return nearest(lr * torch.linspace(0, 1, lr.shape[-1]))

    x = picture(13, 11)
    together = self_ensemble(lopsided)
    for index in range(8):
        torch.testing.assert_close(together(dihedral(x, index)), dihedral(together(x), index))
    assert not torch.allclose(lopsided(dihedral(x, 2)), dihedral(lopsided(x), 2))


def test_self_ensemble_is_the_mean_of_the_views():
    def lopsided(lr: Tensor) -> Tensor:
        return nearest(lr * torch.linspace(0, 1, lr.shape[-1]))

    x = picture(5, 7)
    views = torch.stack([undo_dihedral(lopsided(dihedral(x, index)), index) for index in range(8)])
    torch.testing.assert_close(self_ensemble(lopsided)(x), views.mean(dim=0))
