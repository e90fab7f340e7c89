"""Commands that measure: `evaluate`, `score` and `audit` images, `cost` of networks and attention."""

import json
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from enlca.cli.common import Device, Json, Scale, progress, report_failures, write_text

if TYPE_CHECKING:
    from enlca.evaluation.evaluate import Evaluation
    from enlca.network.sr import SRConfig

MIB = 2**20
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
OnDevice = Annotated[Device, typer.Option(help="auto takes a GPU if there is one.")]
Data = Annotated[list[Path] | None, typer.Option(help="Benchmark folder; may be given several times.")]
More = Annotated[list[Path] | None, typer.Argument(metavar="[DIR]...", help="More benchmark folders.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write protocol and scores to this file.")]
CsvFile = Annotated[Path | None, typer.Option("--csv", help="Write a row per image to this file.")]


def evaluate(
    model: Annotated[
        list[str], typer.Option(help="A bundled name, a file, or bicubic; several make one table.")
    ],
    scale: Annotated[Scale, typer.Option(help="The upscaling factor.")],
    data: Data = None,
    more: More = None,
    protocol: InQuadrants = "whole",
    ensemble: Ensemble = False,
    lr: OfLr = "uint8",
    device: OnDevice = "auto",
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
    methods = methods_called(model, scale=scale, **options)
    with progress("evaluating") as show:
        results = evaluate_each(methods, folders, scale=scale, lr=lr, save_images=save_images, on_image=show)
    return _publish(results, json_file, csv_file)


def score(
    sr_dir: Annotated[Path, typer.Argument(help="Folder of SR images, made by any method.")],
    hr_dir: Annotated[Path, typer.Argument(help="Folder of the HR images.")],
    scale: Annotated[Scale, typer.Option(help="The factor by which they were upscaled.")],
    json_file: JsonFile = None,
    csv_file: CsvFile = None,
) -> int:
    """Score existing SR images, made by any method, against HR."""
    from enlca.evaluation.evaluate import score_folders

    return _publish([score_folders(sr_dir, hr_dir, scale=scale)], json_file, csv_file)


def audit(
    sr_dir: Annotated[Path, typer.Argument(help="Folder of SR images, made by any method.")],
    hr_dir: Annotated[Path, typer.Argument(help="Folder of the HR images.")],
    scale: Annotated[Scale, typer.Option(help="The factor by which they were upscaled.")],
) -> int:
    """Score the same images under every common convention: why do my numbers differ?"""
    from enlca.evaluation.audit import to_markdown
    from enlca.evaluation.given import audit_folders

    rows, failures = audit_folders(sr_dir, hr_dir, scale=scale)
    print(to_markdown(rows), end="")
    return report_failures(failures)


def cost(
    more: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", help="More models.")] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="A bundled name, a file, or a network's name; may be repeated."),
    ] = None,
    size: Annotated[
        str, typer.Option(metavar="HxW", help="Height and width of the LR image, in pixels.")
    ] = "100x100",
    scale: Annotated[Scale | None, typer.Option(help="Default: the model's own, or 4.")] = None,
    measure: Annotated[bool, typer.Option("--time", help="Also run each one here and time it.")] = False,
    as_json: Json = False,
) -> None:
    """Count parameters, operations and memory of networks; without a model, of each attention of Table 4."""
    height, width = _height_and_width(size)
    import torch

    from enlca.analysis.cost import count, seconds, table4
    from enlca.network.sr import SRNetwork

    models = [*(model or []), *(more or [])]
    work = [(name, {}, row.build, row.shapes) for name, row in table4(height, width).items()]
    if models:
        configs = [(name, settings_of(name, scale)) for name in models]
        picture = [(1, 3, height, width)]
        work = [(name, {"scale": c.scale}, partial(SRNetwork, c), picture) for name, c in configs]
    rows = []
    with progress("counting") as show:
        for done, (name, facts, build, shapes) in enumerate(work):
            show(name, done, len(work))
            time = {"measured_seconds": round(seconds(build, *shapes), 6)} if measure else {}
            rows.append({"name": name, **facts, **count(build, *shapes)._asdict(), **time})
    body = {"height": height, "width": width, "networks" if models else "table4": rows}
    if measure:
        body["measured_on"] = {
            "device": "cpu",
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }
    print(json.dumps(body) if as_json else "\n".join(_lines(body, rows)))


def settings_of(name: str, scale: int | None) -> "SRConfig":
    """Return the settings of bundled weights, of a checkpoint, or of a network without weights here.

    Raises:
        CheckpointError: unknown name, or a checkpoint for another scale.
    """
    import torch

    from enlca.checkpoint.store import bundled, locate, read_card
    from enlca.errors import CheckpointError
    from enlca.network.zoo import NETWORKS

    weights = {item.name: item.scale for item in bundled() if scale in (None, item.scale)}
    if name in NETWORKS and name not in weights:
        with torch.device("meta"):
            return NETWORKS[name](scale or 4).config
    try:
        path = locate(name, scale)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; or a network: {', '.join(sorted(NETWORKS))}") from error
    config = read_card(path).network
    if scale is not None and config.scale != scale:
        raise CheckpointError(f"{path}: upscales x{config.scale}, not x{scale}")
    return config


def _height_and_width(size: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,5})", size)
    if not match:
        raise typer.BadParameter(f"--size must be HEIGHTxWIDTH in pixels, like 100x100; got {size!r}")
    return int(match[1]), int(match[2])


def _lines(body: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    networks, on = "networks" in body, body.get("measured_on")
    what = "an image" if networks else "a feature map of 64 channels, in and out (the paper's Table 4),"
    nlsa = "NLSA-r4: as it runs here, hashing included; the paper's own count is not derived."
    header = f"{'':16} " + (f"{'scale':>5} {'parameters':>11} " if networks else "")
    lines = [
        f"One forward pass on {what} of {body['height']}x{body['width']}, in float32.",
        "GFLOPs: matrix products and convolutions; a product and a sum are two operations.",
        "memory: the peak of activations; weights are not counted.",
        *([] if networks else [nlsa]),
        *([f"time: measured here, processor, {on['threads']} threads, torch {on['torch']}."] if on else []),
        f"\n{header}{'GFLOPs':>9} {'memory':>12}" + (f" {'time':>10}" if on else ""),
    ]
    for row in rows:
        sizes = f"{'x' + str(row['scale']):>5} {row['parameters']:>11,} " if networks else ""
        numbers = f"{row['flops'] / 1e9:>9,.2f} {row['activation_bytes'] / MIB:>8,.1f} MiB"
        lines.append(
            f"{row['name']:16} {sizes}{numbers}" + (f" {row['measured_seconds']:>8.4f} s" if on else "")
        )
    return lines


def folders_of(data: Sequence[Path] | None, more: Sequence[Path] | None) -> list[Path]:
    """Return the benchmark folders of `--data` and of the arguments. Raises a usage error without any."""
    folders = [*(data or []), *(more or [])]
    if not folders:
        raise typer.BadParameter("name a benchmark folder: --data DIR")
    return folders


def _publish(results: Sequence["Evaluation"], json_file: Path | None, csv_file: Path | None) -> int:
    from enlca.evaluation.report import to_csv, to_json, to_markdown

    if reports := [result.report for result in results if result.report.images]:
        if json_file:
            write_text(json_file, to_json(reports))
        if csv_file:
            write_text(csv_file, to_csv(reports))
        print(to_markdown(reports), end="")
    # A picture that cannot be read is the same failure for every model.
    return report_failures(list(dict.fromkeys(line for result in results for line in result.failures)))
