import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from enlca.inference.tiles import Region, crop, cut

sides = st.integers(1, 70)


@st.composite
def regions(draw: st.DrawFn) -> tuple[Region, Region]:
    """A picture, and a part of it."""
    height, width = draw(sides), draw(sides)
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    bottom, right = draw(st.integers(top + 1, height)), draw(st.integers(left + 1, width))
    return Region(0, 0, height, width), Region(top, left, bottom, right)


@settings(max_examples=40, deadline=None)
@given(regions(), sides, sides)
def test_tiles_cover_every_pixel_exactly_once_and_none_is_too_large(pair, height, width):
    whole, region = pair
    tiles = cut(region, height, width)
    seen = torch.zeros(whole.height, whole.width, dtype=torch.int)
    for tile in tiles:
        assert 1 <= tile.height <= height
        assert 1 <= tile.width <= width
        crop(seen, tile, whole).add_(1)
    inside = torch.zeros_like(seen)
    crop(inside, region, whole).fill_(1)
    assert torch.equal(seen, inside)


@settings(max_examples=40, deadline=None)
@given(regions(), sides, sides)
def test_tiles_come_row_by_row(pair, height, width):
    tiles = cut(pair[1], height, width)
    assert tiles == sorted(tiles)


@settings(max_examples=40, deadline=None)
@given(regions(), st.integers(0, 80))
def test_a_halo_never_leaves_the_picture_and_is_complete_inside_it(pair, halo):
    whole, region = pair
    wide = region.grown(halo, whole)
    expected = {
        (y, x)
        for y in range(region.top - halo, region.bottom + halo)
        for x in (region.left - halo, region.right + halo - 1)
        if 0 <= y < whole.height and 0 <= x < whole.width
    }
    assert 0 <= wide.top <= region.top < region.bottom <= wide.bottom <= whole.height
    assert 0 <= wide.left <= region.left < region.right <= wide.right <= whole.width
    assert all(wide.top <= y < wide.bottom and wide.left <= x < wide.right for y, x in expected)
    assert region.top - wide.top <= halo >= wide.bottom - region.bottom
    assert region.left - wide.left <= halo >= wide.right - region.right


@settings(max_examples=40, deadline=None)
@given(regions(), st.integers(0, 9), st.integers(1, 4))
def test_what_is_cropped_from_a_wider_part_is_what_lies_in_the_picture(pair, halo, scale):
    whole, region = (part.times(scale) for part in pair)
    picture = torch.arange(whole.height * whole.width).view(1, whole.height, whole.width)
    wide = region.grown(halo, whole)
    part = crop(crop(picture, wide, whole), region, wide)
    assert torch.equal(part, picture[:, region.top : region.bottom, region.left : region.right])


@pytest.mark.parametrize(("height", "width"), [(0, 5), (5, -1)])
def test_a_tile_without_pixels_is_refused(height, width):
    with pytest.raises(ValueError, match=f"at least 1 x 1, got {height} x {width}"):
        cut(Region(0, 0, 9, 9), height, width)
