import math
from fractions import Fraction

import numpy as np
import pytest

from enlca.image.picture import read_image
from enlca.image.resize import imresize
from enlca.metrics import luma, ms_ssim_plane, psnr, psnr_plane, ssim, ssim_plane

H, W = 53, 41


def pair(*shape):
    """An image and a noisy copy of it, smooth enough that SSIM is neither 0 nor 1."""
    generator = np.random.default_rng(11)
    smooth = 128 + 90 * np.sin(np.indices(shape).sum(axis=0) / 5)
    copy = smooth + generator.normal(0, 12, shape)
    return copy.clip(0, 255).astype(np.uint8), smooth.astype(np.uint8)


SHAPES = pytest.mark.parametrize("shape", [(H, W, 3), (H, W, 1), (H, W)], ids=str)


@SHAPES
@pytest.mark.parametrize("shave", [0, 2, 3, 4])
def test_psnr_is_scikit_images_on_luma(shape, shave):
    from skimage.metrics import peak_signal_noise_ratio

    sr, hr = pair(*shape)
    inner = np.s_[shave : H - shave, shave : W - shave]
    theirs = peak_signal_noise_ratio(luma(hr)[inner], luma(sr)[inner], data_range=255)
    assert psnr(sr, hr, shave=shave) == pytest.approx(theirs, abs=1e-10)


@SHAPES
@pytest.mark.parametrize("shave", [0, 4])
def test_ssim_is_scikit_images_on_the_valid_region(shape, shave):
    from skimage.metrics import structural_similarity

    sr, hr = pair(*shape)
    inner = np.s_[shave : H - shave, shave : W - shave]
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    _, places = structural_similarity(luma(hr)[inner], luma(sr)[inner], full=True, **settings)
    assert ssim(sr, hr, shave=shave) == pytest.approx(places[5:-5, 5:-5].mean(), abs=1e-6)


def test_psnr_and_ssim_are_torchmetrics():
    import torch
    from torchmetrics.functional.image import (
        peak_signal_noise_ratio,
        structural_similarity_index_measure,
    )

    sr, hr = pair(H, W, 3)
    x, y = (torch.from_numpy(luma(picture))[None, None] for picture in (sr, hr))
    decibels = peak_signal_noise_ratio(x, y, data_range=255.0)
    assert psnr(sr, hr, shave=0) == pytest.approx(decibels.item(), abs=1e-4)
    _, places = structural_similarity_index_measure(x, y, sigma=1.5, data_range=255.0, return_full_image=True)
    assert ssim(sr, hr, shave=0) == pytest.approx(places[..., 5:-5, 5:-5].mean().item(), abs=1e-4)


def test_identical_images_score_infinity_and_one():
    _, hr = pair(H, W, 3)
    assert psnr(hr, hr, shave=4) == math.inf
    assert ssim(hr, hr, shave=4) == pytest.approx(1.0, abs=1e-12)


def test_scores_do_not_depend_on_which_image_comes_first():
    sr, hr = pair(H, W, 3)
    assert psnr(sr, hr, shave=2) == psnr(hr, sr, shave=2)
    assert ssim(sr, hr, shave=2) == pytest.approx(ssim(hr, sr, shave=2), abs=1e-14)


def test_the_border_does_not_count():
    sr, hr = pair(H, W, 3)
    spoilt = sr.copy()
    spoilt[:3], spoilt[-3:], spoilt[:, :3], spoilt[:, -3:] = 0, 255, 0, 255
    assert psnr(spoilt, hr, shave=3) == psnr(sr, hr, shave=3)
    assert ssim(spoilt, hr, shave=3) == ssim(sr, hr, shave=3)


def test_one_grey_level_of_error_everywhere_is_known_in_closed_form():
    zero = np.zeros((H, W))
    assert psnr_plane(zero, zero + 1, shave=1) == pytest.approx(20 * math.log10(255), abs=1e-12)
    # Flat planes have no variance: only the comparison of the means remains.
    c1 = (0.01 * 255) ** 2
    assert ssim_plane(zero, zero + 1, shave=1) == pytest.approx(c1 / (1 + c1), abs=1e-12)


