"""Option types that commands share."""

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

# Written here, not imported, so that a wrong word is reported before torch is loaded; tests compare them with
# the modules that use them.
Scale = Literal[2, 3, 4]
LARGEST = 4
Format = Literal["png", "jpg", "jpeg", "webp", "tif", "avif", "gif"]
Mode = Literal["auto", "whole", "stream", "tiled"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
DEVICES = ("auto", "cpu", "cuda", "mps")
# The weights in the package, without importing what knows their format: for the completion in shells.
WEIGHTS = Path(__file__).parents[1] / "checkpoint" / "weights"


def bundled_names(incomplete: str) -> list[str]:
    """Return the bundled models whose names begin like this; for the completion in shells."""
    names = {path.stem.rpartition("_x")[0] for path in WEIGHTS.glob("*.safetensors")}
    return sorted(name for name in names if name.startswith(incomplete))


def device_name(value: str) -> str:
    """Return the name of a device. Raises BadParameter."""
    if value in DEVICES or re.fullmatch(r"cuda:\d{1,4}", value):
        return value
    raise typer.BadParameter(f"{value!r} is not one of {', '.join(map(repr, DEVICES))}, nor like 'cuda:1'")


def box(text: str) -> tuple[int, int]:
    """Parse a size in pixels: "1920x1080", or "1000" for both sides. Raises BadParameter."""
    found = re.fullmatch(r"(\d{1,9})(?:x(\d{1,9}))?", text)
    sides = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if min(sides) < 1:
        raise typer.BadParameter(f"{text!r} is no size in pixels; write one like 1920x1080")
    return sides


def factor(value: float | None) -> float | None:
    """Return the factor of a picture's sides. Raises BadParameter."""
    if value is not None and not 0 < value <= LARGEST:
        raise typer.BadParameter(f"must be above 0 and at most {LARGEST}; got {value:g}")
    return value


Device = Annotated[
    str,
    typer.Option(
        callback=device_name,
        metavar="[auto|cpu|cuda|cuda:N|mps]",
        help="auto takes a GPU if there is one; cuda:1 is the second.",
    ),
]
ModelName = Annotated[
    str,
    typer.Option(
        autocompletion=bundled_names,
        help="A bundled name (see `enlca models`), a file or a repository. "
        "enlcn-tiny is for speed: a third of the time of enlcn-light, for 0.3 dB less at x4.",
    ),
]
Factor = Annotated[
    float | None,
    typer.Option(callback=factor, help=f"Any factor up to {LARGEST}, such as 3.5. Default: the model's own."),
]
Quality = Annotated[int, typer.Option(min=1, max=100, help="For jpg, webp and avif.")]
MaxPixels = Annotated[
    int, typer.Option(min=1, help="Refuse pictures with more pixels than this by their header.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, and nothing else.")]
JsonFile = Annotated[
    Path | None, typer.Option("--json-file", metavar="FILE", help="Write the JSON object to this file.")
]
