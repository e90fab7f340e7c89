"""Commands that score images: `evaluate`, `score`, `audit`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from enlca.cli.common import Device, Scale, progress, report_failures, write_text

if TYPE_CHECKING:
    from enlca.evaluation.evaluate import Evaluation

Protocol = Literal["whole", "chop"]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write protocol and scores to this file.")]
CsvFile = Annotated[Path | None, typer.Option("--csv", help="Write a row per image to this file.")]


def evaluate(
    model: Annotated[str, typer.Option(help="A bundled name, a file, or bicubic.")],
    data: Annotated[list[Path], typer.Option(help="Benchmark folder; may be given several times.")],
    scale: Annotated[Scale, typer.Option(help="The upscaling factor.")],
    more: Annotated[
        list[Path] | None, typer.Argument(metavar="[DIR]...", help="More benchmark folders.")
    ] = None,
    protocol: Annotated[
        Protocol, typer.Option(help="chop: the released code's overlapping quadrants.")
    ] = "whole",
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Average the 8 flips and rotations; 8 times slower.")
    ] = False,
    device: Annotated[Device, typer.Option(help="auto takes a GPU if there is one.")] = "auto",
    json_file: JsonFile = None,
    csv_file: CsvFile = None,
    save_images: Annotated[Path | None, typer.Option(help="Write the SR images to this folder.")] = None,
) -> int:
    """Upscale benchmark images and score them: PSNR and SSIM on luma, by the protocol of the field.

    A folder holds HR_xS and LR_xS, or HR images only; LR images are then made by MATLAB's bicubic.
    """
    from enlca.evaluation.evaluate import evaluate, method_called

    method = method_called(model, scale=scale, device=device, protocol=protocol, ensemble=ensemble)
    with progress("evaluating") as show:
        result = evaluate(method, [*data, *(more or [])], scale=scale, save_images=save_images, on_image=show)
    return _publish(result, json_file, csv_file)


def score(
    sr_dir: Annotated[Path, typer.Argument(help="Folder of SR images, made by any method.")],
    hr_dir: Annotated[Path, typer.Argument(help="Folder of the HR images.")],
    scale: Annotated[Scale, typer.Option(help="The factor by which they were upscaled.")],
    json_file: JsonFile = None,
    csv_file: CsvFile = None,
) -> int:
    """Score existing SR images, made by any method, against HR."""
    from enlca.evaluation.evaluate import score_folders

    return _publish(score_folders(sr_dir, hr_dir, scale=scale), json_file, csv_file)


def audit(
    sr_dir: Annotated[Path, typer.Argument(help="Folder of SR images, made by any method.")],
    hr_dir: Annotated[Path, typer.Argument(help="Folder of the HR images.")],
    scale: Annotated[Scale, typer.Option(help="The factor by which they were upscaled.")],
) -> int:
    """Score the same images under every common convention: why do my numbers differ?"""
    from enlca.evaluation.audit import to_markdown
    from enlca.evaluation.evaluate import audit_folders

    rows, failures = audit_folders(sr_dir, hr_dir, scale=scale)
    print(to_markdown(rows), end="")
    return report_failures(failures)


def _publish(result: "Evaluation", json_file: Path | None, csv_file: Path | None) -> int:
    if result.report.images:
        if json_file:
            write_text(json_file, result.report.to_json())
        if csv_file:
            write_text(csv_file, result.report.to_csv())
        print(result.report.to_markdown(), end="")
    return report_failures(result.failures)
