import tracemalloc
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enlca.checkpoint import store
from enlca.errors import CheckpointError
from enlca.image.picture import Picture, collect, collect_pages, rows_of
from enlca.image.resize import imresize
from enlca.inference import target_size
from enlca.inference.target_size import (
    RowReader,
    Size,
    network_scales,
    plan_resize,
    resize_bytes,
    resized,
    upscale_to,
)

H, W = 13, 29
SIDES = st.integers(1, 300)


def resize(pixels, *, width, height):
    return collect(resized(rows_of(Picture(pixels)), width=width, height=height)).pixels


def noise(*shape, dtype="uint8"):
    return np.random.default_rng(sum(shape)).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def test_the_size_is_exact():
    assert Size(scale=Fraction("3.5")).of(W, H) == (round(3.5 * W), round(3.5 * H))
    assert Size(width=100).of(W, H) == (100, round(100 * H / W))
    assert Size(height=100).of(W, H) == (round(100 * W / H), 100)
    assert Size(width=3, height=1000).of(W, H) == (3, 1000)
    assert Size(width=2).of(1000, 1) == (2, 1)


@pytest.mark.parametrize("sides", [{}, {"width": 0}, {"height": -1}, {"scale": Fraction(2), "width": 3}])
def test_what_is_no_size_is_refused(sides):
    with pytest.raises(ValueError, match="size"):
        Size(**sides)


class Repeats:
    """Stands for networks: repeats pixels, and remembers which scales were loaded and used."""

    def __init__(self):
        self.loaded, self.used = [], []

    def __call__(self, scale):
        self.loaded.append(scale)

        def upscale(rows, **settings):
            self.used.append(scale)
            picture = collect(rows)
            large = picture.pixels.repeat(scale, axis=0).repeat(scale, axis=1)
            alpha = picture.alpha
            return rows_of(Picture(large, None if alpha is None else alpha.repeat(scale, 0).repeat(scale, 1)))

        return upscale


@pytest.mark.parametrize(
    ("size", "scale"),
    [
        (Size(width=2 * W), 2),
        (Size(width=2 * W + 1), 3),
        (Size(height=3 * H), 3),
        (Size(width=W, height=3 * H + 1), 4),
        (Size(scale=Fraction("3.5")), 4),
        (Size(scale=Fraction(11, 10)), 2),
    ],
)
def test_the_smallest_network_that_reaches_the_size_is_taken(size, scale):
    networks, plan = Repeats(), plan_resize(size, [4, 2, 3], W, H)
    made = collect(upscale_to(rows_of(Picture(noise(H, W, 3))), plan, networks))
    assert made.pixels.shape == (*size.of(W, H)[::-1], 3)
    assert (networks.loaded, networks.used) == ([scale], [scale])
    assert plan.remark is None


def test_beyond_the_largest_network_a_resize_goes_on_and_says_so():
    networks = Repeats()
    picture = Picture(noise(H, W, 1), noise(H, W))
    plan = plan_resize(Size(width=9 * W), [2, 3], W, H)
    made = collect(upscale_to(rows_of(picture), plan, networks))
    assert networks.used == [3]
    assert made.pixels.shape == (9 * H, 9 * W, 1)
    assert made.alpha is not None
    assert made.alpha.shape == (9 * H, 9 * W)
    assert "beyond x3" in str(plan.remark)


def test_a_smaller_picture_needs_no_network():
    networks = Repeats()
    plan = plan_resize(Size(width=11), [2], W, H)
    picture = Picture(noise(H, W, 3))
    assert collect(upscale_to(rows_of(picture), plan, networks)).pixels.shape == (5, 11, 3)
    assert networks.loaded == []
    assert "without a network" in str(plan.remark)


