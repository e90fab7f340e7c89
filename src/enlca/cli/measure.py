"""Commands that measure images: `evaluate`, `compare`, `score` and `audit`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from enlca.cli.common import Device, Json, JsonFile, Scale, bundled_names
from enlca.cli.output import printable, progress, publish, report_failures, write_text

if TYPE_CHECKING:
    from enlca.evaluation.evaluate import Evaluation
    from enlca.evaluation.report import Metric

Protocol = Literal["whole", "chop"]
LrType = Literal["uint8", "float"]
InQuadrants = Annotated[
    Protocol, typer.Option("--protocol", help="chop: the released code's overlapping quadrants.")
]
Ensemble = Annotated[
    bool, typer.Option("--ensemble", help="Average the 8 flips and rotations; 8 times slower.")
]
OfLr = Annotated[
    LrType, typer.Option("--lr", help="float: LR made here, not rounded to 8 bits; LR files are not used.")
]
Data = Annotated[list[Path] | None, typer.Option(help="Benchmark folder; may be given several times.")]
More = Annotated[list[Path] | None, typer.Argument(metavar="[DIR]...", help="More benchmark folders.")]
Metrics = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME[=FILE]",
        help="One more column: ms-ssim, ssimulacra2, flip, lpips=FILE[,FILE] or dists=FILE[,FILE].",
    ),
]
CsvFile = Annotated[Path | None, typer.Option("--csv", help="Write a row per image to this file.")]


def evaluate(
    model: Annotated[
        list[str],
        typer.Option(
            autocompletion=bundled_names, help="A bundled name, a file, or bicubic; several make one table."
        ),
    ],
    scale: Annotated[Scale, typer.Option(help="The upscaling factor.")],
    data: Data = None,
    more: More = None,
    protocol: InQuadrants = "whole",
    ensemble: Ensemble = False,
    lr: OfLr = "uint8",
    device: Device = "auto",
    metrics: Metrics = None,
    as_json: Json = False,
    json_file: JsonFile = None,
    csv_file: CsvFile = None,
    save_images: Annotated[
        Path | None,
        typer.Option(
            help="Write the SR images to this folder, in one folder per model if there are several."
        ),
    ] = None,
) -> int:
    """Upscale benchmark images and score them: PSNR and SSIM on luma, by the protocol of the field.

    A folder holds HR_xS and LR_xS, or HR images only; LR images are then made by MATLAB's bicubic.
    """
    from enlca.evaluation.several import evaluate_each, methods_called

    folders = folders_of(data, more)
    options = {"device": device, "protocol": protocol, "ensemble": ensemble}
    shared = {"scale": scale, "lr": lr, "metrics": _metrics(metrics)}
    methods = methods_called(model, scale=scale, **options)
    with progress("evaluating") as show:
        results = evaluate_each(methods, folders, **shared, save_images=save_images, on_image=show)
    return _publish(results, as_json, json_file, csv_file)


def score(
    sr_dir: Annotated[Path, typer.Argument(help="Folder of SR images, made by any method.")],
    hr_dir: Annotated[Path, typer.Argument(help="Folder of the HR images.")],
    scale: Annotated[Scale, typer.Option(help="The factor by which they were upscaled.")],
    metrics: Metrics = None,
    as_json: Json = False,
    json_file: JsonFile = None,
    csv_file: CsvFile = None,
) -> int:
    """Score existing SR images, made by any method, against HR."""
    from enlca.evaluation.evaluate import score_folders

    more = _metrics(metrics)
    found = score_folders(sr_dir, hr_dir, scale=scale, metrics=more)
    return _publish([found], as_json, json_file, csv_file)


def audit(
    sr_dir: Annotated[Path, typer.Argument(help="Folder of SR images, made by any method.")],
    hr_dir: Annotated[Path, typer.Argument(help="Folder of the HR images.")],
    scale: Annotated[Scale, typer.Option(help="The factor by which they were upscaled.")],
    as_json: Json = False,
    json_file: JsonFile = None,
    csv_file: CsvFile = None,
) -> int:
    """Score the same images under every common convention: why do my numbers differ?

    JSON and CSV have the scores of each image.
    """
    from enlca.evaluation.audit import to_csv, to_json, to_markdown
    from enlca.evaluation.given import audit_folders

    found = audit_folders(sr_dir, hr_dir, scale=scale)
    publish(to_json(found.rows, found.names, scale=scale), as_json=as_json, json_file=json_file)
    if csv_file:
        write_text(csv_file, to_csv(found.rows, found.names))
    if not as_json:
        print(to_markdown(found.rows), end="")
    return report_failures(found.failures)


def compare(
    model: Annotated[
        list[str],
        typer.Option(
            autocompletion=bundled_names,
            help="As in evaluate; or a folder of SR images, ./DIR if a model is called DIR. "
            "All are compared with the first.",
        ),
    ],
    scale: Annotated[Scale, typer.Option(help="The upscaling factor.")],
    data: Data = None,
    more: More = None,
    protocol: InQuadrants = "whole",
    ensemble: Ensemble = False,
    lr: OfLr = "uint8",
    device: Device = "auto",
    metrics: Metrics = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", help="Write a page with plots and crops to this file.")
    ] = None,
    as_json: Json = False,
    json_file: JsonFile = None,
    csv_file: CsvFile = None,
    crops: Annotated[
        int, typer.Option(min=0, max=100, help="How many images of each model the page shows crops of.")
    ] = 4,
    save_images: Annotated[
        Path | None, typer.Option(help="Keep the SR images in this folder, in one folder per model.")
    ] = None,
) -> int:
    """Compare methods image by image: mean differences with 95 % confidence intervals, and where they are.

    A model may be a folder of SR images that any method made, named as their authors did.
    """
    from contextlib import nullcontext
    from tempfile import TemporaryDirectory

    from enlca.evaluation.compare import Comparison
    from enlca.evaluation.crops import rows
    from enlca.evaluation.page import page
    from enlca.evaluation.several import evaluate_each, methods_called

    folders = folders_of(data, more)
    options = {"device": device, "protocol": protocol, "ensemble": ensemble}
    shared = {"scale": scale, "lr": lr, "metrics": _metrics(metrics)}
    methods = methods_called(model, scale=scale, **options)
    # Where to crop is known when all scores are.
    with nullcontext(save_images) if save_images else TemporaryDirectory(prefix="enlca-") as kept:
        keep = Path(kept) if save_images or html_file else None
        with progress("comparing") as show:
            results = evaluate_each(methods, folders, **shared, save_images=keep, on_image=show)
        comparison = Comparison.of(results)
        if html_file:
            text = page(comparison, rows(comparison, results, per_method=crops), made_by=_made_by())
            write_text(html_file, text)
    publish(comparison.to_json(), as_json=as_json, json_file=json_file)
    if csv_file:
        write_text(csv_file, comparison.to_csv())
    if not as_json:
        print(comparison.to_markdown(), end="")
    return report_failures(_failures(results))


def folders_of(data: Sequence[Path] | None, more: Sequence[Path] | None) -> list[Path]:
    """Return the benchmark folders of `--data` and of the arguments. Raises a usage error without any."""
    folders = [*(data or []), *(more or [])]
    if not folders:
        raise typer.BadParameter("name a benchmark folder: --data DIR")
    return folders


def _metrics(words: Sequence[str] | None) -> list["Metric"]:
    """Return the further metrics, after the checksums of their files of weights on stderr."""
    from enlca.evaluation.perceptual import metrics_called

    found = metrics_called(words or [])
    for metric in found:
        for name, checksum in metric.files.items():
            print(printable(f"enlca: {metric.column}: {name} sha256 {checksum}"), file=sys.stderr)
    return found


def _publish(
    results: Sequence["Evaluation"], as_json: bool, json_file: Path | None, csv_file: Path | None
) -> int:
    from enlca.evaluation.report import to_csv, to_json, to_markdown

    reports = [result.report for result in results if result.report.images]
    publish(to_json(reports), as_json=as_json, json_file=json_file if reports else None)
    if reports:
        if csv_file:
            write_text(csv_file, to_csv(reports))
        if not as_json:
            print(to_markdown(reports), end="")
    return report_failures(_failures(results))


def _failures(results: Sequence["Evaluation"]) -> list[str]:
    """Return each failure once: a picture that cannot be read is the same one for every model."""
    return list(dict.fromkeys(line for result in results for line in result.failures))


def _made_by() -> str:
    from datetime import date

    import enlca

    return f"enlca compare, version {enlca.__version__}, {date.today().isoformat()}"
