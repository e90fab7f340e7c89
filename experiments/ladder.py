"""The ladder: short paired runs that decide the recipe of the long ones, one change at a time.

    python -m experiments.ladder [--arms NAME ...] [--seeds 1] [--jobs 2] [--teacher DIR]

Every arm differs from `configs/ladder.yaml` in what ARMS says and sees the same patches, seed by seed.
Decided on Kodak24; a difference under 0.02 dB is called noise. What is trained already is not trained again,
and the table has every arm that is trained. `--teacher` is for the arms that learn from a teacher's pictures.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import processor
from experiments.ablation import RESULTS, Mean, answer, minutes
from experiments.variants import Budget, Run, Variant, runs_of, train_all

from enlca.checkpoint.store import read_card, write_atomically
from enlca.errors import EnlcaError
from enlca.evaluation.evaluate import evaluate, method_called

BUDGET = Budget("ladder", "ladder.yaml", 1)
BASE = "muon_0.01"
SHARED = Path(__file__).parents[2] / "shared" / "data"
TESTS = [SHARED / "validation" / "Kodak24", SHARED / "test" / "Set5", SHARED / "test" / "Set14"]

ENLA = {"network.attention": "linear", "network.blocks_per_stage": 4}
ARMS: dict[str, dict[str, object]] = {
    BASE: {},
    "adam_1e-3": {"optim.kind": "adam"},
    "adam_2e-3": {"optim.kind": "adam", "optim.lr": 2e-3},
    "muon_0.005": {"optim.muon_lr": 0.005},
    "muon_0.015": {"optim.muon_lr": 0.015},
    "muon_0.02": {"optim.muon_lr": 0.02},
    "momentum_0.9": {"optim.momentum": 0.9},
    "lr_2e-3_of_the_rest": {"optim.lr": 2e-3},
    "no_clipping": {"optim.clip": "null"},
    "cosine": {"schedule.kind": "cosine", "schedule.decay_from": "null"},
    "patch_24_batch_16": {"data.patch": 24, "data.batch": 16},
    "patch_48_batch_4": {"data.patch": 48, "data.batch": 4},
    "soften_0.4_1": {"data.soften": "[0.4, 1.0]"},
    "teacher_0.5": {"loss.teacher": 0.5},
    "teacher_1": {"loss.teacher": 1.0},
    "enla_1x1": ENLA,
    "enla_3x3": {**ENLA, "network.embed_kernel": 3},
    "enla_weight_0.3": {**ENLA, "network.attention_scale": 0.3},
}


@dataclass(frozen=True)
class Result:
    """The scores of one arm: a mean over seeds for each data set, in dB, and its minutes of one core."""

    arm: str
    psnr: dict[str, Mean]
    minutes: float


def arm(name: str, teacher: Path | None) -> Variant:
    """The arm called `name`.

    Raises:
        EnlcaError: it learns from a teacher, and there is none.
    """
    overrides = dict(ARMS[name])
    if "loss.teacher" in overrides:
        if teacher is None:
            raise EnlcaError(f"the arm {name} needs --teacher DIR")
        overrides["data.teacher"] = teacher
    return Variant(name, overrides)


def scored(runs: Sequence[Run], tests: list[Path]) -> Result:
    """All seeds of one arm."""
    scores: dict[str, list[float]] = {}
    for run in runs:
        scale = read_card(run.weights).network.scale
        report = evaluate(
            method_called(str(run.weights), scale=scale, device="cpu"), tests, scale=scale
        ).report
        for dataset, mean in report.datasets().items():
            scores.setdefault(dataset, []).append(mean["psnr_y"])
    psnr = {dataset: Mean.of(values) for dataset, values in scores.items()}
    return Result(runs[0].variant.name, psnr, sum(map(minutes, runs)))


def table(results: Sequence[Result]) -> str:
    """A row for each arm, and what it has over the base."""
    base = next((result for result in results if result.arm == BASE), None)
    sets = list(results[0].psnr)
    head = ["arm", *(f"{name}, dB" for name in sets), f"{sets[0]} over {BASE}", "minutes of one core"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for result in results:
        over = "" if base is None else f"{result.psnr[sets[0]].value - base.psnr[sets[0]].value:+.3f}"
        cells = [result.arm, *(str(result.psnr[name]) for name in sets), over, f"{result.minutes:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def run(arguments: argparse.Namespace) -> None:
    """Train what is asked for, score all that is trained, write the table."""
    variants = [arm(name, arguments.teacher) for name in arguments.arms]
    train_all(
        runs_of(variants, BUDGET, arguments.runs, seeds=arguments.seeds),
        BUDGET,
        train=arguments.train,
        jobs=arguments.jobs,
    )
    results = []
    for name in ARMS:
        runs = runs_of([Variant(name, {})], BUDGET, arguments.runs, seeds=arguments.seeds)
        if all(run.weights.exists() for run in runs):
            results.append(scored(runs, arguments.tests))
    text = (
        f"# The ladder\n\n{table(results)}\n\n{arguments.seeds} seed(s), `configs/ladder.yaml`,"
        f" by `python -m experiments.ladder` on {processor()}. Under 0.02 dB is noise.\n"
    )
    write_atomically(arguments.out / "ladder.md", text.encode())
    print(text)


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument(
        "--arms", nargs="+", choices=ARMS, default=[BASE], metavar="NAME", help=", ".join(ARMS)
    )
    options.add_argument("--seeds", type=int, default=1)
    options.add_argument("--jobs", type=int, default=1, help="trainings at a time, a thread each")
    options.add_argument(
        "--train", type=Path, metavar="DIR", help="training pictures (default: the recipe's)"
    )
    options.add_argument("--teacher", type=Path, metavar="DIR", help="a teacher's pictures of them")
    options.add_argument(
        "--tests", type=Path, nargs="+", default=TESTS, metavar="DIR", help="the first decides"
    )
    options.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="where runs are kept")
    options.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="where the table goes")
    return options


if __name__ == "__main__":
    sys.exit(answer(run, parser()))
