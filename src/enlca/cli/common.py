"""Shared by the commands: option types, progress on stderr, result files, lines about failures."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from enlca.runtime.concurrency import Progress

# Written here, not imported, so that a wrong word is reported before torch is loaded; tests compare them with
# the modules that use them.
Scale = Literal[2, 3, 4]
Device = Literal["auto", "cpu", "cuda", "mps"]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


@contextmanager
def progress(title: str) -> Iterator["Progress"]:
    """Show a progress bar on stderr; nothing where stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield lambda name, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # What is printed meanwhile goes above the bar, but a file or a pipe gets it as it is.
    shown = sys.stdout.isatty()
    with Bar(*columns, console=Console(stderr=True), transient=True, redirect_stdout=shown) as bar:
        task = bar.add_task(title, total=None)

        def show(what: str, done: int | float, total: int | float) -> None:
            bar.update(task, description=f"{title} {what}".strip(), completed=done, total=total)

        yield show


def report_failures(failures: Sequence[str]) -> int:
    """Print each failure on stderr and return the exit code, 0 or 1."""
    for line in failures:
        print(f"enlca: {printable(line)}", file=sys.stderr)
    return 1 if failures else 0


def write_out(text: str) -> None:
    """Print on stdout at once. A reader that has left misses it; the work goes on."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes stdout once more at exit, and so do the lines that follow.
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)


def printable(line: str) -> str:
    """Escape line feeds and other unprintable characters, which file names can hold."""
    shown = (c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in line)
    return "".join(shown)


def write_text(path: Path, text: str) -> None:
    """Write a result file whole.

    Raises:
        EnlcaError: it cannot be written.
    """
    from enlca.errors import EnlcaError
    from enlca.runtime.files import write_atomically

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode())
    except OSError as error:
        raise EnlcaError(f"{path}: cannot be written: {error.strerror or error}") from error
