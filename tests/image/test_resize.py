from fractions import Fraction
from math import ceil, floor

import numpy as np
import pytest

from enlca.image.picture import read_image
from enlca.image.resize import imresize, mod_crop

H, W = 37, 29  # primes: a swapped axis cannot hide
SCALES = [Fraction(1, 2), Fraction(1, 3), Fraction(1, 4), Fraction(2), Fraction(3), Fraction(4)]


def noise(*shape):
    return np.random.default_rng(7).integers(0, 256, shape, dtype=np.uint8)


def slow_cubic(x):
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0


def slow_line(line, scale, *, rounded=True):
    """MATLAB's imresize.m for one line of pixels, word for word, counting from 1."""
    n, scale, out = len(line), float(scale), []
    stretch = min(scale, 1.0)
    width = 4.0 / stretch
    for x in range(1, ceil(n * Fraction(scale).limit_denominator(9)) + 1):
        u = x / scale + 0.5 * (1 - 1 / scale)
        left = floor(u - width / 2)
        positions = [left + p for p in range(ceil(width) + 2)]
        weights = [stretch * slow_cubic(stretch * (u - position)) for position in positions]
        aux = [*range(1, n + 1), *range(n, 0, -1)]
        value = sum(
            w / sum(weights) * float(line[aux[(position - 1) % (2 * n)] - 1])
            for w, position in zip(weights, positions, strict=True)
        )
        out.append(floor(min(max(value, 0.0), 255.0) + 0.5) if rounded else value)
    return out


def slow_imresize(pixels, scale):
    columns = np.stack([slow_line(pixels[:, j], scale) for j in range(pixels.shape[1])], axis=1)
    return np.stack([slow_line(row, scale) for row in columns], axis=0).astype(np.uint8)


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_imresize_is_matlabs_arithmetic_pixel_by_pixel(scale):
    picture = noise(H, W)
    np.testing.assert_array_equal(imresize(picture, scale), slow_imresize(picture, scale))


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_float_pictures_are_neither_rounded_nor_clipped(scale):
    # Steps between black and white, in areas wide enough to overshoot.
    picture = np.kron(np.where(noise(4, 3) > 127, 255.0, 0.0), np.ones((11, 13)))[:H, :W]
    expected = np.stack([slow_line(line, scale, rounded=False) for line in picture.T], axis=1)
    expected = np.stack([slow_line(line, scale, rounded=False) for line in expected], axis=0)
    resized = imresize(picture, scale)
    np.testing.assert_allclose(resized, expected, atol=1e-10)
    assert resized.min() < 0
    assert resized.max() > 255


@pytest.mark.parametrize("scale", [Fraction(1, 4), Fraction(3)], ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 2)])
def test_pictures_smaller_than_the_kernel_are_mirrored_as_often_as_needed(shape, scale):
    picture = noise(*shape)
    np.testing.assert_array_equal(imresize(picture, scale), slow_imresize(picture, scale))


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_strips_and_blocks_do_not_show(scale):
    picture = noise(H, W, 3)
    np.testing.assert_array_equal(
        imresize(picture, scale, block=3, strip_bytes=1000), imresize(picture, scale)
    )


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_channels_are_resized_one_by_one(scale):
    picture = noise(H, W, 3)
    alone = [imresize(np.ascontiguousarray(picture[:, :, c]), scale) for c in range(3)]
    np.testing.assert_array_equal(imresize(picture, scale), np.stack(alone, axis=2))


def test_rounding_happens_after_each_axis_and_rows_come_first():
    picture = noise(H, W)
    other_order = imresize(picture.T.copy(), Fraction(1, 2)).T
    assert (imresize(picture, Fraction(1, 2)) != other_order).any()


@pytest.mark.parametrize("scale", [*SCALES, Fraction(3, 4), Fraction(5, 3)], ids=str)
def test_a_flat_picture_stays_flat_and_sides_are_rounded_up(scale):
    flat = np.full((H, W, 3), 201, dtype=np.uint8)
    resized = imresize(flat, scale)
    assert resized.shape == (ceil(H * scale), ceil(W * scale), 3)
    assert (resized == 201).all()


def test_a_view_is_resized_like_its_copy():
    picture = noise(2 * H, W, 3)[::2, ::-1]
    np.testing.assert_array_equal(imresize(picture, Fraction(2)), imresize(picture.copy(), Fraction(2)))


def test_mod_crop_keeps_the_top_left_and_divides():
    picture = noise(H, W, 3)
    np.testing.assert_array_equal(mod_crop(picture, 4), picture[:36, :28])
    np.testing.assert_array_equal(mod_crop(picture, 1), picture)


def test_what_cannot_be_resized_or_cropped_is_refused():
    with pytest.raises(ValueError, match="scale must be positive, got -1/2"):
        imresize(noise(H, W), Fraction(-1, 2))
    with pytest.raises(ValueError, match="without pixels"):
        imresize(noise(0, W), Fraction(2))
    with pytest.raises(ValueError, match="smaller than the scale 4"):
        mod_crop(noise(3, W), 4)
    with pytest.raises(ValueError, match="at least 1"):
        mod_crop(noise(H, W), 0)


@pytest.mark.data
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("name", ["Set5", "Set14"])
def test_the_published_lr_pictures_are_reproduced_to_the_bit(shared_data, name, scale):
    originals = sorted((shared_data / "test" / name / f"HR_x{scale}").iterdir())
    assert originals
    for file in originals:
        published = read_image(file.parents[1] / f"LR_x{scale}" / file.name)
        ours = imresize(read_image(file).pixels, Fraction(1, scale))
        np.testing.assert_array_equal(ours, published.pixels, err_msg=str(file))
