"""Training variants of a network: several at a time, each of which can be stopped and goes on later.

A run is what `enlca train CONFIG.yaml` makes, in a folder of its own. What is finished is not trained again.
"""

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context, parent_process
from multiprocessing.synchronize import Event
from pathlib import Path

import torch
from experiments.variants import CONFIGS, Budget, Run

from enlca.errors import EnlcaError, TrainingStopped
from enlca.runtime.signals import STOPPING, handling, interrupt
from enlca.training.config import TrainConfig
from enlca.training.fit import fit
from enlca.training.parse import read_config
from enlca.training.run_folder import TrainingProgress
from enlca.training.state import LAST, PREVIOUS


def train_all(
    runs: Sequence[Run],
    budget: Budget,
    *,
    train: Path | None,
    jobs: int = 1,
    minutes: float | None = None,
) -> list[Run]:
    """Train what is not finished, `jobs` at a time with a thread each; a line on stderr for each run.

    Args:
        runs: see `runs_of`.
        budget: the recipe.
        train: folder of pictures; None is the recipe's.
        jobs: processes.
        minutes: time after which running trainings are saved and stopped, and no other is begun; the next
            call goes on with them. None is no limit.

    Returns:
        The runs that are finished.

    Raises:
        EnlcaError: a run cannot be made, or its folder holds another one.
        TrainingStopped: after Ctrl-C, SIGTERM or SIGHUP, with all states saved.
    """
    unfinished = [run for run in runs if not _finished(run, budget, train)]
    deadline = None if minutes is None else time.time() + 60 * minutes
    if jobs == 1:
        for number, run in enumerate(unfinished, 1):
            _say(number, len(unfinished), run, _train(run, budget, train, deadline))
    else:
        context = get_context("spawn")
        stopping = context.Event()
        with (
            handling(interrupt),
            ProcessPoolExecutor(jobs, context, _begin_worker, (stopping,)) as pool,
        ):
            working = {pool.submit(_train, run, budget, train, deadline): run for run in unfinished}
            try:
                for number, done in enumerate(as_completed(working), 1):
                    _say(number, len(unfinished), working[done], done.result())
            except BaseException as error:
                stopping.set()
                pool.shutdown(cancel_futures=True)
                if isinstance(error, KeyboardInterrupt):
                    raise TrainingStopped("stopped; run the same command again to go on") from None
                raise
    return [run for run in runs if _finished(run, budget, train)]


def _say(number: int, of: int, run: Run, finished: bool) -> None:
    what = "" if finished else ": out of time"
    print(f"{number}/{of} {run.path}{what}", file=sys.stderr, flush=True)


def _config(run: Run, budget: Budget, train: Path | None) -> tuple[TrainConfig, str]:
    settings = {**budget.overrides, **run.variant.overrides, "run.dir": run.path, "run.seed": run.seed}
    if train is not None:
        settings["data.train"] = train
    words = [str(word) for field, value in settings.items() for word in (f"--{field}", value)]
    return read_config(CONFIGS / budget.config, words)


def _finished(run: Run, budget: Budget, train: Path | None) -> bool:
    """Whether its weights are there; a run with other settings in its place is an error."""
    made = run.path / "config.yaml"
    if made.exists() and made.read_text() != _config(run, budget, train)[1]:
        raise EnlcaError(
            f"{run.path}: holds a run with other settings; move it away, or choose another --runs"
        )
    return run.finished


# Of a worker: set when its parent wants no more trainings; held while it trains.
_stopping: Event | None = None
_at_work = threading.Lock()


def _begin_worker(stopping: Event) -> None:
    """One thread; a signal to all of a terminal's processes is the parent's to answer."""
    global _stopping
    _stopping = stopping
    torch.set_num_threads(1)
    for kind in set(STOPPING) - {signal.SIGTERM}:
        signal.signal(kind, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A pool's worker whose parent was killed waits for ever for what to do next."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    with _at_work:
        os._exit(1)


def _time_is_up(deadline: float | None) -> bool:
    """Whether `deadline` is over, or the parent wants no more trainings, or is gone."""
    parent = parent_process()
    return (
        (deadline is not None and time.time() >= deadline)
        or (_stopping is not None and _stopping.is_set())
        or (parent is not None and not parent.is_alive())
    )


def _train(run: Run, budget: Budget, train: Path | None, deadline: float | None) -> bool:
    """Train or go on; return whether it came to its end before its time was up."""
    if _time_is_up(deadline):
        return False

    def look_at_the_clock(progress: TrainingProgress) -> None:
        nonlocal asked
        if not asked and _time_is_up(deadline):
            asked = True
            # As Ctrl-C does: the step is finished and the state saved.
            signal.raise_signal(signal.SIGTERM)

    asked = False
    begun = (run.path / "config.yaml").exists()
    saved = any((run.path / name).exists() for name in (LAST, PREVIOUS))
    if begun and not saved:
        # Killed before its first state was saved: there is nothing to go on from.
        shutil.rmtree(run.path)
    try:
        resume = run.path if saved else None
        with _at_work:
            fit(*_config(run, budget, train), resume=resume, on_progress=look_at_the_clock)
    except TrainingStopped:
        if not asked:
            raise
    return _finished(run, budget, train)
