"""What commands print: progress and failures on stderr, results on stdout."""

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from enlca.inference.batch import Outcome
    from enlca.runtime.concurrency import Progress


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


def publish(body: str, *, as_json: bool, json_file: Path | None) -> None:
    """Put a JSON object where it was asked for: into a file, on stdout, both or neither."""
    if json_file is not None:
        write_text(json_file, body)
    if as_json:
        write_out(body)


def printable(line: str) -> str:
    """Escape line feeds and other unprintable characters, which file names can hold."""
    shown = (c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in line)
    return "".join(shown)


class LineReport:
    """Prints a line about each picture once it is done: about failures on stderr, the others on stdout."""

    def __init__(self) -> None:
        self.n_failed = 0

    def add(self, outcome: "Outcome") -> None:
        """Take the next outcome."""
        if outcome.error is not None:
            self.n_failed += 1
            report_failures([outcome.error])
        else:
            self.show(outcome)

    def show(self, outcome: "Outcome") -> None:
        """Print a picture that did not fail."""
        write_out(f"{_line(outcome)}\n")

    def close(self) -> None:
        """Print the end."""


class JsonReport(LineReport):
    """Collects one JSON object in a file; at the end it is printed, copied to `file`, or both."""

    def __init__(self, head: dict, *, printed: bool, file: Path | None):
        super().__init__()
        self.printed, self.file = printed, file
        self._file = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - closed by `close`
        self._file.write(f'{json.dumps(head)[:-1]}, "pictures": [')
        self._separator = ""

    def add(self, outcome: "Outcome") -> None:
        """Take the next outcome."""
        self._file.write(self._separator + json.dumps(outcome.to_dict()))
        self._separator = ", "
        super().add(outcome)

    def show(self, outcome: "Outcome") -> None:
        """Print a picture that did not fail, unless the object is printed."""
        if not self.printed:
            super().show(outcome)

    def close(self) -> None:
        """Print the object, and write its file."""
        with self._file as file:
            file.write("]}\n")
            if self.file is not None:
                file.seek(0)
                write_text(self.file, file.read())
            file.seek(0)
            while self.printed and (part := file.read(1 << 16)):
                write_out(part)


def _line(outcome: "Outcome") -> str:
    """Describe a finished picture in characters that stdout can encode."""
    if outcome.skipped:
        text = f"{outcome.source} -> {outcome.target} exists: skipped"
    else:
        text = f"{outcome.source} -> {outcome.target} ({outcome.width}x{outcome.height})"
    text += f": {outcome.remark}" if outcome.remark else ""
    encoding = sys.stdout.encoding or "utf-8"
    return printable(text).encode(encoding, "backslashreplace").decode(encoding)


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
