"""The command `cost`: parameters, operations, memory, time of networks and of Table 4's attentions."""

import json
import re
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from enlca.cli.common import Json, Scale, progress

if TYPE_CHECKING:
    from enlca.network.sr import SRConfig

MIB = 2**20


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
    from enlca.network.sr import SRConfig
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
    if not isinstance(config, SRConfig):
        raise CheckpointError(f"{path}: a network of {config.build}, whose operations are not counted")
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
