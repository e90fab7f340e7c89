"""libvips, quiet: loaded by the first picture that needs it."""

import os
import threading
from typing import Any

_LOADING = threading.Lock()


def libvips() -> Any:
    """The module `pyvips`.

    libvips' warnings are switched off, and pyvips' own handler of them is taken away: GLib ends the process
    when a warning comes while that handler, which is Python, is at work, as it may by garbage collection.
    What is wrong with a file is raised as an error all the same.
    """
    # Two threads that take the handler away at once make GLib complain that the second finds none.
    with _LOADING:
        os.environ.setdefault("VIPS_WARNING", "1")
        import pyvips

        pyvips._remove_log_handler()
        return pyvips
