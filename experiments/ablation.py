"""What tables and figures of trained variants share: a command line, scores over seeds, report sections."""

import argparse
import csv
import io
import statistics
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any

import torch
from benchmarks.report import processor
from experiments.variants import BUDGETS, Run, Variant, runs_of, train_all

from enlca.checkpoint.store import read_card, write_atomically
from enlca.errors import EnlcaError
from enlca.evaluation.evaluate import evaluate, method_called

HERE = Path(__file__).parent
RESULTS = HERE / "results"
SET5 = HERE.parents[1] / "shared" / "data" / "test" / "Set5"
NOT_RUN = "not run"


def expected() -> dict[str, Any]:
    """The paper's numbers."""
    return tomllib.loads((HERE / "expected.toml").read_text())


def command_line(description: str | None) -> argparse.ArgumentParser:
    """The options that all experiments with variants have."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--budget", choices=BUDGETS, default="small", help="how much training")
    parser.add_argument("--train", type=Path, metavar="DIR", help="training pictures (default: the recipe's)")
    parser.add_argument("--test", type=Path, metavar="DIR", help="benchmark folder (default: Set5)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="where runs are kept")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time, a thread each")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="where results go")
    return parser


def answer(run: Callable[[argparse.Namespace], object], parser: argparse.ArgumentParser) -> int:
    """Run an experiment; what it cannot do is one line."""
    try:
        run(parser.parse_args())
    except EnlcaError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def trained(
    arguments: argparse.Namespace, variants: Sequence[Variant], *, seeds: int | None = None
) -> list[Run]:
    """The finished runs of these variants, with the first `seeds`; None is all of the budget's."""
    budget = BUDGETS[arguments.budget]
    runs = runs_of(variants, budget, arguments.runs, seeds=seeds or budget.seeds)
    train_all(runs, budget, train=arguments.train, jobs=arguments.jobs)
    return runs


@dataclass(frozen=True)
class Score:
    """One run on one data set; `minutes` of training."""

    variant: str
    seed: int
    dataset: str
    psnr_y: float
    ssim_y: float
    steps: int
    minutes: float


def scored(arguments: argparse.Namespace, runs: Sequence[Run]) -> list[Score]:
    """Every run on the benchmark folder, by the protocol of `enlca evaluate`."""
    folder, found = arguments.test or SET5, []
    for run in runs:
        card = read_card(run.weights)
        scale = card.network.scale
        done = evaluate(method_called(str(run.weights), scale=scale, device="cpu"), [folder], scale=scale)
        if done.failures:
            raise EnlcaError("; ".join(done.failures))
        for name, mean in done.report.datasets().items():
            found.append(
                Score(
                    run.variant.name,
                    run.seed,
                    name,
                    round(mean["psnr_y"], 4),
                    round(mean["ssim_y"], 5),
                    card.training["steps"],
                    round(minutes(run), 2),
                )
            )
    return found


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


def _of_seeds(scores: Sequence[Score], variant: Variant) -> dict[int, float]:
    return {score.seed: score.psnr_y for score in scores if score.variant == variant.name}


def mean_of(scores: Sequence[Score], variant: Variant) -> Mean:
    """PSNR of a variant."""
    return Mean.of(list(_of_seeds(scores, variant).values()))


def gain(scores: Sequence[Score], better: Variant, worse: Variant) -> Mean:
    """What one variant has over another, seed by seed: runs of one seed see the same patches."""
    a, b = _of_seeds(scores, better), _of_seeds(scores, worse)
    return Mean.of([a[seed] - b[seed] for seed in a])


# Student's t: a mean of n values is off by more than so many standard errors in 5 of 100 cases.
T95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}


def judged(claim: str, difference: Mean) -> str:
    """One honest sentence on the claim that a difference is positive, with 95 % confidence or not at all."""
    what = f"{claim}: {difference.value:+.3f} dB"
    if difference.spread is None:
        return f"{what}, one seed: not decided here"
    margin = T95.get(difference.n, 2.26) * difference.spread / difference.n**0.5
    verdict = "holds here" if difference.value > 0 else "does not hold here"
    if abs(difference.value) <= margin:
        verdict = "not decided here"
    return f"{what} ± {margin:.3f} (95 % confidence): {verdict}"


def publish(
    arguments: argparse.Namespace, name: str, title: str, body: str, scores: Sequence[Score] = ()
) -> None:
    """Write `NAME_BUDGET.md`, a section of the report, and `NAME_BUDGET.csv`, a row for each run."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    stem = arguments.out / f"{name}_{arguments.budget}"
    facts = [f"`python -m experiments.{name} --budget {arguments.budget}`", processor()]
    if scores:
        text = io.StringIO()
        writer = csv.DictWriter(text, [field.name for field in fields(Score)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(score) for score in scores)
        write_atomically(stem.with_suffix(".csv"), text.getvalue().encode())
        facts.append(f"{sum(score.minutes for score in scores):.0f} minutes of training on one core")
    facts += [f"PyTorch {torch.__version__}", date.today().isoformat()]
    section = f"## {title}\n\n{body.strip()}\n\nMade by {', '.join(facts)}.\n"
    write_atomically(stem.with_suffix(".md"), section.encode())
    print(section)
