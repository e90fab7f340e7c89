"""The command that serves: `serve`."""

import math
import sys
from typing import Annotated

import typer

from enlca.checkpoint import DEFAULT_MODEL
from enlca.cli.common import MaxPixels, Mode, Precision, bundled_names


def serve(
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|FILE",
            autocompletion=bundled_names,
            help="A model to offer; may be repeated, the first is the default. Default: " + DEFAULT_MODEL,
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines connect.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes any that is free.")] = 8000,
    device: Annotated[
        list[str] | None,
        typer.Option(
            help="auto (all GPUs, or the CPU), cpu, cuda, cuda:1 or mps; may be repeated: a worker each."
        ),
    ] = None,
    precision: Annotated[
        Precision, typer.Option(help="auto is bf16 where the hardware is faster in it.")
    ] = "auto",
    mode: Annotated[Mode, typer.Option(help="As in upscale.")] = "auto",
    max_memory: Annotated[
        str | None, typer.Option(help="Like 2GiB. Default: half of the device's free memory.")
    ] = None,
    max_pixels: MaxPixels = 1 << 24,
    max_body: Annotated[str, typer.Option(help="Refuse larger uploads.")] = "64MiB",
    queue: Annotated[
        int, typer.Option(min=0, help="Requests that wait for a worker; others are answered 503.")
    ] = 16,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds from the end of an upload to its result.")
    ] = 300.0,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="ENLCA_TOKEN",
            show_envvar=True,
            help="Clients must send it. Set the variable instead: other users see the words of a command.",
        ),
    ] = None,
) -> None:
    """Upscale pictures over HTTP: POST /v1/upscale?scale=4&format=png. GET /docs describes it."""
    from enlca.serve.server import check_packages, is_loopback
    from enlca.serve.server import serve as run

    check_packages()
    from enlca.runtime.device import size_in_bytes
    from enlca.serve.limits import Limits

    if token is not None and not (token.isascii() and token.isprintable() and token.strip() == token != ""):
        raise typer.BadParameter("--token must be printable ASCII characters")
    if not math.isfinite(timeout):
        raise typer.BadParameter(f"--timeout must be finite; got {timeout}")
    limits = Limits(max_pixels=max_pixels, max_body=size_in_bytes(max_body), queue=queue, timeout=timeout)

    def ready(address: str) -> None:
        where = "this machine only; see --host" if is_loopback(host) else "other machines can connect"
        print(f"{address}  ({where}; Ctrl-C finishes what is at work and ends)", flush=True)
        if not is_loopback(host) and token is None:
            print("enlca: without ENLCA_TOKEN, all who can connect may use it", file=sys.stderr)

    run(
        ready,
        host=host,
        port=port,
        models=model or [],
        devices=device or ["auto"],
        limits=limits,
        token=token,
        precision=precision,
        mode=mode,
        max_memory=None if max_memory is None else size_in_bytes(max_memory),
    )
