"""`enlca upscale --watch`: upscale what comes into folders, until it is told to stop."""

import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from enlca.cli.output import LineReport

if TYPE_CHECKING:
    from enlca.inference.jobs import Failure, Job, Outcome

SECONDS = 1.0
# Size and time of a file: it is complete when they stay as they are from one look to the next.
Stamp = tuple[int, int]


def check_folders(inputs: Sequence[Path], out: Path | None, *, as_json: bool) -> None:
    """Check what --watch needs: folders, and a folder for the results. Raises BadParameter."""
    for path in inputs:
        if not path.is_dir():
            raise typer.BadParameter(f"--watch looks into folders; {path} is none")
    if out is None or any(os.path.realpath(out) == os.path.realpath(path) for path in inputs):
        raise typer.BadParameter("--watch needs -o, a folder of its own for the results")
    if as_json:
        raise typer.BadParameter("--watch has no end at which a JSON object would be written")


class Arrivals:
    """Finds files that are new or changed, and complete.

    Attributes:
        changed: those that were taken before, as they were then.
    """

    def __init__(self) -> None:
        self._known: dict[str, Stamp] = {}
        self._taken: dict[str, Stamp] = {}
        self.changed: set[str] = set()

    def look(self, paths: Iterable[str]) -> set[str]:
        """Return which of the files are complete and not taken yet; they are taken now."""
        before, self._known = self._known, {}
        for path in paths:
            try:
                about = os.stat(path)
            except OSError:
                continue
            self._known[path] = about.st_size, about.st_mtime_ns
        whole = {path for path, stamp in self._known.items() if before.get(path) == stamp}
        ready = {path for path in whole if self._taken.get(path) != self._known[path]}
        self.changed = ready & self._taken.keys()
        # What has left may come again.
        self._taken = {path: stamp for path, stamp in self._taken.items() if path in self._known}
        self._taken |= {path: self._known[path] for path in ready}
        return ready


def watch_folders(
    inputs: Sequence[Path],
    out: Path,
    plan: "Callable[..., tuple[Sequence[Job], list[Failure]]]",
    work: "Callable[[Sequence[Job]], Generator[Outcome, None, None]]",
    *,
    recursive: bool,
) -> int:
    """Upscale the pictures of folders and what comes into them, until Ctrl-C; return the exit code.

    Results that exist are kept, unless their picture changes while it is watched. The picture at work is
    finished after Ctrl-C; a second one interrupts.
    """
    from enlca.runtime.signals import stop_politely

    report, arrivals = LineReport(), Arrivals()
    if sys.stderr.isatty():
        print("enlca: watching; Ctrl-C ends it", file=sys.stderr)
    with stop_politely() as asked:
        while not asked.is_set():
            ready = arrivals.look(_pictures(inputs, out, recursive))
            jobs = plan(inputs, out)[0] if ready else ()
            named = ((job, str(job.source)) for job in jobs)
            due = [
                replace(job, skip=False)
                for job, name in named
                if name in ready and (name in arrivals.changed or not job.skip)
            ]
            with closing(work(due)) as outcomes:
                for outcome in outcomes:
                    report.add(outcome)
                    if asked.is_set():
                        break
            asked.wait(SECONDS)
    report.close()
    return 1 if report.n_failed else 0


def _pictures(inputs: Sequence[Path], out: Path, recursive: bool) -> Iterator[str]:
    from enlca.inference.inputs import pictures_in
    from enlca.inference.naming import joined

    for folder in inputs:
        found = pictures_in(
            folder, recursive=recursive, out=out, report=lambda *_: None, other=lambda _: None
        )
        for place, name, *_ in found:
            yield joined(place, name)
