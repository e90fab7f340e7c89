"""Each operator keeps its law: variances within their confidence intervals, the encoders' bytes, means."""

import io

import numpy as np
import pytest
from PIL import Image

from enlca.data.noise import GAMMA, LUMA, CameraNoise, GaussianNoise, PoissonNoise, Smear
from enlca.data.operators import Jpeg, Resize, WebP, levels
from enlca.errors import PictureError

H, W = 97, 101
# Of a standard normal variable: beyond it 6 times in 100,000.
Z = 4.0


def flat(level, shape=(H, W)):
    return np.full((*shape, 3), level, dtype=np.float32)


def generator():
    return np.random.default_rng(5)


def textured(height=48, width=56):
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 3), np.cos(y / 5), np.sin((x + y) / 7)], axis=2)
    return (127 + 90 * waves).astype(np.float32)


def assert_variance(sample, variance, excess=0.0):
    """The variance lies in its confidence interval: Var(s^2) = (2 + excess kurtosis) variance^2 / n."""
    assert abs(sample.var() - variance) < Z * variance * ((2 + excess) / sample.size) ** 0.5
    assert abs(sample.mean()) < Z * (variance / sample.size) ** 0.5


@pytest.mark.parametrize("grey", [False, True])
def test_gaussian_noise_has_its_variance_and_no_mean(grey):
    noise = GaussianNoise(9.0, grey=grey)(flat(127), generator()) - 127
    assert_variance(noise[..., :1] if grey else noise, 81.0)
    assert np.array_equal(noise[..., 0], noise[..., 2]) == grey


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("level", [40.0, 150.0])
def test_poisson_noise_has_a_variance_that_grows_with_light(level, grey):
    noise = PoissonNoise(1000.0, grey=grey)(flat(level), generator()) - level
    assert_variance(noise[..., :1] if grey else noise, 255 * level / 1000, excess=255 / level / 1000)
    assert np.ptp(noise, axis=2).max() < 1e-3 or not grey


def test_poisson_noise_of_grey_counts_luma():
    pixels = flat(0.0) + np.array([200, 90, 30], dtype=np.float32)
    noise = PoissonNoise(3000.0, grey=True)(pixels, generator()) - pixels
    assert_variance(noise[..., 0], float(255 * (LUMA @ pixels[0, 0]) / 3000), excess=0.01)


def test_camera_noise_has_its_variance_where_the_mosaic_measures_and_a_quarter_between():
    shot, read, light = 1e-4, 2e-3, 0.4
    pixels = flat(255 * light ** (1 / GAMMA), (198, 202))
    noise = (CameraNoise(shot, read)(pixels, generator()) / 255) ** GAMMA - light
    variance = shot * light + read**2
    for channel, (row, column) in enumerate([(0, 0), (0, 1), (1, 1)]):
        assert_variance(noise[row::2, column::2, channel], variance)
    # A red value between four measured ones is their mean.
    assert_variance(noise[1:-1:2, 1:-1:2, 0][::2, ::2], variance / 4)
    beside = noise[:-2:2, 1:-1:2] + noise[2::2, 1:-1:2] + noise[1:-1:2, :-2:2] + noise[1:-1:2, 2::2]
    np.testing.assert_allclose(noise[1:-1:2, 1:-1:2, 1], beside[..., 1] / 4, atol=1e-6)


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_jpeg_is_the_encoders_own_bytes_decoded(subsampling):
    pixels = textured()
    file = io.BytesIO()
    Image.fromarray(levels(pixels)).save(file, "JPEG", quality=37, subsampling=subsampling)
    wanted = np.asarray(Image.open(file))
    np.testing.assert_array_equal(Jpeg(37, subsampling)(pixels, generator()), wanted)
    assert (wanted != levels(pixels)).any()


def test_webp_is_the_encoders_own_bytes_decoded():
    pixels = textured()
    file = io.BytesIO()
    Image.fromarray(levels(pixels)).save(file, "WEBP", quality=41)
    np.testing.assert_array_equal(WebP(41)(pixels, generator()), np.asarray(Image.open(file)))


