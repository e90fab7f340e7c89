"""Stopping by signals: the first one asks, so that what is at work can be finished and saved."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Never

# What asks a command to stop: Ctrl-C, the system, and a terminal that is closed. Windows lacks the last.
STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextmanager
def stop_politely() -> Iterator[threading.Event]:
    """Handle Ctrl-C, SIGTERM and SIGHUP: the first sets the event, the second raises KeyboardInterrupt."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def ask(number: int, frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    with handling(ask):
        yield asked


@contextmanager
def handling(handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    """Have `handler` called for each signal of STOPPING inside; those that are ignored stay ignored.

    A shell that starts a command in the background has Ctrl-C ignored, nohup SIGHUP.
    """
    kinds = [kind for kind in STOPPING if signal.getsignal(kind) != signal.SIG_IGN]
    before = {kind: signal.signal(kind, handler) for kind in kinds}
    try:
        yield
    finally:
        for kind, earlier in before.items():
            signal.signal(kind, earlier)


def interrupt(number: int, frame: FrameType | None) -> Never:
    """Raise KeyboardInterrupt: a handler for `handling`."""
    raise KeyboardInterrupt
