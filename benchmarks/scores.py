"""PSNR of a forward pass, for benchmarks that trade it for speed."""

from pathlib import Path

from enlca.evaluation.evaluate import Method, evaluate
from enlca.inference.adapters import upscale_rgb
from enlca.inference.transforms import Forward


def scores_of(forward: Forward, tests: list[Path], scale: int) -> dict[str, float]:
    """Mean PSNR-Y of each folder.

    Raises:
        RuntimeError: a picture could not be scored.
    """
    report = evaluate(Method("", lambda rgb: upscale_rgb(forward, rgb)), tests, scale=scale)
    if report.failures:
        raise RuntimeError(f"{report.failures[0]}: nothing to report")
    return {folder.name: float(report.report.datasets()[folder.name]["psnr_y"]) for folder in tests}
