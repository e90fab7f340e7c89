"""Metrics of what the eye sees, as further columns where they are asked for; nothing is downloaded.

MS-SSIM is ours. SSIMULACRA2 (Sneyers, Cloudinary) and FLIP (Andersson et al. 2020) are packages of the extra
`perceptual`. LPIPS and DISTS need weights in files that the user names (see `learned`).

Letters:  H height   W width
"""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from enlca.errors import EvaluationError, require
from enlca.evaluation.report import Metric, Rgb
from enlca.metrics import luma, ms_ssim_plane


def ms_ssim() -> Metric:
    """Return the multi-scale SSIM of luma."""
    return Metric(
        column="ms_ssim_y",
        title="MS-SSIM-Y",
        compute=lambda sr, hr, shave: ms_ssim_plane(luma(sr), luma(hr), shave=shave),
        about="Wang et al. 2003, five scales, on luma, border dropped as for ssim",
    )


def ssimulacra2() -> Metric:
    """Return SSIMULACRA2: 100 is equal, 90 hardly to be seen, 50 fair, below 0 very bad.

    Raises:
        MissingExtra: the package is not installed.
    """
    with require("perceptual", feature="--metrics ssimulacra2"):
        from ssimulacra2 import compute_ssimulacra2

    def compute(sr: Rgb, hr: Rgb, shave: int) -> float:
        return float(compute_ssimulacra2(_file(hr), _file(sr)))

    return Metric(
        column="ssimulacra2", title="SSIMULACRA2", compute=compute, about="sRGB, 2.1, of the whole image"
    )


def flip() -> Metric:
    """Return the mean LDR-FLIP: 0 is equal, 1 as different as can be.

    Raises:
        MissingExtra: the package is not installed.
    """
    with require("perceptual", feature="--metrics flip"):
        from flip_evaluator import evaluate

    def compute(sr: Rgb, hr: Rgb, shave: int) -> float:
        reference, test = (np.ascontiguousarray(image, dtype=np.float32) / 255 for image in (hr, sr))
        return float(evaluate(reference, test, "LDR", applyMagma=False)[1])

    return Metric(
        column="flip",
        title="FLIP",
        compute=compute,
        about="LDR-FLIP of sRGB, 67 pixels per degree, mean over the whole image",
        higher_is_better=False,
    )


PLAIN: dict[str, Callable[[], Metric]] = {"ms-ssim": ms_ssim, "ssimulacra2": ssimulacra2, "flip": flip}
LEARNED = ("lpips", "dists")


def metrics_called(words: Sequence[str]) -> list[Metric]:
    """Return the metrics of `NAME` or `NAME=FILE[,FILE]`.

    Raises:
        EvaluationError: unknown or repeated names, or files where none or others belong.
        CheckpointError: a file cannot be read.
        MissingExtra: a package of the extra `perceptual` is not installed.
    """
    found: dict[str, Metric] = {}
    for word in words:
        name, _, files = word.partition("=")
        if name not in (*PLAIN, *LEARNED):
            known = ", ".join([*PLAIN, *(f"{learned}=FILE" for learned in LEARNED)])
            raise EvaluationError(f"unknown metric {name!r}; there are {known}")
        if name in found:
            raise EvaluationError(f"the metric {name} is asked for twice")
        if name in PLAIN:
            if files:
                raise EvaluationError(f"the metric {name} needs no file; leave out ={files}")
            found[name] = PLAIN[name]()
        else:
            from enlca.evaluation.learned import learned_metric

            found[name] = learned_metric(name, [Path(file) for file in files.split(",") if file])
    return list(found.values())


def _file(image: Rgb) -> io.BytesIO:
    """Return an image as the file that the package reads."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "BMP")
    file.seek(0)
    return file
