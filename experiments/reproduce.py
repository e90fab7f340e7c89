"""All tables and figures at one budget, and what came of them: `experiments/REPORT.md`.

    python -m experiments.reproduce --budget smoke|short|small|paper [--only NAME ...] [--minutes M]
    make reproduce BUDGET=small

What is trained already is not trained again. An experiment that cannot be done is named with its reason, and
the others go on. `--only` runs some; the report always has all, those without a result as "not run".
"""

import argparse
import sys
import time
from importlib import import_module
from pathlib import Path

from experiments.ablation import HERE, NOT_RUN, command_line

from enlca.errors import EnlcaError
from enlca.runtime.files import write_atomically

# In the paper's order, but for Table 4. Table 1 and the costs of Table 4 have commands of their own.
TITLES = {
    "figure1_correlation": "Figure 1: where a query looks",
    "table2_ablation": "Table 2: ablation",
    "table3_n1_n2": "Table 3: n1 and n2",
    "figure5_visual": "Figure 5: visual comparison",
    "figure6_amplification": "Figure 6: amplification",
    "figure7_sparsity": "Figure 7: what makes attention sparse",
    "table4_psnr": "Table 4: PSNR against m",
}
HEAD = """# What came of the paper's tables and figures, with the budget "{budget}"

Made by `make reproduce BUDGET={budget}`. {meaning}

"Paper" and "measured" never share a cell. A claim holds here with 95 % confidence, over seeds and pictures
and over seeds alone, or is not decided; a single seed decides nothing.

## Table 1: benchmarks

[results/table1_benchmarks.md](results/table1_benchmarks.md), by `python -m experiments.table1_benchmarks`:
the weights in the package, on Set5 and Set14. The paper's network, and the other sets: {not_run}.
"""
MEANINGS = {
    "smoke": "Eight steps of training each: proof that the commands work. The numbers mean nothing.",
    "short": "Networks of 0.2 million parameters and 1,000 steps each: they say whether a claim shows this"
    " early,\nnot whether it is true of the paper's networks.",
    "small": "Networks of 0.2 million parameters and 2,500 steps each: they say whether a claim shows this"
    " early,\nnot whether it is true of the paper's networks.",
    "paper": "The paper's network and recipe.",
}
TAIL = """
## Table 4: cost

[results/table4_cost.md](results/table4_cost.md), by `python -m experiments.table4_cost`. Operations: holds
here, to the last digit that is printed (but NLSA's, which the paper does not derive).

## Beyond the paper: attention, arm by arm

[results/attention_arms.md](results/attention_arms.md), by `python -m experiments.attention_arms`: none, none
with two more residual blocks, the paper's, exact attention and attention inside windows at k = 24, with 2,500
steps each and three seeds. More arms, with 1,000 steps and one seed:
[results/attention_arms_1000.md](results/attention_arms_1000.md).
"""


def section(name: str, budget: str, results: Path) -> str:
    """What an experiment wrote, or that it was not run."""
    path = results / f"{name}_{budget}.md"
    return path.read_text() if path.exists() else f"## {TITLES[name]}\n\n{NOT_RUN}.\n"


def report(budget: str, results: Path) -> str:
    """The page."""
    head = HEAD.format(budget=budget, meaning=MEANINGS[budget], not_run=NOT_RUN)
    sections = [section(name, budget, results) for name in TITLES]
    return "\n".join([head, *sections]) + TAIL


def run(name: str, words: list[str]) -> str | None:
    """Run one experiment; the reason why it could not be done."""
    try:
        module = import_module(f"experiments.{name}")
        module.run(module.parser().parse_args(words))
    except EnlcaError as error:
        return str(error)
    except ModuleNotFoundError as error:
        return f"{error.name} is not installed: pip install --group figures"
    return None


def main() -> int:
    """Read the command line; 1 if something could not be done."""
    line: argparse.ArgumentParser = command_line(__doc__)
    line.add_argument("--only", nargs="+", choices=TITLES, default=list(TITLES), metavar="NAME")
    line.add_argument("--report", type=Path, default=HERE / "REPORT.md", metavar="FILE")
    arguments = line.parse_args()
    words = ["--budget", arguments.budget, "--runs", str(arguments.runs), "--out", str(arguments.out)]
    words += ["--jobs", str(arguments.jobs)]
    if arguments.train is not None:
        words += ["--train", str(arguments.train)]
    if arguments.test is not None:
        words += ["--test", *map(str, arguments.test)]
    if arguments.seeds is not None:
        words += ["--seeds", str(arguments.seeds)]
    started, failures = time.monotonic(), {}
    for name in arguments.only:
        left = []
        if arguments.minutes is not None:
            left = ["--minutes", str(max(0.0, arguments.minutes - (time.monotonic() - started) / 60))]
        if reason := run(name, [*words, *left]):
            failures[name] = reason
    write_atomically(arguments.report, report(arguments.budget, arguments.out).encode())
    print(f"report: {arguments.report}")
    for name, reason in failures.items():
        print(f"{name}: {reason}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
