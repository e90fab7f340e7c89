"""Blur kernels sum to 1, are symmetric, and are those of independent libraries."""

import numpy as np
import pytest

from enlca.data.kernels import convolve, gaussian_kernel, sinc_kernel

KERNELS = {
    "isotropic": gaussian_kernel(1.3, radius=5),
    "anisotropic": gaussian_kernel(2.1, radius=7, other_sigma=0.7, angle=0.6),
    "heavy tails": gaussian_kernel(1.1, radius=9, shape=0.5),
    "flat top": gaussian_kernel(3.0, radius=10, other_sigma=2.0, angle=2.5, shape=2.0),
    "narrow": gaussian_kernel(0.05, radius=1),
    "ringing": sinc_kernel(1.2, radius=10),
}


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_has_the_energy_1_and_moves_nothing(name):
    kernel = KERNELS[name]
    assert kernel.sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-15)


@pytest.mark.parametrize("name", KERNELS)
def test_blurring_keeps_the_mean_and_a_constant_picture(name):
    pixels = np.random.default_rng(0).uniform(0, 255, (23, 29, 3)).astype(np.float32)
    # With every row and column mirrored the whole picture is periodic, so that nothing leaves it.
    assert convolve(pixels, KERNELS[name]).mean() == pytest.approx(pixels.mean(), rel=2e-2)
    flat = np.full((17, 31, 3), 93.0, dtype=np.float32)
    np.testing.assert_allclose(convolve(flat, KERNELS[name]), flat, rtol=1e-6)


@pytest.mark.parametrize("name", KERNELS)
def test_convolution_is_that_of_scipy(name):
    ndimage = pytest.importorskip("scipy.ndimage")
    kernel = KERNELS[name].copy()
    kernel[0] *= 1.5  # without symmetry, so that a mirrored kernel cannot hide
    pixels = np.random.default_rng(1).uniform(0, 255, (13, 19, 3)).astype(np.float32)
    wanted = ndimage.convolve(pixels.astype(np.float64), kernel[:, :, None], mode="reflect")
    np.testing.assert_allclose(convolve(pixels, kernel), wanted, rtol=1e-5, atol=1e-3)


def test_the_gaussian_has_its_variance_along_its_direction_and_across():
    kernel = gaussian_kernel(2.0, radius=14, other_sigma=1.0, angle=np.pi / 6)
    y, x = np.mgrid[-14:15, -14:15]
    along = x * np.cos(np.pi / 6) + y * np.sin(np.pi / 6)
    across = y * np.cos(np.pi / 6) - x * np.sin(np.pi / 6)
    assert (kernel * along**2).sum() == pytest.approx(4.0, rel=1e-3)
    assert (kernel * across**2).sum() == pytest.approx(1.0, rel=1e-3)


def test_the_sinc_passes_what_is_below_its_cutoff_and_stops_what_is_above():
    kernel = sinc_kernel(1.5, radius=30)
    waves = np.arange(-30, 31)
    low, high = ((kernel * np.cos(frequency * waves)).sum() for frequency in (0.7, 2.3))
    assert low == pytest.approx(1, abs=0.05)
    assert high == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gaussian_kernel(0.0, radius=3), "sigma must be positive and finite, got 0.0"),
        (lambda: gaussian_kernel(float("nan"), radius=3), "sigma must be positive and finite, got nan"),
        (lambda: gaussian_kernel(1.0, radius=3, shape=-1.0), "shape must be positive and finite, got -1.0"),
        (lambda: gaussian_kernel(1.0, radius=0), "radius must be at least 1 pixel, got 0"),
        (lambda: sinc_kernel(4.0, radius=3), "cutoff must be above 0 and at most pi, got 4.0"),
    ],
)
def test_impossible_kernels_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
