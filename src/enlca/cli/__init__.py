"""The `enlca` command. Each sub-command imports what it needs when it runs, so help appears at once.

Exit codes: 0 all done; 1 some inputs failed, each named on stderr; 2 wrong usage; 130 interrupted.
"""

import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from enlca.runtime.signals import STOPPING

INTERRUPTED = 130
# Objects that PyTorch creates while it loads stay alive, but Python's default thresholds (700, 10) search
# them for garbage 380 times: a tenth of the time of a picture of few pixels (benchmarks/NOTES.md).
OBJECTS_BETWEEN_COLLECTIONS, YOUNG_PER_MIDDLE = 10_000, 50
INTERRUPTION = "enlca: interrupted; nothing is left half-written"


def main() -> None:
    """Run the command line and exit; every expected failure is one line on stderr and an exit code."""
    open_missing_streams()
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS, YOUNG_PER_MIDDLE)
    try:
        with interruptible():
            # Imported here, so that Ctrl-C while it loads is one line, too.
            from enlca.cli.app import run
            from enlca.runtime.allocator import keep_freed_memory

            keep_freed_memory()
            code = run()
    except KeyboardInterrupt:
        code = INTERRUPTED
        print(INTERRUPTION, file=sys.stderr)
    sys.exit(code)


def open_missing_streams() -> None:
    """Open the null device for standard streams that the caller closed (`2>&-`).

    Python sets them to None, which has no `isatty`, and their numbers are free: libraries would write their
    messages for stderr into the next file that is opened, such as a picture.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number, which is this one.
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - for the whole process


@contextmanager
def interruptible() -> Iterator[None]:
    """Make Ctrl-C, SIGTERM and SIGHUP always end in KeyboardInterrupt, with nothing else raised or printed.

    Python alone loses it in callbacks, and libraries lose it while they are imported.
    """
    received: list[int] = []
    again: list[threading.Timer] = []
    reporting = missed = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal missed
        received.append(number)
        if reporting:
            missed = True
            return
        raise KeyboardInterrupt

    def report(lost: Any) -> None:
        # In a callback or a destructor nothing can be raised; but a moment later it can. On a busy machine
        # that moment may be over before the timer's thread has started.
        nonlocal reporting, missed
        if not isinstance(lost.exc_value, KeyboardInterrupt):
            hook(lost)
            return
        reporting = missed = True
        while missed:
            missed = False
            again.append(threading.Timer(0.01, signal.raise_signal, [(received or [signal.SIGINT])[-1]]))
            again[-1].start()
        reporting = False

    hook = sys.unraisablehook
    # A shell that starts a command in the background has Ctrl-C ignored, and nohup SIGHUP: that stays.
    replaced = (signal.default_int_handler, signal.SIG_DFL)
    kinds = [kind for kind in STOPPING if signal.getsignal(kind) in replaced]
    before = {kind: signal.signal(kind, interrupt) for kind in kinds}
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
            # A timer that is firing already is answered here, not by the caller.
            for timer in again:
                timer.cancel()
                timer.join()
        finally:
            for kind, handler in before.items():
                signal.signal(kind, handler)
            sys.unraisablehook = hook
