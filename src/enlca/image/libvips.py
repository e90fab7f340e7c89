"""libvips, quiet: loaded by the first picture that needs it."""

import functools
import os
from typing import Any


@functools.cache
def libvips() -> Any:
    """The module `pyvips`.

    libvips' warnings are switched off, and pyvips' own handler of them is taken away: GLib ends the process
    when a warning comes while that handler, which is Python, is at work, as it may by garbage collection.
    What is wrong with a file is raised as an error all the same.
    """
    os.environ.setdefault("VIPS_WARNING", "1")
    import pyvips

    pyvips._remove_log_handler()
    return pyvips
