"""Table 2: the backbone, ENLA, the amplification k, the contrastive loss, and all together.

    python -m experiments.table2_ablation --budget smoke|short|small|paper [--seeds N] [--minutes M]

Trains what is not trained yet (`runs/BUDGET/`), scores every seed picture by picture, and writes
`results/table2_ablation_BUDGET.md` and `.csv`. "Without k" is k = 1: unit vectors, as in Eq. 2.
"""

import argparse
import sys

from experiments.ablation import (
    answer,
    command_line,
    expected,
    means,
    publish,
    tests_of,
    trained,
    verdicts,
)
from experiments.scores import scored
from experiments.variants import Variant, enla, without_attention

CONTRAST = (0.02, 0.08)


def variants_of_rows() -> dict[tuple[bool, bool, bool], Variant]:
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
    variants = variants_of_rows()
    scores = scored(trained(arguments, list(variants.values())), tests_of(arguments))
    rows = []
    for row in expected()["table2"]["rows"]:
        parts = (row["enla"], row["amplification"], row["contrast"])
        rows.append(([*("x" if part else "" for part in parts), f"{row['psnr']:.2f}"], variants[parts]))
    table = means(scores, ["ENLA", "k = 6", "contrast", "PSNR, Set5 (paper)"], rows)
    base, plain, amplified, contrasted, both = variants.values()
    claims = {
        "ENLA without k over the backbone (paper +0.16)": (plain, base),
        "k over ENLA (paper +0.07)": (amplified, plain),
        "contrast over ENLA (paper +0.04)": (contrasted, plain),
        "all over the backbone (paper +0.27)": (both, base),
    }
    steps = f"{scores[0].steps:,} steps each; the paper's 200,000 of a network of 43 million parameters."
    body = "\n".join([*table, "", *verdicts(scores, claims), "", steps])
    publish(arguments, "table2_ablation", "Table 2: ablation", body, scores)


def parser() -> argparse.ArgumentParser:
    """The options that all experiments have."""
    return command_line(__doc__)


if __name__ == "__main__":
    sys.exit(answer(run, parser()))
