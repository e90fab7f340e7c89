"""Score the same images under every convention in common use: why do my numbers differ?

PSNR and SSIM are agreed; the planes that they are computed of are not. Each row below changes one thing
against the protocol of `enlca evaluate`, or is a whole convention of a toolkit.
"""

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from jaxtyping import Float64, UInt8
from numpy.lib.stride_tricks import sliding_window_view

from enlca.evaluation.report import dumps
from enlca.metrics import C1, C2, PEAK, WINDOW, luma, ssim_plane

Rgb = UInt8[np.ndarray, "_ _ 3"]
Plane = Float64[np.ndarray, "_ _"]


def bt601(rgb: Rgb) -> list[Plane]:
    """Return Y of BT.601 in studio range, not rounded: the literature's."""
    return [luma(rgb)]


def bt601_rounded(rgb: Rgb) -> list[Plane]:
    """Return Y as integers: what `rgb2ycbcr` of MATLAB gives for uint8 images."""
    return [np.floor(luma(rgb) + 0.5)]


def full_range(rgb: Rgb) -> list[Plane]:
    """Return Y of YIQ, 0 to 255: its steps are 255/219 as large, so PSNR is 1.32 dB lower."""
    return [rgb @ np.array([0.299, 0.587, 0.114])]


def channels(rgb: Rgb) -> list[Plane]:
    """Return R, G and B, each as a plane of its own."""
    return [rgb[..., channel].astype(np.float64) for channel in range(3)]


def ssim_gaussian(sr: Plane, hr: Plane) -> float:
    """Compute the literature's SSIM: an 11 x 11 Gaussian window of sigma 1.5 wherever it fits inside."""
    return ssim_plane(sr, hr, shave=0)


