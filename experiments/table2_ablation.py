"""Table 2: the backbone, ENLA, the amplification k, the contrastive loss, and all together.

    python -m experiments.table2_ablation --budget smoke|small|paper [--jobs 2]

Trains what is not trained yet (`runs/BUDGET/`), scores every seed on Set5 x4, and writes
`results/table2_ablation_BUDGET.md` and `.csv`. "Without k" is k = 1: unit vectors, as in Eq. 2.
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
from experiments.variants import BUDGETS, Variant, enla, without_attention

CONTRAST = (0.02, 0.08)


def rows() -> dict[tuple[bool, bool, bool], Variant]:
    """The table's rows: (ENLA, k, contrast), as `expected.toml` names them."""
    return {
        (False, False, False): without_attention(),
        (True, False, False): enla(),
        (True, True, False): enla(amplification=6),
        (True, False, True): enla(contrast=CONTRAST),
        (True, True, True): enla(amplification=6, contrast=CONTRAST),
    }


def run(arguments: argparse.Namespace) -> None:
    """Train, score, write."""
    variants = rows()
    scores = scored(arguments, trained(arguments, list(variants.values())))
    means = {parts: mean_of(scores, variant) for parts, variant in variants.items()}
    dataset, seeds = scores[0].dataset, BUDGETS[arguments.budget].seeds
    lines = [
        f"| ENLA | k = 6 | contrast | PSNR, Set5 (paper) | PSNR, {dataset} (measured, seeds: {seeds}) |",
        "|---|---|---|---|---|",
    ]
    for row in expected()["table2"]["rows"]:
        parts = (row["enla"], row["amplification"], row["contrast"])
        marks = " | ".join("x" if part else "" for part in parts)
        lines.append(f"| {marks} | {row['psnr']:.2f} | {means[parts]} |")
    base, plain, amplified, contrasted, both = variants.values()
    claims = [
        judged("ENLA without k over the backbone (paper +0.16)", gain(scores, plain, base)),
        judged("k over ENLA (paper +0.07)", gain(scores, amplified, plain)),
        judged("contrast over ENLA (paper +0.04)", gain(scores, contrasted, plain)),
        judged("all over the backbone (paper +0.27)", gain(scores, both, base)),
    ]
    steps = f"{scores[0].steps:,} steps each; the paper's 200,000 of a network of 43 million parameters."
    body = "\n".join([*lines, "", *(f"* {claim}." for claim in claims), "", steps])
    publish(arguments, "table2_ablation", "Table 2: ablation", body, scores)


def parser() -> argparse.ArgumentParser:
    """The options that all experiments have."""
    return command_line(__doc__)


if __name__ == "__main__":
    sys.exit(answer(run, parser()))
