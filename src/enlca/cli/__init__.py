"""The `enlca` command. Each sub-command is thin and imports what it needs when it runs, so help is instant.

Exit codes: 0 all done; 1 some inputs failed, each named on stderr; 2 wrong usage; 130 interrupted.
"""

import gc
import sys

from enlca.cli.interrupt import interruptible

INTERRUPTED = 130
# What PyTorch makes while it loads stays, but Python's own settings (700, 10) look for garbage in it 380
# times: a tenth of the time of a small picture (benchmarks/NOTES.md).
OBJECTS_BETWEEN_COLLECTIONS, YOUNG_PER_MIDDLE = 10_000, 50
INTERRUPTION = "enlca: interrupted; nothing is left half-written"


def main() -> None:
    """Run the command line; every expected failure is one line on stderr and an exit code."""
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
