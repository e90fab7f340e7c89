"""Scores of trained runs picture by picture, kept beside their weights, and differences between variants.

Runs of one seed see the same patches, and every run is scored on the same pictures: so differences are taken
seed by seed and picture by picture, and their intervals are over both.

Letters:  S seeds   P pictures
"""

import csv
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from experiments.variants import Run, Variant
from jaxtyping import Float

from enlca.checkpoint.file import read_card
from enlca.data.pairs import find_pairs
from enlca.errors import EnlcaError
from enlca.evaluation.evaluate import evaluate, method_called
from enlca.evaluation.intervals import Interval, bootstrap_interval, paired_interval
from enlca.network.sr import SRNetwork
from enlca.runtime.files import write_atomically

SHARED = Path(__file__).parents[2] / "shared" / "data"
REPEATS = Path("runs") / "Repeats"
TESTS = (SHARED / "test" / "Set5", SHARED / "test" / "Set14", SHARED / "validation" / "Kodak24", REPEATS)
KEPT = "scores.json"


@dataclass(frozen=True)
class Score:
    """One run on one picture; `steps` and `minutes` of its training."""

    variant: str
    seed: int
    dataset: str
    image: str
    psnr_y: float
    steps: int
    minutes: float


def scored(runs: Sequence[Run], tests: Sequence[Path]) -> list[Score]:
    """Score every run on benchmark folders, by the protocol of `enlca evaluate`.

    Raises:
        EnlcaError: a picture cannot be scored, or a folder has none.
    """
    found = []
    for run in runs:
        steps, taken = read_card(run.weights).training["steps"], round(minutes(run), 2)
        for folder in tests:
            found += [
                Score(run.variant.name, run.seed, folder.resolve().name, image, psnr, steps, taken)
                for image, psnr in psnr_of(run, folder).items()
            ]
    return found


def psnr_of(
    run: Run, folder: Path, *, view: str = "", network: Callable[[], SRNetwork] | None = None
) -> dict[str, float]:
    """The PSNR-Y of each picture of `folder`, from beside the weights where they were scored before.

    Args:
        run: finished.
        folder: a benchmark folder.
        view: name of `network`, unique among those of this run.
        network: what is scored in the place of the run's weights, made from them; None is the weights.

    Raises:
        EnlcaError: a picture cannot be scored, or there is none.
    """
    path, scale = run.path / KEPT, read_card(run.weights).network.scale
    of = run.weights.stat().st_mtime_ns
    kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if kept.get("weights") != of:
        kept = {"weights": of}
    key = f"{folder.resolve().name} {view}".strip()
    if key not in kept or set(kept[key]) != {pair.name for pair in find_pairs(folder, scale)}:
        model = str(run.weights) if network is None else network()
        done = evaluate(method_called(model, scale=scale, device="cpu"), [folder], scale=scale)
        if done.failures:
            raise EnlcaError("; ".join(done.failures))
        kept[key] = {row.image: round(row.psnr_y, 4) for row in done.report.images}
        write_atomically(path, (json.dumps(kept, indent=0) + "\n").encode())
    return kept[key]


def minutes(run: Run) -> float:
    """How long its steps took, from the rates in `metrics.csv`."""
    total, before = 0.0, 0
    with open(run.path / "metrics.csv", newline="") as file:
        for row in csv.DictReader(file):
            if row["steps_per_second"]:
                step = int(row["step"])
                total, before = total + (step - before) / float(row["steps_per_second"]), step
    return total / 60


@dataclass(frozen=True)
class Mean:
    """A mean over seeds, in dB, and their spread (n - 1), which a single seed does not have."""

    value: float
    spread: float | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Mean":
        """Of at least one value."""
        spread = statistics.stdev(values) if len(values) > 1 else None
        return cls(statistics.mean(values), spread, len(values))

    def __str__(self) -> str:
        return f"{self.value:.3f}" + ("" if self.spread is None else f" ± {self.spread:.3f}")


def table_of(scores: Sequence[Score], variant: Variant | str, dataset: str) -> dict[int, dict[str, float]]:
    """PSNR-Y by seed and picture."""
    name = variant if isinstance(variant, str) else variant.name
    found: dict[int, dict[str, float]] = {}
    for score in scores:
        if (score.variant, score.dataset) == (name, dataset):
            found.setdefault(score.seed, {})[score.image] = score.psnr_y
    return found


def mean_of(scores: Sequence[Score], variant: Variant | str, dataset: str) -> Mean:
    """PSNR of a variant on a data set."""
    rows = table_of(scores, variant, dataset)
    return Mean.of([statistics.mean(row.values()) for row in rows.values()])


def gain(
    scores: Sequence[Score], better: Variant | str, worse: Variant | str, dataset: str
) -> Float[np.ndarray, "S P"]:
    """What one variant has over another, by seed and picture, for the seeds that both have."""
    a, b = (table_of(scores, variant, dataset) for variant in (better, worse))
    seeds = [seed for seed in a if seed in b]
    return np.array([[a[seed][image] - b[seed][image] for image in a[seed]] for seed in seeds])


HOLDS, NO, UNDECIDED = "holds here", "does not hold here", "not decided here"


@dataclass(frozen=True)
class Verdict:
    """Whether a difference is positive, with 95 % confidence or not at all.

    Attributes:
        interval: over seeds and pictures (`bootstrap_interval`).
        seeds: over seeds alone (Student's t of the seeds' means), which few seeds make wide.
    """

    interval: Interval
    seeds: Interval

    @classmethod
    def of(cls, differences: Float[np.ndarray, "S P"]) -> "Verdict":
        """Of at least one seed and picture."""
        return cls(bootstrap_interval(differences), paired_interval(differences.mean(axis=1)))

    @property
    def word(self) -> str:
        """Both intervals must exclude zero. A single seed has no interval over seeds: it decides nothing."""
        if not (self.interval.decided and self.seeds.decided):
            return UNDECIDED
        return HOLDS if self.interval.mean > 0 else NO

    def __str__(self) -> str:
        margin = self.seeds.high - self.seeds.mean
        over = "one seed" if margin == float("inf") else f"seeds ± {margin:.3f}"
        return f"{self.interval} dB, {over}"


def judged(claim: str, differences: Float[np.ndarray, "S P"]) -> str:
    """One honest sentence on the claim that a difference is positive."""
    verdict = Verdict.of(differences)
    return f"{claim}: {verdict}: {verdict.word}"
