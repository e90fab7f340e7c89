"""Each row of the audit against another implementation, or against the law that ties it to the protocol."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure
from torchmetrics.image import PeakSignalNoiseRatio

from enlca.evaluation.audit import AuditRow, audit, to_markdown
from enlca.metrics import luma, psnr, ssim

SCALE = 3


def pairs() -> list[tuple[np.ndarray, np.ndarray]]:
    random = np.random.default_rng(4)
    made = []
    for size, noise in (((47, 53), 4), ((61, 43), 19)):
        hr = random.integers(0, 256, (*size, 3)).astype(np.uint8)
        sr = np.clip(hr + random.normal(0, noise, hr.shape), 0, 255).astype(np.uint8)
        made.append((sr, hr))
    return made


@pytest.fixture(scope="module")
def rows() -> dict[str, AuditRow]:
    return {row.convention: row for row in audit(pairs(), scale=SCALE)}


def shaved(pixels: np.ndarray, border: int = SCALE) -> np.ndarray:
    return pixels[border:-border, border:-border]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def test_the_first_row_is_the_protocol(rows):
    row = rows["protocol of enlca"]
    assert next(iter(rows)) == "protocol of enlca"
    assert row.psnr == pytest.approx(mean([psnr(sr, hr, shave=SCALE) for sr, hr in pairs()]), abs=1e-9)
    assert row.ssim == pytest.approx(mean([ssim(sr, hr, shave=SCALE) for sr, hr in pairs()]), abs=1e-12)


@pytest.mark.parametrize(("name", "border"), [("no border dropped", 0), ("border s + 6", SCALE + 6)])
def test_border_rows_are_the_protocol_with_that_border(rows, name, border):
    assert rows[name].psnr == pytest.approx(mean([psnr(a, b, shave=border) for a, b in pairs()]), abs=1e-9)


def test_full_range_luma_is_1_32_db_below_the_protocol(rows):
    # Rounding of Y plays no part, so the difference is exactly the ratio of the ranges.
    expected = 20 * math.log10(255 / 219)
    difference = rows["protocol of enlca"].psnr - rows["full-range luma (YIQ)"].psnr
    assert difference == pytest.approx(expected, abs=1e-3)


def test_rounded_luma_is_scored_on_integers(rows):
    values = [
        peak_signal_noise_ratio(*(np.rint(shaved(luma(p))).astype(np.uint8) for p in (hr, sr)))
        for sr, hr in pairs()
    ]
    # rint and floor(x + 0.5) differ only where the fraction is one half: not here.
    assert rows["Y rounded to integers"].psnr == pytest.approx(mean(values), abs=1e-9)


def test_rgb_rows_are_scikit_image_s(rows):
    for name, border in (("RGB", SCALE), ("RGB, border s + 6", SCALE + 6)):
        values = [peak_signal_noise_ratio(shaved(hr, border), shaved(sr, border)) for sr, hr in pairs()]
        assert rows[name].psnr == pytest.approx(mean(values), abs=1e-9)
        ssims = [
            structural_similarity(
                shaved(hr, border).astype(float),
                shaved(sr, border).astype(float),
                channel_axis=2,
                data_range=255,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
            )
            for sr, hr in pairs()
        ]
        assert rows[name].ssim == pytest.approx(mean(ssims), abs=1e-6)


def test_pooling_is_that_of_torchmetrics(rows):
    metric = PeakSignalNoiseRatio(data_range=255.0)
    for sr, hr in pairs():
        metric.update(*(torch.from_numpy(shaved(luma(p))) for p in (sr, hr)))
    assert rows["one PSNR over all pixels"].psnr == pytest.approx(float(metric.compute()), abs=1e-4)
    assert rows["one PSNR over all pixels"].ssim is None
    # Pooling weighs the worse picture more.
    assert rows["one PSNR over all pixels"].psnr < rows["protocol of enlca"].psnr


def test_the_uniform_window_is_scikit_image_s_default(rows):
    values = [structural_similarity(shaved(luma(hr)), shaved(luma(sr)), data_range=255) for sr, hr in pairs()]
    assert rows["SSIM with a uniform 7x7 window"].ssim == pytest.approx(mean(values), abs=1e-9)


def test_the_mirrored_border_is_that_of_torchmetrics(rows):
    values = [
        float(
            structural_similarity_index_measure(
                *(torch.from_numpy(shaved(luma(p)))[None, None] for p in (sr, hr)), data_range=255.0
            )
        )
        for sr, hr in pairs()
    ]
    assert rows["SSIM with mirrored borders"].ssim == pytest.approx(mean(values), abs=1e-4)


def test_equal_pictures_are_infinitely_alike_under_every_convention():
    hr = pairs()[0][1]
    for row in audit([(hr, hr)], scale=SCALE):
        assert row.psnr == math.inf
        assert row.ssim is None or row.ssim == pytest.approx(1.0)
    assert "inf" in to_markdown(audit([(hr, hr)], scale=SCALE))


def test_the_table_shows_each_distance_from_the_protocol(rows):
    table = to_markdown(list(rows.values())).splitlines()
    assert len(table) == 2 + len(rows)
    assert table[2].split("|")[4].strip() == "+0.000"
    assert table[4].split("|")[4].strip() == "-1.322"


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ([], "no pictures"),
        ([(np.zeros((31, 31, 3), np.uint8), np.zeros((31, 37, 3), np.uint8))], "cannot be compared"),
        ([(np.zeros((19, 31, 3), np.uint8),) * 2], "too small for a border of 9"),
    ],
)
def test_what_cannot_be_audited_is_refused(made, message):
    with pytest.raises(ValueError, match=message):
        audit(made, scale=SCALE)
