"""The command that opens the web page: `explore`."""

from pathlib import Path
from typing import Annotated

import typer


def explore(
    model: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="A checkpoint beside the bundled ones; may be given several times."
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of the page.")] = 7860,
    host: Annotated[
        str, typer.Option(help="Who may open it: this machine alone, or all that reach 0.0.0.0.")
    ] = "127.0.0.1",
    max_megapixels: Annotated[float, typer.Option(min=0.01, help="Larger pictures are refused.")] = 2.5,
) -> None:
    """Look into networks in the browser: enlarge a picture, click on it, see where attention looks."""
    from enlca.explorer.server import serve_until_interrupted

    serve_until_interrupted(
        lambda url: print(f"{url}  (Ctrl-C ends it, and deletes what visitors brought)", flush=True),
        host=host,
        port=port,
        models=model or [],
        max_megapixels=max_megapixels,
    )


COMMANDS = (explore,)
SETTINGS: dict[str, dict] = {}
