"""Table 3: how many keys the contrastive loss takes (n1), and from which rank on they are irrelevant (n2).

    python -m experiments.table3_n1_n2 --budget smoke|small|paper [--jobs 2]

Trains what is not trained yet (`runs/BUDGET/`), scores every seed on Set5 x4, and writes
`results/table3_n1_n2_BUDGET.md` and `.csv`. All cells have k = 6.
"""

import argparse
import sys

from experiments.ablation import (
    answer,
    command_line,
    expected,
    gain,
    judged,
    mean_of,
    publish,
    scored,
    trained,
)
from experiments.variants import BUDGETS, enla


def run(arguments: argparse.Namespace) -> None:
    """Train, score, write."""
    cells = {(row["n1"], row["n2"]): row["psnr"] for row in expected()["table3"]["rows"]}
    variants = {cell: enla(amplification=6, contrast=cell) for cell in cells}
    scores = scored(arguments, trained(arguments, list(variants.values())))
    means = {cell: mean_of(scores, variant) for cell, variant in variants.items()}
    shares = [sorted({cell[side] for cell in cells}) for side in (0, 1)]
    seeds = BUDGETS[arguments.budget].seeds
    parts = []
    for title, shown in (
        ("Paper, Set5", {cell: f"{psnr:.2f}" for cell, psnr in cells.items()}),
        (f"Measured, {scores[0].dataset}, seeds: {seeds}, {scores[0].steps:,} steps each", means),
    ):
        head = " | ".join(f"n2 = {100 * start:g} %" for start in shares[1])
        lines = [f"{title}:", "", f"| | {head} |", "|---" * (len(shares[1]) + 1) + "|"]
        for relevant in shares[0]:
            line = " | ".join(str(shown[relevant, start]) for start in shares[1])
            lines.append(f"| n1 = {100 * relevant:g} % | {line} |")
        parts.append("\n".join(lines))
    best = max(cells, key=cells.__getitem__)
    others = [cell for cell in cells if cell != best]
    rival = max(others, key=lambda cell: means[cell].value)
    claim = f"the paper's best cell (2 %, 8 %) over the best other one here ({rival[0]:.1%}, {rival[1]:.0%})"
    parts.append(f"* {judged(claim, gain(scores, variants[best], variants[rival]))}.")
    publish(arguments, "table3_n1_n2", "Table 3: n1 and n2", "\n\n".join(parts), scores)


def parser() -> argparse.ArgumentParser:
    """The options that all experiments have."""
    return command_line(__doc__)


if __name__ == "__main__":
    sys.exit(answer(run, parser()))
