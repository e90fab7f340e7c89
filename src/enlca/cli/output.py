"""What commands print: progress and failures on stderr, results on stdout."""

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from enlca.inference.jobs import Job, Outcome, Unread
    from enlca.runtime.concurrency import Progress


@contextmanager
def progress(title: str) -> Iterator["Progress"]:
    """Show a progress bar on stderr; nothing where stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield lambda name, done, total: None
        return
    from enlca.cli.bar import shown_progress

    with shown_progress(title) as show:
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
    """Prints a line about each picture once it is done: about failures on stderr, the others on stdout.

    Args:
        lines: False where stdout is for the picture itself.

    Attributes:
        n_done, n_failed, n_skipped: how many pictures ended in which way.
        jobs: what is to be done, once it is known.
    """

    def __init__(self, *, lines: bool = True) -> None:
        self.n_done = self.n_failed = self.n_skipped = 0
        self.jobs: Sequence[Job] = ()
        self._lines, self._started = lines, time.monotonic()

    @property
    def unread(self) -> "Unread | None":
        """Files that are no pictures, if there are any; jobs between streams have no such list."""
        found = getattr(self.jobs, "unread", None)
        return found if found is not None and found.suffixes else None

    def add(self, outcome: "Outcome") -> None:
        """Take the next outcome."""
        if outcome.error is not None:
            self.n_failed += 1
            report_failures([outcome.error])
            return
        self.n_skipped += outcome.skipped
        self.n_done += not outcome.skipped
        self.show(outcome)

    def show(self, outcome: "Outcome") -> None:
        """Print a picture that did not fail."""
        if self._lines:
            write_out(f"{_line(outcome)}\n")

    @contextmanager
    def counting(self, jobs: "Sequence[Job]") -> Iterator[None]:
        """Say on a terminal how many of several jobs are done if Ctrl-C interrupts the block."""
        self.jobs = jobs
        try:
            yield
        except KeyboardInterrupt:
            if len(jobs) > 1 and sys.stderr.isatty():
                done = self.n_done + self.n_skipped
                print(f"enlca: {done} of {len(jobs)} done; go on with --skip-existing", file=sys.stderr)
            raise

    def close(self) -> None:
        """Name the files that are no pictures; sum up on a terminal where there were several."""
        if unread := self.unread:
            print(f"enlca: {printable(_unread_line(unread))}", file=sys.stderr)
        counts = {"done": self.n_done, "failed": self.n_failed, "skipped": self.n_skipped}
        if sys.stderr.isatty() and sum(counts.values()) > 1:
            said = ", ".join(f"{n} {what}" for what, n in counts.items() if n)
            print(f"enlca: {said}, {time.monotonic() - self._started:.0f} s", file=sys.stderr)


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
        super().close()
        tail: dict[str, Any] = {"done": self.n_done, "failed": self.n_failed, "skipped": self.n_skipped}
        if unread := self.unread:
            tail["unread"] = {"count": len(unread), "suffixes": unread.suffixes, "names": unread.names}
        with self._file as file:
            file.write(f"], {json.dumps(tail)[1:]}\n")
            file.seek(0)
            while self.printed and (part := file.read(1 << 16)):
                write_out(part)
            if self.file is not None:
                file.seek(0)
                write_text(self.file, file.read())


def _line(outcome: "Outcome") -> str:
    """Describe a finished picture in characters that stdout can encode."""
    if outcome.target is None:
        text = outcome.source
    elif outcome.skipped:
        text = f"{outcome.source} -> {outcome.target} exists: skipped"
    else:
        text = f"{outcome.source} -> {outcome.target} ({outcome.width}x{outcome.height})"
    text += f": {outcome.remark}" if outcome.remark else ""
    encoding = sys.stdout.encoding or "utf-8"
    return printable(text).encode(encoding, "backslashreplace").decode(encoding)


def _unread_line(unread: "Unread") -> str:
    """Name files that are no pictures, the first few of them."""
    more = len(unread) - len(unread.names)
    rest = (
        f" and {more} more ({', '.join(suffix or 'no suffix' for suffix in unread.suffixes)})" if more else ""
    )
    files = "1 file is no picture" if len(unread) == 1 else f"{len(unread)} files are no pictures"
    return f"{files}, by the name, and not read: {', '.join(unread.names)}{rest}"


def write_text(path: Path, text: str) -> None:
    """Write a result file whole; into a pipe or a device, which a file must not replace, as it comes.

    Raises:
        NotWritten: it cannot be written.
    """
    from enlca.errors import NotWritten
    from enlca.runtime.files import write_atomically

    # Names may hold bytes that are no text.
    content = text.encode(errors="backslashreplace")
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            path.write_bytes(content)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except OSError as error:
        raise NotWritten(f"{path}: cannot be written: {error.strerror or error}") from error
