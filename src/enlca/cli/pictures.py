"""Commands that make pictures: `upscale`, `degrade`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from enlca.cli.common import progress, report_failures

FORMATS = ("png", "jpg", "webp", "tif", "avif")


def upscale(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT...", help="Pictures, or folders of pictures.")
    ],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="A file, or a folder. Default: beside each input.")
    ] = None,
    model: Annotated[str, typer.Option(help="A bundled name (see `enlca models`) or a file.")] = "enlcn-tiny",
    scale: Annotated[int | None, typer.Option(help="2, 3 or 4. Default: the model's own.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    format: Annotated[
        str, typer.Option(help=f"{', '.join(FORMATS)}; a file named by -o decides itself.")
    ] = "png",
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of jpg, webp and avif.")] = 95,
    ensemble: Annotated[bool, typer.Option("--ensemble", help="Average 8 views; 8 times slower.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> int:
    """Enlarge pictures."""
    if format not in FORMATS:
        raise typer.BadParameter(f"--format must be one of {', '.join(FORMATS)}; got {format!r}")
    check_scale(scale)
    from enlca.inference.jobs import plan, run
    from enlca.inference.upscaler import Upscaler

    upscaler = Upscaler(model, scale=scale, device=device, ensemble=ensemble)
    jobs, outcomes = plan(inputs, out, scale=upscaler.scale, suffix=f".{format}")
    with progress("enlarging") as show:
        for done, outcome in enumerate(run(jobs, upscaler, quality=quality)):
            outcomes.append(outcome)
            show(Path(outcome.source).name, done + 1, len(jobs))
    if as_json:
        print(
            json.dumps({"model": model, "scale": upscaler.scale, "pictures": [o.to_dict() for o in outcomes]})
        )
    else:
        for outcome in outcomes:
            if outcome.error is None:
                print(f"{outcome.source} -> {outcome.target} ({outcome.width}x{outcome.height})")
    return report_failures([outcome.error for outcome in outcomes if outcome.error])


def degrade(
    hr_dir: Annotated[Path, typer.Argument(help="Folder of large pictures.")],
    lr_dir: Annotated[Path, typer.Argument(help="Folder that receives the small ones, as PNG.")],
    scale: Annotated[int, typer.Option(help="2, 3 or 4.")],
) -> int:
    """Make small pictures of large ones: MATLAB's bicubic to the bit, after mod-cropping."""
    check_scale(scale)
    from enlca.data.degrade import degrade_folder

    with progress("degrading") as show:
        failures = degrade_folder(hr_dir, lr_dir, scale=scale, on_picture=show)
    return report_failures(failures)


def check_scale(scale: int | None) -> None:
    """Refuse a scale that no network here has, before anything heavy is loaded."""
    if scale not in (None, 2, 3, 4):
        raise typer.BadParameter(f"--scale must be 2, 3 or 4; got {scale}")


COMMANDS = (upscale, degrade)
SETTINGS: dict[str, dict] = {}
