"""Serve on a port until Ctrl-C or SIGTERM; then finish what is at work."""

import ipaddress
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from enlca.checkpoint import DEFAULT_MODEL
from enlca.errors import PortTaken, require
from enlca.runtime.allocator import share_freed_memory
from enlca.serve.limits import Limits, Patience

if TYPE_CHECKING:
    from enlca.serve.running import Running


def serve(on_ready: Callable[[str], None], **settings: Any) -> None:
    """Serve (see `prepared`) until Ctrl-C or SIGTERM; a second Ctrl-C stops what is at work.

    `on_ready` gets the address when clients may connect.
    """
    share_freed_memory()
    with prepared(on_ready, **settings) as run, _signals_end_here():
        run()


@contextmanager
def prepared(
    on_ready: Callable[[str], None],
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    models: Sequence[str] = (),
    devices: Sequence[str] = ("auto",),
    limits: Limits = Limits(),  # noqa: B008 - frozen
    patience: Patience = Patience(),  # noqa: B008
    token: str | None = None,
    **options: Any,
) -> Iterator["Running"]:
    """Load the models, listen, and yield the server, which is to be called.

    Args:
        on_ready: called with the address when it serves.
        host: address or name to listen on.
        port: 0 takes any that is free.
        models: bundled names and files; the first is the default. Without any: DEFAULT_MODEL.
        devices: one worker each; "auto" is all GPUs, or the processor.
        limits: of requests.
        patience: with slow clients.
        token: what clients must know; None: nothing.
        options: further arguments of `Upscaler`.

    Raises:
        CheckpointError: one of `models` is none.
        DeviceError: there is no such device.
        EnlcaError: two models of one name.
        MissingExtra: Starlette, uvicorn or python-multipart is not installed.
        PortTaken: cannot listen there.
    """
    check_packages()
    from enlca.serve.app import Service
    from enlca.serve.engine import Engine, known_models
    from enlca.serve.pool import Pool
    from enlca.serve.running import Running

    with listening(host, port) as listener:
        known = known_models(models or [DEFAULT_MODEL])
        engines = [Engine(known, device=name, limits=limits, **options) for name in each(devices)]
        pool = Pool(engines, limits.queue)
        service = Service(models=known, pool=pool, limits=limits, patience=patience, token=token)
        address = f"http://{_in_address(host)}:{listener.getsockname()[1]}"
        try:
            yield Running(service, listener, on_ready=lambda: on_ready(address))
        finally:
            pool.stop()


def check_packages() -> None:
    """Raise MissingExtra if Starlette, uvicorn or python-multipart is not installed; loads nothing else."""
    with require("serve", feature="the server"):
        # Starlette's forms need it, and say so only when they are used.
        import python_multipart  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401


def each(devices: Sequence[str]) -> list[str]:
    """Return the devices of the workers, each once: "auto" is all GPUs, or else what computes best.

    Raises:
        DeviceError: there is no such device.
    """
    import torch

    from enlca.runtime.device import choose_device

    found: dict[str, None] = {}
    for name in devices:
        if name in ("auto", "cuda") and torch.cuda.is_available():
            found |= {f"cuda:{number}": None for number in range(torch.cuda.device_count())}
        else:
            found[str(choose_device(name))] = None
    return list(found)


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """Yield a listening socket. Raises PortTaken."""
    try:
        [(family, *_, address), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        listener = socket.create_server(address, family=family)
    except (OSError, UnicodeError) as error:
        message = f"cannot listen on {host}:{port}: it is taken, or not this machine's; choose another --port"
        raise PortTaken(message) from error
    with listener:
        yield listener


def _in_address(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@contextmanager
def _signals_end_here() -> Iterator[None]:
    """Ignore signals that uvicorn has handled, which it raises once more when it has ended."""
    try:
        before = {
            number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)
        }
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            # uvicorn finishes its requests for SIGTERM only.
            as_term = lambda *_: signal.raise_signal(signal.SIGTERM)  # noqa: E731
            before[signal.SIGHUP] = signal.signal(signal.SIGHUP, as_term)
    except ValueError:
        # Not in the main thread, where uvicorn leaves signals alone.
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
