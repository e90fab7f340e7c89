"""Variants of one network: which there are, how much a budget spends on each, and how they are trained.

A run is what `enlca train CONFIG.yaml` makes, in a folder that is named after what differs from CONFIG, so
tables and figures share runs: the last row of Table 2 is a cell of Table 3. What is finished is not trained
again; what was stopped goes on.
"""

import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import torch

from enlca.checkpoint.file import read_card
from enlca.errors import EnlcaError, TrainingStopped
from enlca.training.config import TrainConfig
from enlca.training.fit import fit
from enlca.training.parse import read_config
from enlca.training.run_folder import TrainingProgress
from enlca.training.state import LAST, PREVIOUS

CONFIGS = Path(__file__).parents[1] / "configs"


@dataclass(frozen=True)
class Budget:
    """How much is spent: the recipe, its overrides, and how many seeds are trained of each variant."""

    name: str
    config: str
    seeds: int
    overrides: Mapping[str, object] = field(default_factory=dict)


def recipe(budget: Budget) -> TrainConfig:
    """What all variants of a budget differ from."""
    words = [str(word) for field, value in budget.overrides.items() for word in (f"--{field}", value)]
    return read_config(CONFIGS / budget.config, words)[0]


# NOTE(paper): Table 3 says 200 epochs; Table 2 has the same best number, so it is taken to be the same.
BUDGETS = {
    "smoke": Budget(
        "smoke", "smoke.yaml", 1, {"run.steps": 8, "run.steps_per_epoch": 4, "schedule.warmup": 2}
    ),
    "short": Budget("short", "ablation_small.yaml", 3, {"run.steps": 1000}),
    "small": Budget("small", "ablation_small.yaml", 3),
    "paper": Budget("paper", "enlcn_x4.yaml", 1, {"run.steps": 200_000}),
}


@dataclass(frozen=True)
class Variant:
    """A network and its loss, as overrides of a budget's recipe; `name` is a folder's, too."""

    name: str
    overrides: Mapping[str, object]


def without_attention() -> Variant:
    """The backbone: Table 2's first row."""
    return Variant("none", {"network.attention": "none", "loss.contrast_weight": 0})


def exact(amplification: float) -> Variant:
    """Softmax over all positions (Eq. 1) of queries and keys with k."""
    own = {"network.attention": "exact", "network.amplification": amplification, "loss.contrast_weight": 0}
    return Variant(f"exact_k{amplification:g}", own)


def windows(amplification: float) -> Variant:
    """Softmax over the positions of a window and around it, of queries and keys with k."""
    own = {**exact(amplification).overrides, "network.attention": "window"}
    return Variant(f"window_k{amplification:g}", own)


def other_attention(kind: str) -> Variant:
    """The same backbone with "exact" (Eq. 1) or "lsh" (NLSA) attention, which know no contrastive loss."""
    own: dict[str, object] = {"network.attention": kind, "loss.contrast_weight": 0}
    if kind == "exact":
        # Non-local attention as the paper compares with it has no k; NLSA learns its queries' lengths.
        own["network.amplification"] = 1
    return Variant(kind, own)


def enla(
    *, amplification: float = 1, contrast: tuple[float, float] | None = None, n_features: int | None = None
) -> Variant:
    """ENLA with k, and with the contrastive loss of (n1, n2); k = 1 is "without k", m None the recipe's."""
    own: dict[str, object] = {"network.amplification": amplification}
    name = f"enla_k{amplification:g}"
    if n_features is not None:
        own["network.n_features"] = n_features
        name += f"_m{n_features}"
    if contrast is None:
        return Variant(name, {**own, "loss.contrast_weight": 0})
    relevant, start = contrast
    own |= {"loss.relevant": relevant, "loss.start": start}
    return Variant(f"{name}_contrast{relevant:g}-{start:g}", own)


@dataclass(frozen=True)
class Run:
    """One training."""

    variant: Variant
    seed: int
    path: Path

    @property
    def weights(self) -> Path:
        """Where its weights are, once it is finished."""
        return self.path / "best.safetensors"

    @property
    def finished(self) -> bool:
        """Whether it has taken all of its steps."""
        if not self.weights.exists():
            return False
        training = read_card(self.weights).training
        return training["steps"] == training["steps_planned"]


def runs_of(variants: Sequence[Variant], budget: Budget, folder: Path, *, seeds: int) -> list[Run]:
    """Every variant with every seed, seed by seed: a run that is stopped early has whole sets of variants."""
    return [
        Run(variant, seed, folder / budget.name / f"{variant.name}_seed{seed}")
        for seed in range(seeds)
        for variant in variants
    ]


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
    """
    unfinished = [run for run in runs if not _finished(run, budget, train)]
    deadline = None if minutes is None else time.time() + 60 * minutes
    if jobs == 1:
        for number, run in enumerate(unfinished, 1):
            _say(number, len(unfinished), run, _train(run, budget, train, deadline))
    else:
        with ProcessPoolExecutor(jobs, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
            working = {pool.submit(_train, run, budget, train, deadline): run for run in unfinished}
            try:
                for number, done in enumerate(as_completed(working), 1):
                    _say(number, len(unfinished), working[done], done.result())
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    return [run for run in runs if _finished(run, budget, train)]


def whole_seeds(runs: Sequence[Run], finished: Sequence[Run]) -> list[Run]:
    """Those of `runs` whose seed is finished for all variants: what can be compared.

    Raises:
        EnlcaError: there is no such seed.
    """
    waiting = {run.seed for run in runs if run not in finished}
    whole = [run for run in runs if run.seed not in waiting]
    if not whole:
        raise EnlcaError(
            f"{len(finished)} of {len(runs)} trainings are finished, but no seed of all variants; run the"
            " same command again to go on"
        )
    return whole


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


def _train(run: Run, budget: Budget, train: Path | None, deadline: float | None) -> bool:
    """Train or go on; return whether it came to its end before `deadline`."""
    if deadline is not None and time.time() >= deadline:
        return False

    def look_at_the_clock(progress: TrainingProgress) -> None:
        nonlocal asked
        if not asked and deadline is not None and time.time() >= deadline:
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
        fit(*_config(run, budget, train), resume=resume, on_progress=look_at_the_clock)
    except TrainingStopped:
        if not asked:
            raise
    return _finished(run, budget, train)
