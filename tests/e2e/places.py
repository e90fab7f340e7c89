"""What the tests of hostile places share."""

import subprocess
import sys

from odd import png, seen, smooth

H, W, S = 7, 11, 4
GOOD = png(smooth(H, W, 3))


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def check_made(path, size=(W, H)):
    assert seen(path).shape == (S * size[1], S * size[0], 3)


def one_line(done, name, reason):
    """The line about `name`, and no other."""
    [line] = done.err.splitlines()
    assert line.startswith(f"enlca: {name}")
    assert reason in line
    return line


def started(*words, limit=40, stdout=subprocess.PIPE, **settings):
    """The command as a process of its own, which must end in time."""
    program = [sys.executable, "-m", "enlca", *map(str, words)]
    settings = {"stdout": stdout, "stderr": subprocess.PIPE, "text": True, "timeout": limit, **settings}
    return subprocess.run(program, check=False, **settings)