@pytest.mark.parametrize("codec", [Jpeg(50), Jpeg(90, "4:4:4"), WebP(50)])
def test_a_codec_keeps_the_mean_within_a_level(codec):
    pixels = textured()
    np.testing.assert_allclose(codec(pixels, generator()).mean(axis=(0, 1)), pixels.mean(axis=(0, 1)), atol=1)


@pytest.mark.parametrize("interpolation", ["box", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("factor", [0.25, 0.7, 1.3])
def test_resizing_keeps_the_mean_and_is_antialiased(interpolation, factor):
    resize = Resize(factor, interpolation)
    pixels = textured()
    made = resize.to(pixels, width=round(56 * factor), height=round(48 * factor))
    assert made.shape == (round(48 * factor), round(56 * factor), 3)
    np.testing.assert_allclose(made.mean(axis=(0, 1)), pixels.mean(axis=(0, 1)), atol=1.5)
    if factor < 0.5:
        stripes = np.tile(np.array([0, 255], np.float32)[None, :, None], (48, 28, 3))
        assert np.abs(resize.to(stripes, width=14, height=12)[2:-2, 2:-2] - 127.5).max() < 8


def test_smearing_flattens_noise_and_keeps_edges_and_constants():
    random = generator()
    np.testing.assert_allclose(Smear(9.0)(flat(77), random), flat(77), atol=1e-2)
    noise = GaussianNoise(4.0)(flat(127), random)
    smeared = Smear(12.0)(noise, random)
    assert smeared.std() < 0.4 * noise.std()
    assert smeared.mean() == pytest.approx(noise.mean(), abs=0.05)
    edge = flat(20.0)
    edge[:, W // 2 :] = 220
    assert np.abs(Smear(12.0)(edge, random) - edge).max() < 4


def test_smearing_is_the_guided_filter_of_its_paper():
    """He et al. 2013, Eq. 5-8, with loops over windows."""
    pixels, radius, sigma = textured(13, 11), 2, 20.0
    padded = np.pad(pixels, ((4, 4), (4, 4), (0, 0)), mode="symmetric").astype(np.float64)
    a, b = np.zeros_like(padded), np.zeros_like(padded)
    for row in range(2, padded.shape[0] - 2):
        for column in range(2, padded.shape[1] - 2):
            window = padded[row - 2 : row + 3, column - 2 : column + 3]
            a[row, column] = window.var(axis=(0, 1)) / (window.var(axis=(0, 1)) + sigma**2)
            b[row, column] = (1 - a[row, column]) * window.mean(axis=(0, 1))
    wanted = np.empty((13, 11, 3))
    for row, column in np.ndindex(13, 11):
        mean = [c[row + 2 : row + 7, column + 2 : column + 7].mean(axis=(0, 1)) for c in (a, b)]
        wanted[row, column] = mean[0] * pixels[row, column] + mean[1]
    made = Smear(sigma, radius=radius)(pixels, generator())
    np.testing.assert_allclose(made, wanted, atol=0.02)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Jpeg(0), r"quality must be in \[1, 100\], got 0"),
        (lambda: Jpeg(50, "4:1:1"), "subsampling must be one of 4:4:4, 4:2:2, 4:2:0; got '4:1:1'"),
        (lambda: WebP(101), r"quality must be in \[1, 100\], got 101"),
        (lambda: GaussianNoise(-1.0), r"sigma must be in \[0, 255\], got -1.0"),
        (lambda: GaussianNoise(float("nan")), r"sigma must be in \[0, 255\], got nan"),
        (lambda: PoissonNoise(0.0), r"photons must be in \[1, 1e\+09\], got 0.0"),
        (lambda: CameraNoise(2.0, 0.0), r"shot must be in \[0, 1\], got 2.0"),
        (lambda: Smear(3.0, radius=0), r"radius must be in \[1, 16\], got 0"),
        (lambda: Resize(0.0), "factor must be above 0 and at most 4, got 0.0"),
        (lambda: Resize(0.5, "sinc"), "interpolation must be one of box, bilinear, bicubic, lanczos"),
    ],
)
def test_hostile_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_picture_too_large_for_a_codec_is_refused_in_one_line():
    with pytest.raises(PictureError, match="16384x1 pixels cannot be encoded as WEBP") as caught:
        WebP(50)(flat(0, (1, 16384)), generator())
    assert "\n" not in str(caught.value)
