"""The command that serves the web page: `explore`."""

from pathlib import Path
from typing import Annotated

import typer


def explore(
    model: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A checkpoint to offer beside the bundled ones; may be repeated."),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the page.")] = 7860,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines open the page.")
    ] = "127.0.0.1",
    max_megapixels: Annotated[float, typer.Option(min=0.01, help="Refuse larger pictures.")] = 2.5,
) -> None:
    """Look into networks in the browser: upscale a picture, click on it, see where attention looks."""
    from enlca.explorer.server import serve_until_interrupted

    serve_until_interrupted(
        lambda url: print(f"{url}  (Ctrl-C stops it and deletes all uploads and results)", flush=True),
        host=host,
        port=port,
        models=model or [],
        max_megapixels=max_megapixels,
    )
