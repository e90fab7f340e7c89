"""Commands that measure: `evaluate`, `score`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from enlca.cli.common import progress, report_failures, write_text
from enlca.cli.pictures import check_scale

if TYPE_CHECKING:
    from enlca.evaluation.evaluate import Evaluation

JsonFile = Annotated[Path | None, typer.Option("--json", help="Write everything to this file.")]
CsvFile = Annotated[Path | None, typer.Option("--csv", help="Write a row per picture to this file.")]


def evaluate(
    model: Annotated[str, typer.Option(help="A bundled name, a file, or bicubic.")],
    data: Annotated[list[Path], typer.Option(help="Benchmark folder; may be given several times.")],
    scale: Annotated[int, typer.Option(help="2, 3 or 4.")],
    more: Annotated[
        list[Path] | None, typer.Argument(metavar="[DIR]...", help="More benchmark folders.")
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="whole, or chop: the released code's overlapping quadrants.")
    ] = "whole",
    ensemble: Annotated[bool, typer.Option("--ensemble", help="Average 8 views; 8 times slower.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    json_file: JsonFile = None,
    csv_file: CsvFile = None,
    save_images: Annotated[
        Path | None, typer.Option(help="Folder that receives the enlarged pictures.")
    ] = None,
) -> int:
    """Enlarge benchmark pictures and score them: PSNR and SSIM on luma, by the protocol of the field.

    A folder holds HR_xS and LR_xS, or large pictures only; small ones are then made by MATLAB's bicubic.
    """
    check_scale(scale)
    from enlca.evaluation.evaluate import evaluate, method_called

    method = method_called(model, scale=scale, device=device, protocol=protocol, ensemble=ensemble)
    with progress("evaluating") as show:
        result = evaluate(method, [*data, *(more or [])], scale=scale, save_images=save_images, on_image=show)
    return _publish(result, json_file, csv_file)


def score(
    sr_dir: Annotated[Path, typer.Argument(help="Folder of enlarged pictures, made by any method.")],
    hr_dir: Annotated[Path, typer.Argument(help="Folder of the originals.")],
    scale: Annotated[int, typer.Option(help="2, 3 or 4: how much was enlarged.")],
    json_file: JsonFile = None,
    csv_file: CsvFile = None,
) -> int:
    """Score pictures that somebody already made against their originals."""
    check_scale(scale)
    from enlca.evaluation.evaluate import score_folders

    return _publish(score_folders(sr_dir, hr_dir, scale=scale), json_file, csv_file)


def audit(
    sr_dir: Annotated[Path, typer.Argument(help="Folder of enlarged pictures, made by any method.")],
    hr_dir: Annotated[Path, typer.Argument(help="Folder of the originals.")],
    scale: Annotated[int, typer.Option(help="2, 3 or 4: how much was enlarged.")],
) -> int:
    """Why do my numbers differ? The same pictures scored under every common convention."""
    check_scale(scale)
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


COMMANDS = (evaluate, score, audit)
SETTINGS: dict[str, dict] = {}