def test_images_that_cannot_be_compared_are_refused_with_the_reason():
    sr, hr = pair(H, W, 3)
    for score in (psnr, ssim):
        with pytest.raises(ValueError, match="same size to be compared, got 40x53 and 41x53"):
            score(sr[:, 1:], hr, shave=4)
        with pytest.raises(ValueError, match="0 or more"):
            score(sr, hr, shave=-1)
    with pytest.raises(ValueError, match="too small: with 21 pixels dropped on each side at least 1x1"):
        psnr(sr, hr, shave=21)
    with pytest.raises(ValueError, match="at least 11x11"):
        ssim(sr[:18], hr[:18], shave=4)
    assert ssim(sr[:19], hr[:19], shave=4) < 1


# Bicubic's row in every paper on super-resolution.
@pytest.mark.data
@pytest.mark.parametrize(
    ("scale", "decibels", "similarity"), [(2, 33.67, 0.9303), (3, 30.40, 0.8689), (4, 28.43, 0.8111)]
)
def test_bicubic_on_set5_scores_what_the_literature_prints(shared_data, scale, decibels, similarity):
    scores = []
    for file in sorted((shared_data / "test" / "Set5" / f"HR_x{scale}").iterdir()):
        hr = read_image(file).rgb
        sr = imresize(read_image(file.parents[1] / f"LR_x{scale}" / file.name).rgb, Fraction(scale))
        scores.append((psnr(sr, hr, shave=scale), ssim(sr, hr, shave=scale)))
    assert np.mean(scores, axis=0) == pytest.approx([decibels, similarity], abs=0.005)


@pytest.mark.parametrize("shape", [(176, 181), (193, 187)])
def test_ms_ssim_is_torchmetrics(shape):
    import torch
    from torchmetrics.functional.image import (
        multiscale_structural_similarity_index_measure,
        structural_similarity_index_measure,
    )

    noise = np.random.default_rng(0)
    hr = noise.integers(0, 256, (shape[0] // 8 + 1, shape[1] // 8 + 1, 3), dtype=np.uint8)
    hr = hr.repeat(8, axis=0).repeat(8, axis=1)[: shape[0], : shape[1]]
    sr = (hr * 0.7 + noise.integers(0, 60, hr.shape)).astype(np.uint8)
    planes = [luma(picture) for picture in (sr, hr)]
    x, y = (torch.from_numpy(plane)[None, None] for plane in planes)
    made = ms_ssim_plane(*planes, shave=0)
    # Its windows at the border see mirrored pixels, which ours leave out.
    whole = multiscale_structural_similarity_index_measure(x, y, sigma=1.5, data_range=255.0)
    assert made == pytest.approx(whole.item(), abs=1e-3)
    wanted, settings = 1.0, {"sigma": 1.5, "data_range": 255.0, "return_full_image": True}
    for weight, k1 in zip((0.0448, 0.2856, 0.3001, 0.2363, 0.1333), (1e5, 1e5, 1e5, 1e5, 0.01), strict=True):
        # With a large K1 the term of luminance is 1.
        _, places = structural_similarity_index_measure(x, y, k1=k1, **settings)
        wanted *= places[..., 5:-5, 5:-5].mean().item() ** weight
        x, y = (torch.nn.functional.avg_pool2d(side, 2) for side in (x, y))
    assert made == pytest.approx(wanted, abs=1e-6)
    assert 0.2 < wanted < 0.99
    assert ms_ssim_plane(planes[1], planes[1], shave=0) == pytest.approx(1)
    assert ms_ssim_plane(planes[1], 255 - planes[1], shave=0) == 0


def test_a_picture_too_small_for_five_scales_is_refused():
    with pytest.raises(ValueError, match="at least 176x176 must be left"):
        ms_ssim_plane(np.zeros((200, 177)), np.zeros((200, 177)), shave=1)
