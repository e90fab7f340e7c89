"""The command that hands networks to other runtimes: `export`."""

from pathlib import Path
from typing import Annotated

import typer

from enlca.cli.common import progress
from enlca.cli.pictures import check_scale

SUFFIXES = {".onnx": "onnx", ".xml": "openvino"}


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A bundled name or a checkpoint file.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A name that ends in .onnx or .xml (OpenVINO).")],
    scale: Annotated[int | None, typer.Option(help="Of a bundled name: 2, 3 or 4.")] = None,
) -> None:
    """Write a network for ONNX or OpenVINO, after checking that it computes the same there."""
    check_scale(scale)
    if out.suffix.lower() not in SUFFIXES:
        raise typer.BadParameter(f"exports to .onnx or .xml (OpenVINO); got {out.name}")
    if out.is_dir():
        raise typer.BadParameter(f"{out} is a folder")
    if not out.parent.is_dir():
        raise typer.BadParameter(f"{out}: there is no folder {out.parent}")
    from enlca.export.extras import PACKAGES, need

    for package in PACKAGES[SUFFIXES[out.suffix.lower()]]:
        need(package)
    from enlca.checkpoint.store import load_with_card
    from enlca.export.files import export_file

    network, card = load_with_card(model, scale)
    with progress("exporting") as show:
        show(out.name, 0, 1)
        difference = export_file(network, card, out)
    count = sum(parameter.numel() for parameter in network.parameters())
    print(
        f"{model} -> {out} (x{card.network.scale}, {count:,} parameters, "
        f"differs from PyTorch by at most {difference:.0e})"
    )


COMMANDS = (export,)
SETTINGS: dict[str, dict] = {}
