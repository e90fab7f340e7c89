"""The progress bar: one line that fits the terminal, with a time left that does not jump."""

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TextColumn
from rich.progress import Progress as Bar
from rich.table import Column
from rich.text import Text

if TYPE_CHECKING:
    from enlca.runtime.concurrency import Progress

# Share of the time so far over which the time left adapts; and seconds at least.
MEMORY, AT_LEAST = 0.25, 3.0


class TimeLeft:
    """Estimates how long work will go on, from the mean rate since its beginning.

    The passes over a large picture differ in their rates, so what is shown approaches the present estimate
    slowly instead of following it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock, self._started, self._last = clock, clock(), clock()
        self._end: float | None = None

    def update(self, share: float) -> float | None:
        """Return the seconds left after a share of the work from 0 to 1; None while it is unknown."""
        now = self._clock()
        so_far = now - self._started
        if share <= 0 or so_far <= 0:
            return None
        end = self._started + so_far / min(share, 1.0)
        if self._end is None:
            self._end = end
        weight = 1 - math.exp(-(now - self._last) / max(AT_LEAST, MEMORY * so_far))
        self._end += weight * (end - self._end)
        self._last = now
        return max(0.0, self._end - now)


class _Left(ProgressColumn):
    max_refresh = 0.5

    def __init__(self) -> None:
        super().__init__(Column(no_wrap=True, width=8, justify="right"))
        self.estimate = TimeLeft()

    def render(self, task: Task) -> Text:
        """Return the time left of a task."""
        left = self.estimate.update(task.completed / task.total if task.total else 0.0)
        return Text("-:--:--" if left is None else clock_time(left), style="progress.remaining")


def clock_time(seconds: float) -> str:
    """Format seconds as H:MM:SS."""
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}"


def count(done: int | float, total: int | float) -> str:
    """Format progress: a share of one picture, the number and the share of several."""
    share = f"{done / total if total else 0:.0%}"
    return share if total <= 1 else f"{int(done)}/{int(total)} {share}"


@contextmanager
def shown_progress(title: str, *, console: Console | None = None) -> Iterator["Progress"]:
    """Show a bar on stderr, or on another console, while the block runs."""
    columns = (
        TextColumn(
            "{task.description}",
            markup=False,
            table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),
        ),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[count]}", table_column=Column(no_wrap=True)),
        _Left(),
    )
    # What is printed meanwhile goes above the bar, but a file or a pipe gets it as it is.
    shown = sys.stdout.isatty()
    console = console or Console(stderr=True)
    with Bar(*columns, console=console, transient=True, redirect_stdout=shown, expand=True) as bar:
        task = bar.add_task(title, total=None, count="")

        def show(what: str, done: int | float, total: int | float) -> None:
            text = f"{title} {what}".strip()
            bar.update(task, description=text, completed=done, total=total, count=count(done, total))

        yield show