@settings(max_examples=30, deadline=None)
@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from(["uint8", "uint16"]))
def test_a_resize_has_the_exact_size_and_keeps_what_is_constant(height, width, high, wide, dtype):
    largest = np.iinfo(dtype).max
    made = resize(np.full((height, width, 1), largest, dtype=dtype), width=wide, height=high)
    assert made.dtype == dtype
    np.testing.assert_array_equal(made, np.full((high, wide, 1), largest))


def test_a_resize_to_the_same_size_changes_nothing():
    pixels = noise(H, W, 3, dtype="uint16")
    np.testing.assert_array_equal(resize(pixels, width=W, height=H), pixels)


@pytest.mark.parametrize("scale", [Fraction(1, 4), Fraction(7, 8), Fraction(3)])
def test_a_resize_is_matlabs_up_to_its_rounding_in_between(scale):
    # Without values so extreme that MATLAB clips them in between, too.
    pixels = noise(160, 88, 3) // 2 + 64
    theirs = imresize(pixels, scale)
    ours = resize(pixels, width=int(88 * scale), height=int(160 * scale))
    assert np.abs(ours.astype(int) - theirs).max() <= 2
    assert np.abs(ours.astype(int) - theirs).mean() < 0.5


def test_a_resize_of_16_bits_is_that_of_8_bits_with_finer_steps():
    pixels = noise(61, 53, 3)
    fine = resize(pixels.astype(np.uint16) * 257, width=37, height=83) / 257
    assert np.abs(fine - resize(pixels, width=37, height=83)).max() <= 0.502


def test_pages_are_resized_one_by_one_whatever_bands_they_come_in():
    pages = [noise(61, 53, 3), 255 - noise(61, 53, 3)]
    bands = (band for pixels in [np.concatenate(pages)] for band in np.split(pixels, [7, 60, 63, 100]))
    rows = replace(rows_of(*map(Picture, pages)), bands=bands)
    for made, page in zip(collect_pages(resized(rows, width=37, height=29)), pages, strict=True):
        np.testing.assert_array_equal(made.pixels, resize(page, width=37, height=29))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_resize_sees_no_colour_under_full_transparency_and_none_bleeds_in(dtype):
    peak = np.iinfo(dtype).max
    alpha = np.zeros((H, W), dtype)
    alpha[3:9, 5:20] = peak
    colours = np.where(alpha[..., None] > 0, peak // 2, peak).astype(dtype)
    made = collect(resized(rows_of(Picture(colours, alpha)), width=41, height=17))
    assert made.alpha is not None
    assert 0 < np.count_nonzero(made.alpha) < made.alpha.size
    # Where little alpha is left its rounding counts.
    seen = made.alpha > peak // 8
    assert np.abs(made.pixels[seen].astype(int) - peak // 2).max() <= 1
    assert made.pixels[made.alpha == 0].max() == 0


def test_a_name_has_the_scales_of_its_weights_and_a_file_its_own(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "WEIGHTS", tmp_path)
    for name in ("some_x4", "some_x2", "other_x3"):
        (tmp_path / f"{name}.safetensors").touch()
    assert network_scales("some") == ([2, 4], "some")
    assert network_scales(tiny_model, at_least=4.0) == ([4], tiny_model)
    with pytest.raises(CheckpointError, match=r"other: upscales up to x3, not x3\.5"):
        network_scales("other", at_least=3.5)


def test_memory_of_a_resize_is_counted_and_does_not_grow_with_the_rows_that_one_output_needs():
    rows, columns, layers, target = 2003, 1999, 3, (16, 16)
    picture = np.zeros((64, columns, layers), np.uint8)
    bands = (picture[: min(64, rows - top)] for top in range(0, rows, 64))
    tracemalloc.start()
    try:
        made = list(
            target_size.resize(RowReader(bands), (columns, rows), target, layers=layers, kind=picture.dtype)
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(map(len, made)) == 16
    # All rows of one output in float64, at their old width, would be 24 MB.
    assert peak < resize_bytes((columns, rows), target, layers=layers) < 20e6
