"""A command in a process of its own: its seconds and its peak of memory."""

import os
import subprocess
import sys
from typing import NamedTuple

# The peak of a process begins with what its parent used when it was forked: so a small process forks it.
_LAUNCHER = """
import os, subprocess, sys, time
started = time.perf_counter()
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE)
out = child.stdout.read()
_, status, usage = os.wait4(child.pid, 0)
sys.stderr.write(f"{time.perf_counter() - started} {usage.ru_maxrss}")
sys.stdout.buffer.write(out)
sys.exit(os.waitstatus_to_exitcode(status) != 0)
"""


class Run(NamedTuple):
    """What a command took, and what it printed."""

    seconds: float
    peak_mib: float
    out: str


def run(command: list[str], *, threads: int) -> Run:
    """One run, by so many threads, with Python's bytecode kept, as it is for users.

    Raises RuntimeError: it fails, or says anything on stderr.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _LAUNCHER, *command],
        env={**environment, "OMP_NUM_THREADS": str(threads)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0 or len(done.stderr.split()) != 2:
        raise RuntimeError(f"the command failed: nothing to report\n{done.stderr}")
    seconds, peak = done.stderr.split()
    # Linux counts ru_maxrss in KiB, macOS in bytes.
    return Run(float(seconds), int(peak) / (1024 if sys.platform != "darwin" else 1 << 20), done.stdout)
