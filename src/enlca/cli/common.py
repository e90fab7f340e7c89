"""Option types that commands share."""

from pathlib import Path
from typing import Annotated, Literal

import typer

# Written here, not imported, so that a wrong word is reported before torch is loaded; tests compare them with
# the modules that use them.
Scale = Literal[2, 3, 4]
Device = Literal["auto", "cpu", "cuda", "mps"]
# The weights in the package, without importing what knows their format: for the completion in shells.
WEIGHTS = Path(__file__).parents[1] / "checkpoint" / "weights"


def bundled_names(incomplete: str) -> list[str]:
    """Return the bundled models whose names begin like this; for the completion in shells."""
    names = {path.stem.rpartition("_x")[0] for path in WEIGHTS.glob("*.safetensors")}
    return sorted(name for name in names if name.startswith(incomplete))


ModelName = Annotated[
    str,
    typer.Option(
        autocompletion=bundled_names, help="A bundled name (see `enlca models`), a file or a repository."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, and nothing else.")]
JsonFile = Annotated[
    Path | None, typer.Option("--json-file", metavar="FILE", help="Write the JSON object to this file.")
]
