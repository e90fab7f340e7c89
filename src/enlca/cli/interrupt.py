"""Ctrl-C at whatever moment it comes: Python alone loses it in callbacks, and libraries in their imports."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Never


@contextmanager
def interruptible() -> Iterator[None]:
    """Inside, Ctrl-C always ends in KeyboardInterrupt; nothing else is raised or printed because of it."""
    received: list[int] = []
    again: list[threading.Timer] = []

    def interrupt(number: int, frame: FrameType | None) -> Never:
        received.append(number)
        raise KeyboardInterrupt

    def report(lost: Any) -> None:
        # In a callback or a destructor nothing can be raised; but a moment later it can.
        if isinstance(lost.exc_value, KeyboardInterrupt):
            again.append(threading.Timer(0.01, signal.raise_signal, [signal.SIGINT]))
            again[-1].start()
        else:
            hook(lost)

    handler, hook = signal.getsignal(signal.SIGINT), sys.unraisablehook
    # A shell that starts a command in the background has Ctrl-C ignored: that stays.
    if handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    sys.unraisablehook = report
    try:
        yield
    except Exception as error:
        # numpy, interrupted while it loads, raises an ImportError later on.
        if received:
            raise KeyboardInterrupt from error
        raise
    finally:
        try:
            # One that is firing already gets its answer here, not from whoever comes after us.
            for timer in again:
                timer.cancel()
                timer.join()
        finally:
            signal.signal(signal.SIGINT, handler)
            sys.unraisablehook = hook