def ssim_padded(sr: Plane, hr: Plane) -> float:
    """Compute SSIM with the same window at every pixel; the image is mirrored at its borders."""
    sr, hr = (np.pad(plane, WINDOW // 2, mode="reflect") for plane in (sr, hr))
    return ssim_plane(sr, hr, shave=0)


def ssim_uniform(sr: Plane, hr: Plane) -> float:
    """Compute SSIM with a uniform 7 x 7 window and sample statistics (divided by 48), inside the image."""
    mean_sr, mean_hr = _box(sr), _box(hr)
    sample = 49 / 48
    variances = sample * (_box(sr * sr) - mean_sr**2 + _box(hr * hr) - mean_hr**2)
    covariance = sample * (_box(sr * hr) - mean_sr * mean_hr)
    structure = (2 * covariance + C2) / (variances + C2)
    return float(((2 * mean_sr * mean_hr + C1) / (mean_sr**2 + mean_hr**2 + C1) * structure).mean())


def _box(plane: Plane) -> Plane:
    """Return the means over 7 x 7 windows."""
    return sliding_window_view(plane, (7, 7)).mean(axis=(-2, -1))


@dataclass(frozen=True, kw_only=True)
class Convention:
    """One way to score pictures.

    Attributes:
        name: what differs from the protocol.
        used_by: who scores this way.
        planes: from an image to the planes that are compared; several count as one plane of more pixels.
        shave: from the scale to the border pixels that are dropped.
        pooled: PSNR of the mean error of all images, instead of the mean of the images' PSNRs.
        ssim: of one pair of planes; None where the row concerns PSNR alone.
    """

    name: str
    used_by: str = ""
    planes: Callable[[Rgb], list[Plane]] = bt601
    shave: Callable[[int], int] = lambda scale: scale
    pooled: bool = False
    ssim: Callable[[Plane, Plane], float] | None = ssim_gaussian


CONVENTIONS = (
    Convention(
        name="protocol of enlca", used_by="papers; BasicSR (test_y_channel), EDSR-PyTorch on benchmarks"
    ),
    Convention(name="Y rounded to integers", used_by="MATLAB rgb2ycbcr of uint8", planes=bt601_rounded),
    Convention(name="full-range luma (YIQ)", used_by="pyiqa by default, OpenCV YCrCb", planes=full_range),
    Convention(name="RGB", used_by="scikit-image, piq on colour pictures", planes=channels),
    Convention(name="no border dropped", used_by="", shave=lambda scale: 0),
    Convention(name="border s + 6", used_by="", shave=lambda scale: scale + 6),
    Convention(
        name="RGB, border s + 6",
        used_by="NTIRE challenges; EDSR-PyTorch on DIV2K",
        planes=channels,
        shave=lambda scale: scale + 6,
    ),
    Convention(
        name="one PSNR over all pixels", used_by="torchmetrics PeakSignalNoiseRatio", pooled=True, ssim=None
    ),
    Convention(name="SSIM with mirrored borders", used_by="torchmetrics", ssim=ssim_padded),
    Convention(name="SSIM with a uniform 7x7 window", used_by="scikit-image by default", ssim=ssim_uniform),
)


@dataclass(frozen=True, kw_only=True)
class AuditRow:
    """A convention's scores over a set of pictures.

    Attributes:
        convention, used_by: its name, and who scores this way.
        psnr, ssim: over all images.
        psnrs, ssims: of each image, in their order; no SSIM where the row concerns PSNR alone.
    """

    convention: str
    used_by: str
    psnr: float
    ssim: float | None
    psnrs: Sequence[float] = ()
    ssims: Sequence[float] = ()

    def images(self, names: Sequence[str]) -> dict[str, dict[str, float | None]]:
        """Return the scores of each image by its name."""
        ssims = self.ssims or [None] * len(names)
        scores = zip(names, self.psnrs, ssims, strict=True)
        return {name: {"psnr": psnr, "ssim": ssim} for name, psnr, ssim in scores}


def refuse_unusable(sr: Rgb, hr: Rgb, *, scale: int) -> None:
    """Raise ValueError for pictures of different sizes, or too small for the largest border."""
    if sr.shape != hr.shape:
        raise ValueError(f"pictures of {sr.shape[:2]} and {hr.shape[:2]} pixels cannot be compared")
    border = max(convention.shave(scale) for convention in CONVENTIONS)
    if min(sr.shape[:2]) - 2 * border < WINDOW:
        raise ValueError(f"pictures of {sr.shape[:2]} pixels are too small for a border of {border}")


def audit(pairs: Iterable[tuple[Rgb, Rgb]], *, scale: int) -> list[AuditRow]:
    """Score (SR, HR) pairs under every convention.

    Raises:
        ValueError: no pairs, sizes that differ, or pictures too small for the largest border.
    """
    errors: dict[str, list[tuple[float, int]]] = {convention.name: [] for convention in CONVENTIONS}
    ssims: dict[str, list[float]] = {convention.name: [] for convention in CONVENTIONS}
    for sr, hr in pairs:
        refuse_unusable(sr, hr, scale=scale)
        for convention in CONVENTIONS:
            border = convention.shave(scale)
            planes = [
                tuple(
                    plane[border : plane.shape[0] - border, border : plane.shape[1] - border]
                    for plane in pair
                )
                for pair in zip(convention.planes(sr), convention.planes(hr), strict=True)
            ]
            squares = [float(((x - y) ** 2).sum()) for x, y in planes]
            errors[convention.name].append((sum(squares), len(planes) * planes[0][0].size))
            if convention.ssim:
                of_planes = [convention.ssim(x, y) for x, y in planes]
                ssims[convention.name].append(sum(of_planes) / len(of_planes))
    if not errors[CONVENTIONS[0].name]:
        raise ValueError("there are no pictures to compare")
    return [
        AuditRow(
            convention=convention.name,
            used_by=convention.used_by,
            psnr=_psnr(errors[convention.name], pooled=convention.pooled),
            ssim=fmean(ssims[convention.name]) if convention.ssim else None,
            psnrs=[_psnr([error], pooled=False) for error in errors[convention.name]],
            ssims=ssims[convention.name],
        )
        for convention in CONVENTIONS
    ]


def _psnr(errors: list[tuple[float, int]], *, pooled: bool) -> float:
    """Compute PSNR from each image's sum of squared errors and number of values."""
    if pooled:
        errors = [(sum(total for total, _ in errors), sum(count for _, count in errors))]
    means = [total / count for total, count in errors]
    return fmean(math.inf if mean == 0 else 10 * math.log10(PEAK**2 / mean) for mean in means)


def to_markdown(rows: Sequence[AuditRow]) -> str:
    """Return the table, with each row's difference from the first, which is the protocol."""
    reference = rows[0]
    lines = ["| convention | used by | PSNR | | SSIM | |", "|---|---|---|---|---|---|"]
    for row in rows:
        ssim, change = "", ""
        if row.ssim is not None and reference.ssim is not None:
            ssim, change = f"{row.ssim:.4f}", f"{row.ssim - reference.ssim:+.4f}"
        gap = row.psnr - reference.psnr if row.psnr != reference.psnr else 0.0
        lines.append(
            f"| {row.convention} | {row.used_by} | {row.psnr:.3f} | {gap:+.3f} | {ssim} | {change} |"
        )
    return "\n".join(lines) + "\n"


def to_json(rows: Sequence[AuditRow], names: Sequence[str], *, scale: int) -> str:
    """Return every convention with its means and the scores of each image."""
    conventions = [
        {
            "name": row.convention,
            "used_by": row.used_by,
            "psnr": row.psnr,
            "ssim": row.ssim,
            "images": row.images(names),
        }
        for row in rows
    ]
    return dumps({"scale": scale, "n": len(names), "conventions": conventions})


def to_csv(rows: Sequence[AuditRow], names: Sequence[str]) -> str:
    """Return a row for each image and convention."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "convention", "psnr", "ssim"])
    for row in rows:
        for name, scores in row.images(names).items():
            writer.writerow([name, row.convention, scores["psnr"], scores["ssim"]])
    return text.getvalue()
