"""Paired arms: short trainings that differ in one thing, each beside the arm that it is compared with.

All arms of a seed see the same patches and take as many steps; differences are taken seed by seed and picture
by picture (`scores`). What is trained already is not trained again, what was stopped goes on, and the table
has every arm that has a finished seed. `ladder` and `attention_arms` are made of this.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

import torch
from benchmarks.report import processor
from benchmarks.rounds import milliseconds, seconds_of
from experiments.ablation import CONFIDENCE, csv_of, grid, options, sets_of, tests_of, training_time
from experiments.scores import Score, Verdict, gain, mean_of, scored
from experiments.trainings import train_all
from experiments.variants import Budget, Run, Variant, runs_of

from enlca.checkpoint.store import load
from enlca.network.layers import with_fast_convolutions
from enlca.runtime.files import write_atomically


@dataclass(frozen=True)
class Arm:
    """What an arm changes in the recipe, and the arms that it is compared with."""

    overrides: Mapping[str, object]
    against: Sequence[str] = ()


@dataclass(frozen=True)
class Study:
    """Arms by name on one recipe.

    Attributes:
        name: of the command.
        results: name of the files.
        title: of the page.
        budget: the recipe.
        arms: in the order of the table.
    """

    name: str
    results: str
    title: str
    budget: Budget
    arms: Mapping[str, Arm]

    def variant(self, name: str) -> Variant:
        """The arm called `name`, to be trained."""
        return Variant(name, self.arms[name].overrides)


def with_steps(study: Study, steps: int | None) -> Study:
    """The same arms trained for so many steps; None is the recipe's."""
    if steps is None:
        return study
    budget = study.budget
    longer = replace(
        budget, name=f"{budget.name}_{steps}", overrides={**budget.overrides, "run.steps": steps}
    )
    return replace(study, budget=longer, results=f"{study.results}_{steps}")


def run(study: Study, arguments: argparse.Namespace) -> None:
    """Train what is asked for within the time, score all that is finished, write page and CSV."""
    budget, seeds = study.budget, arguments.seeds or study.budget.seeds
    settings = {"train": arguments.train, "jobs": arguments.jobs, "minutes": arguments.minutes}
    train_all(
        runs_of([study.variant(name) for name in arguments.arms], budget, arguments.runs, seeds=seeds),
        budget,
        **settings,
    )
    known = runs_of([study.variant(name) for name in study.arms], budget, arguments.runs, seeds=seeds)
    finished = [run for run in known if run.finished]
    if not finished:
        print(f"no arm is finished yet: run the same command again to go on ({arguments.runs / budget.name})")
        return
    scores = scored(finished, tests_of(arguments))
    text = page(study, scores, costs(finished, size=arguments.size, rounds=arguments.rounds), arguments.size)
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_atomically(arguments.out / f"{study.results}.md", text.encode())
    write_atomically(arguments.out / f"{study.results}.csv", csv_of(scores))
    print(text)


def costs(runs: Sequence[Run], *, size: int, rounds: int) -> dict[str, tuple[int, float]]:
    """Parameters of each arm, and milliseconds of a picture of `size` x `size`, all arms timed in turn."""
    device, lr = torch.device("cpu"), torch.rand(1, 3, size, size)
    first = {run.variant.name: run for run in reversed(runs)}
    networks = {name: with_fast_convolutions(load(run.weights), device) for name, run in first.items()}
    with torch.inference_mode():
        seconds = seconds_of(
            {name: lambda network=network: network(lr) for name, network in networks.items()}, rounds
        )
    return {
        name: (sum(p.numel() for p in network.parameters()), milliseconds(seconds[name]))
        for name, network in networks.items()
    }


def page(study: Study, scores: Sequence[Score], costs: Mapping[str, tuple[int, float]], size: int) -> str:
    """The results of all finished arms."""
    sets = sets_of(scores)
    seeds = {name: {score.seed for score in scores if score.variant == name} for name in costs}
    head = ["arm", "seeds", "parameters", f"ms at {size} x {size}", *(f"{name}, dB" for name in sets)]
    arms = [name for name in study.arms if name in costs]
    rows = [
        [
            name,
            len(seeds[name]),
            f"{costs[name][0] / 1e6:.3f} M",
            f"{costs[name][1]:.1f}",
            *(mean_of(scores, name, dataset) for dataset in sets),
        ]
        for name in arms
    ]
    gains = []
    pairs = [(name, against) for name in arms for against in study.arms[name].against]
    for name, against in pairs:
        if against in costs and seeds[name] & seeds[against]:
            found = [Verdict.of(gain(scores, name, against, dataset)) for dataset in sets]
            gains.append([name, against, *(f"{verdict}: **{verdict.word}**" for verdict in found)])
    lines = [f"# {study.title}", "", *grid(head, rows), ""]
    if gains:
        lines += [*grid(["arm", "better than", *sets], gains), "", CONFIDENCE, ""]
    facts = [
        f"{scores[0].steps:,} steps each",
        f"`configs/{study.budget.config}`",
        f"`python -m experiments.{study.name}`",
        training_time(scores),
        processor(),
        f"PyTorch {torch.__version__}",
        date.today().isoformat(),
    ]
    made = (
        f"Made with {', '.join(facts)}. Means over seeds ± their spread; milliseconds: medians of rounds"
        " in one process, one arm after the other."
    )
    return "\n".join([*lines, made, ""])


def parser_of(
    description: str | None, arms: Mapping[str, object], default: Sequence[str]
) -> argparse.ArgumentParser:
    """The options of a study: those of every training, and its arms."""
    line = options(description)
    line.add_argument(
        "--arms", nargs="+", choices=arms, default=default, metavar="NAME", help=", ".join(arms)
    )
    line.add_argument("--steps", type=int, metavar="N", help="of each training (default: the recipe's)")
    line.add_argument("--size", type=int, default=128, help="LR pixels a side of the picture that is timed")
    line.add_argument("--rounds", type=int, default=5, help="timed passes of each arm")
    return line
