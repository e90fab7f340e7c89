"""Table 3: how many keys the contrastive loss takes (n1), and from which rank on they are irrelevant (n2).

    python -m experiments.table3_n1_n2 --budget smoke|short|small|paper [--seeds N] [--minutes M]

Trains what is not trained yet (`runs/BUDGET/`), scores every seed picture by picture, and writes
`results/table3_n1_n2_BUDGET.md` and `.csv`. All cells have k = 6.
"""

import argparse
import sys

from experiments.ablation import (
    answer,
    apart,
    command_line,
    expected,
    grid,
    publish,
    sets_of,
    tests_of,
    trained,
    verdicts,
)
from experiments.scores import mean_of, scored
from experiments.variants import enla


def run(arguments: argparse.Namespace) -> None:
    """Train, score, write."""
    cells = {(row["n1"], row["n2"]): row["psnr"] for row in expected()["table3"]["rows"]}
    variants = {cell: enla(amplification=6, contrast=cell) for cell in cells}
    scores = scored(trained(arguments, list(variants.values())), tests_of(arguments))
    sets, seeds = sets_of(scores), len({score.seed for score in scores})
    means = {
        name: {cell: mean_of(scores, variant, name) for cell, variant in variants.items()} for name in sets
    }
    shown = {"Paper, Set5": {cell: f"{psnr:.2f}" for cell, psnr in cells.items()}}
    shown |= {
        f"Measured, {name}, seeds: {seeds}, {scores[0].steps:,} steps each": values
        for name, values in means.items()
    }
    shares = [sorted({cell[side] for cell in cells}) for side in (0, 1)]
    head = ["", *(f"n2 = {100 * start:g} %" for start in shares[1])]
    parts = []
    for title, values in shown.items():
        rows = [
            [f"n1 = {100 * relevant:g} %", *(values[relevant, start] for start in shares[1])]
            for relevant in shares[0]
        ]
        parts.append("\n".join([f"{title}:", "", *grid(head, rows)]))
    best = max(cells, key=cells.__getitem__)
    others = [cell for cell in cells if cell != best]
    # Chosen on the first data set, judged on all.
    rival = max(others, key=lambda cell: means[sets[0]][cell].value)
    claim = f"the paper's best cell (2 %, 8 %) over the best other one here ({rival[0]:.1%}, {rival[1]:.0%})"
    parts.append("\n".join(verdicts(scores, {claim: (variants[best], variants[rival])})))
    own = max(cells.values()) - min(cells.values())
    said = apart(scores, list(variants.values()))
    parts.append(f"Of all {len(cells)} cells {said} (the paper's by {own:.2f} dB on Set5).")
    publish(arguments, "table3_n1_n2", "Table 3: n1 and n2", "\n\n".join(parts), scores)


def parser() -> argparse.ArgumentParser:
    """The options that all experiments have."""
    return command_line(__doc__)


if __name__ == "__main__":
    sys.exit(answer(run, parser()))
