"""The command `cost`: parameters, operations, memory, time of networks and of Table 4's attentions."""

import json
import re
from collections.abc import Callable
from functools import partial
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from enlca.cli.common import Json, JsonFile, Scale, bundled_names
from enlca.cli.output import progress, publish

if TYPE_CHECKING:
    from enlca.network.interface import SRModel

MIB = 2**20
# Exact attention is counted by parts of its queries: some seconds for so many.
MOST_PIXELS = 4096 * 4096


def cost(
    more: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", help="More models.")] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            autocompletion=bundled_names,
            help="A bundled name, a file of any known kind, or a method's name; may be repeated.",
        ),
    ] = None,
    size: Annotated[
        str, typer.Option(metavar="HxW", help="Height and width of the LR image, in pixels.")
    ] = "100x100",
    scale: Annotated[Scale | None, typer.Option(help="Default: the model's own, or 4.")] = None,
    measure: Annotated[bool, typer.Option("--time", help="Also run each one here and time it.")] = False,
    as_json: Json = False,
    json_file: JsonFile = None,
) -> None:
    """Count parameters, operations and memory of networks; without a model, of each attention of Table 4."""
    height, width = _height_and_width(size)
    import torch

    from enlca.analysis.cost import count, seconds, table4

    models = [*(model or []), *(more or [])]
    work = [(name, {}, row.build, row.shapes) for name, row in table4(height, width).items()]
    if models:
        found = [(name, *network_of(name, scale)) for name in models]
        work = [
            (name, {"scale": network.scale}, build, [_picture(network, height, width)])
            for name, network, build in found
        ]
    rows = []
    with progress("counting") as show:
        for done, (name, facts, build, shapes) in enumerate(work):
            show(name, done, len(work))
            counted, time = count(build, *shapes), {}
            if measure:
                _require(counted.activation_bytes, name)
                time = {"measured_seconds": round(seconds(build, *shapes), 6)}
            rows.append({"name": name, **facts, **counted._asdict(), **time})
    body = {"height": height, "width": width, "networks" if models else "table4": rows}
    if measure:
        body["measured_on"] = {
            "device": "cpu",
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }
    publish(json.dumps(body) + "\n", as_json=as_json, json_file=json_file)
    if not as_json:
        print("\n".join(_lines(body, rows)))


def _require(needed: int, name: str) -> None:
    """Raise TooLarge for activations that do not fit into the free memory of this machine."""
    import torch

    from enlca.errors import TooLarge
    from enlca.runtime.device import as_text, free_memory

    if needed > (free := free_memory(torch.device("cpu"))):
        needs = f"{name} needs {as_text(needed)} at this --size, and {as_text(free)} are free"
        raise TooLarge(f"{needs}: leave out --time, or take a smaller one")


def network_of(name: str, scale: int | None) -> "tuple[SRModel, Callable[[], SRModel]]":
    """Return a network, for its facts, and a function that makes it: from any model, or by a method's name.

    A name without weights here is a network of the paper's family or a method of Table 1, of its full size.

    Raises:
        CheckpointError: unknown name, a file that cannot be used, or not for this scale.
    """
    import torch

    from enlca.checkpoint.store import bundled, load_model
    from enlca.errors import CheckpointError
    from enlca.network.sr import SRNetwork
    from enlca.network.zoo import NETWORKS
    from enlca.peers import PEERS

    known = NETWORKS | {key: peer.build for key, peer in PEERS.items()}
    weights = {item.name for item in bundled() if scale in (None, item.scale)}
    if name.lower() in known and name not in weights and not Path(name).exists():
        build = partial(known[name.lower()], scale=scale or 4)
        try:
            with torch.device("meta"):
                return build(), build
        except ValueError as error:
            raise CheckpointError(f"{name}: {error}") from error
    try:
        network = load_model(name, scale).model
    except CheckpointError as error:
        if not str(error).startswith("unknown model"):
            raise
        names = ", ".join([*sorted(NETWORKS), *PEERS])
        raise CheckpointError(f"{error}; or a network: {names}") from error
    if isinstance(network, SRNetwork):
        return network, partial(SRNetwork, network.config)
    return network, lambda: network


def _picture(network: "SRModel", height: int, width: int) -> tuple[int, int, int, int]:
    """Return the shape that inference pads a picture of this size to for the network."""
    step = network.input_multiple
    height, width = (ceil(max(side, network.smallest_input) / step) * step for side in (height, width))
    return 1, 3, height, width


def _height_and_width(size: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,5})", size)
    if not match:
        raise typer.BadParameter(f"--size must be HEIGHTxWIDTH in pixels, like 100x100; got {size!r}")
    height, width = int(match[1]), int(match[2])
    if height * width > MOST_PIXELS:
        raise typer.BadParameter(f"--size counts at most {MOST_PIXELS:,} pixels; got {size}")
    return height, width


def _lines(body: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    networks, on = "networks" in body, body.get("measured_on")
    what = "an image" if networks else "a feature map of 64 channels, in and out (the paper's Table 4),"
    nlsa = "NLSA-r4: as it runs here, hashing included; the paper's own count is not derived."
    wide = max(16, *(len(row["name"]) for row in rows), 0)
    header = f"{'':{wide}} " + (f"{'scale':>5} {'parameters':>11} " if networks else "")
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
            f"{row['name']:{wide}} {sizes}{numbers}" + (f" {row['measured_seconds']:>8.4f} s" if on else "")
        )
    return lines
