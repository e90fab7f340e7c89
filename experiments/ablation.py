"""What tables and figures of trained variants share: a command line, their runs, report sections."""

import argparse
import csv
import io
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import date
from pathlib import Path
from typing import Any

import torch
from benchmarks.report import processor
from experiments.scores import TESTS, Score, Verdict, gain, mean_of
from experiments.trainings import train_all
from experiments.variants import BUDGETS, Run, Variant, runs_of, whole_seeds

from enlca.errors import EnlcaError
from enlca.runtime.files import write_atomically

HERE = Path(__file__).parent
RESULTS = HERE / "results"
NOT_RUN = "not run"


def expected() -> dict[str, Any]:
    """The paper's numbers."""
    return tomllib.loads((HERE / "expected.toml").read_text())


def options(description: str | None) -> argparse.ArgumentParser:
    """The options of every command that trains."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", type=Path, metavar="DIR", help="training pictures (default: the recipe's)")
    parser.add_argument("--seeds", type=int, metavar="N", help="trainings of each variant")
    parser.add_argument(
        "--minutes",
        type=float,
        metavar="M",
        help="time for training; what is not finished then is saved, and the same command goes on with it",
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="where runs are kept")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time, a thread each")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="where results go")
    parser.add_argument(
        "--test",
        type=Path,
        nargs="+",
        metavar="DIR",
        help="benchmark folders (default: Set5, Set14, Kodak24 and Repeats)",
    )
    return parser


def command_line(description: str | None) -> argparse.ArgumentParser:
    """The options that all experiments with a budget have."""
    parser = options(description)
    parser.add_argument("--budget", choices=BUDGETS, default="small", help="how much training")
    return parser


def answer(run: Callable[[argparse.Namespace], object], parser: argparse.ArgumentParser) -> int:
    """Run an experiment; what it cannot do is one line."""
    try:
        run(parser.parse_args())
    except EnlcaError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def tests_of(arguments: argparse.Namespace) -> Sequence[Path]:
    """The benchmark folders."""
    return arguments.test or TESTS


def trained(
    arguments: argparse.Namespace, variants: Sequence[Variant], *, seeds: int | None = None
) -> list[Run]:
    """The runs of these variants: of `seeds`, else of the command line's, else of all of the budget's.

    Where time has run out (`--minutes`), those of the seeds that are finished for all variants.

    Raises:
        EnlcaError: a run cannot be made, or no seed is finished.
    """
    budget = BUDGETS[arguments.budget]
    runs = runs_of(variants, budget, arguments.runs, seeds=seeds or arguments.seeds or budget.seeds)
    settings = {"train": arguments.train, "jobs": arguments.jobs, "minutes": arguments.minutes}
    return whole_seeds(runs, train_all(runs, budget, **settings))


def grid(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """A table in Markdown."""
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return lines + [f"| {' | '.join(map(str, row))} |" for row in rows]


def sets_of(scores: Sequence[Score]) -> list[str]:
    """The data sets, in the order in which they were scored."""
    return list(dict.fromkeys(score.dataset for score in scores))


def means(
    scores: Sequence[Score], head: Sequence[str], rows: Sequence[tuple[Sequence[object], Variant]]
) -> list[str]:
    """A table with the PSNR of each variant on each data set, behind the cells of its row."""
    sets, seeds = sets_of(scores), len({score.seed for score in scores})
    titles = [f"{name}, dB (measured, seeds: {seeds})" for name in sets]
    measured = [[*cells, *(mean_of(scores, variant, name) for name in sets)] for cells, variant in rows]
    return grid([*head, *titles], measured)


def apart(scores: Sequence[Score], variants: Sequence[Variant]) -> str:
    """How far the best and the worst of some variants are from each other, on each data set, in words."""
    found = []
    for name in sets_of(scores):
        values = [mean_of(scores, variant, name).value for variant in variants]
        found.append(f"{max(values) - min(values):.3f} dB on {name}")
    return f"the best and the worst are apart by {', '.join(found)}"


def verdicts(scores: Sequence[Score], claims: Mapping[str, tuple[Variant, Variant]]) -> list[str]:
    """A table of claims that the first of two variants is better than the second, on each data set."""
    sets = sets_of(scores)
    rows = []
    for claim, (better, worse) in claims.items():
        found = [Verdict.of(gain(scores, better, worse, name)) for name in sets]
        rows.append([claim, *(f"{verdict}: **{verdict.word}**" for verdict in found)])
    return [*grid(["claim (difference in dB)", *sets], rows), "", CONFIDENCE]


CONFIDENCE = (
    "Differences are taken seed by seed and picture by picture. In brackets: 95 % confidence over seeds and"
    " pictures\n(bootstrap); after ±: over seeds alone (Student's t). A claim is decided where both exclude"
    " zero."
)


def csv_of(scores: Sequence[Score]) -> bytes:
    """A row for each run and picture."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Score)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(score) for score in scores)
    return text.getvalue().encode()


def training_time(scores: Sequence[Score]) -> str:
    """How long the runs took together."""
    taken = {(score.variant, score.seed): score.minutes for score in scores}
    return f"{sum(taken.values()):.0f} minutes of training on one core"


def publish(
    arguments: argparse.Namespace, name: str, title: str, body: str, scores: Sequence[Score] = ()
) -> None:
    """Write `NAME_BUDGET.md`, a section of the report, and `NAME_BUDGET.csv`; see `csv_of`."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    stem = arguments.out / f"{name}_{arguments.budget}"
    facts = [f"`python -m experiments.{name} --budget {arguments.budget}`", processor()]
    if scores:
        write_atomically(stem.with_suffix(".csv"), csv_of(scores))
        facts.append(training_time(scores))
    facts += [f"PyTorch {torch.__version__}", date.today().isoformat()]
    section = f"## {title}\n\n{body.strip()}\n\nMade by {', '.join(facts)}.\n"
    write_atomically(stem.with_suffix(".md"), section.encode())
    print(section)
