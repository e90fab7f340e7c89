"""`enlca degrade`: LR images of HR images."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from enlca.cli.common import Json, JsonFile, Scale
from enlca.cli.output import printable, progress, publish, report_failures, write_out

Preset = Literal["clean", "web", "phone", "noisy", "strong"]


def degrade(
    hr_dir: Annotated[Path, typer.Argument(help="Folder of HR images.")],
    lr_dir: Annotated[Path, typer.Argument(help="Folder that receives the LR images, as PNG.")],
    scale: Annotated[Scale, typer.Option(help="The factor by which they are downscaled.")],
    preset: Annotated[
        Preset, typer.Option(help="clean: MATLAB's bicubic to the bit. The others: as photographs are.")
    ] = "clean",
    seed: Annotated[int, typer.Option(min=0, help="Of the random draws of a preset.")] = 0,
    as_json: Json = False,
    json_file: JsonFile = None,
) -> int:
    """Make LR images of HR images, after mod-cropping: MATLAB's bicubic, or degraded as photographs are.

    The same seed and names give the same pictures. Files that exist are not replaced.
    """
    from enlca.data.degradations import degrade_folder
    from enlca.data.recipes import Degradation

    degradation = Degradation(preset=preset)
    with progress("degrading") as show:
        options = {"scale": scale, "degradation": degradation, "seed": seed}
        done = degrade_folder(hr_dir, lr_dir, **options, on_picture=show)
    body = {"folder": str(lr_dir), "scale": scale, "preset": preset, "seed": seed}
    publish(json.dumps(body | done._asdict()) + "\n", as_json=as_json, json_file=json_file)
    if not as_json:
        there = f", {done.kept} there already" if done.kept else ""
        failed = f", {len(done.failures)} failed" if done.failures else ""
        write_out(printable(f"{lr_dir}: {done.made} made{there}{failed}") + "\n")
    return report_failures(done.failures)
