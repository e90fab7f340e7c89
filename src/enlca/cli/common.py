"""Shared by the commands: option types, and files of results."""

from pathlib import Path
from typing import Annotated, Literal

import typer

# Written here, not imported, so that a wrong word is reported before torch is loaded; tests compare them with
# the modules that use them.
Scale = Literal[2, 3, 4]
Device = Literal["auto", "cpu", "cuda", "mps"]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


def write_text(path: Path, text: str) -> None:
    """Write a result file whole.

    Raises:
        EnlcaError: it cannot be written.
    """
    from enlca.errors import EnlcaError
    from enlca.runtime.files import write_atomically

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode())
    except OSError as error:
        raise EnlcaError(f"{path}: cannot be written: {error.strerror or error}") from error
