"""The `enlca` command. Each sub-command is thin and imports what it needs when it runs, so help is instant.

Exit codes: 0 all done; 1 some inputs failed, each named on stderr; 2 wrong usage; 130 interrupted.
"""

import gc
import os
import sys

from enlca.cli.interrupt import interruptible

INTERRUPTED = 130
# What PyTorch makes while it loads stays, but Python's own settings (700, 10) look for garbage in it 380
# times: a tenth of the time of a small picture (benchmarks/NOTES.md).
OBJECTS_BETWEEN_COLLECTIONS, YOUNG_PER_MIDDLE = 10_000, 50
INTERRUPTION = "enlca: interrupted; nothing is left half-written"


def main() -> None:
    """Run the command line; every expected failure is one line on stderr and an exit code."""
    open_missing_streams()
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS, YOUNG_PER_MIDDLE)
    try:
        with interruptible():
            # Here and not above, so that Ctrl-C gets its one line while this loads, too.
            from enlca.cli.commands import run
            from enlca.runtime.allocator import keep_freed_memory

            keep_freed_memory()
            code = run()
    except KeyboardInterrupt:
        code = INTERRUPTED
        print(INTERRUPTION, file=sys.stderr)
    sys.exit(code)


def open_missing_streams() -> None:
    """Let standard streams that the caller closed (`2>&-`) lead to the null device.

    Python has None for them, which has no `isatty`. And their numbers are free: the next file that is opened,
    a picture perhaps, would get what libraries write to stderr.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number, which is this one.
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - for the whole process
