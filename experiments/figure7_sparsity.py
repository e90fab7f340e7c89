"""Figure 7: ENLA, with k, and with the contrastive loss as well.

    python -m experiments.figure7_sparsity --budget smoke|short|small|paper [--jobs 2]

The networks are rows of Table 2 (`runs/BUDGET/`, the first seed; trained if not there yet). Draws softmax
of inner products in the last attention block, as the paper does: `results/figure7_sparsity_BUDGET.png`.
"""

import argparse
import sys
from collections.abc import Sequence

from experiments.ablation import answer, publish, trained
from experiments.figure1_correlation import CONTRAST, Found, draw, parser, queries, table
from experiments.variants import enla


def claim(what: str, before: Sequence[Found], after: Sequence[Found]) -> str:
    """Whether the maps became sparser on all pictures."""
    pairs = [(a.sparsity.effective, b.sparsity.effective) for a, b in zip(before, after, strict=True)]
    sparser = sum(b < a for a, b in pairs)
    verdict = {0: "does not hold here", len(pairs): "holds here"}.get(sparser, "not decided here")
    change = ", ".join(f"{a:,.0f} to {b:,.0f}" for a, b in pairs)
    return f"* {what} makes attention sparser (effective positions {change}): {verdict}."


def run(arguments: argparse.Namespace) -> None:
    """Train what is missing, draw, and say how sparse the maps are."""
    looks = queries(arguments)
    variants = (enla(), enla(amplification=6), enla(amplification=6, contrast=CONTRAST))
    titles = ("ENLA", "ENLA\nwith k = 6", "ENLA\nwith k = 6 and contrast")
    runs = trained(arguments, variants, seeds=1)
    name = f"figure7_sparsity_{arguments.budget}.png"
    panels = [(title, run.weights, "exact") for title, run in zip(titles, runs, strict=True)]
    found = draw(arguments.out / name, panels, looks)
    plain, amplified, both = (found[number :: len(panels)] for number in range(len(panels)))
    claims = [claim("k", plain, amplified), claim("the contrastive loss", amplified, both)]
    body = "\n".join([f"![Figure 7](results/{name})", "", table(found), "", *claims])
    publish(arguments, "figure7_sparsity", "Figure 7: what makes attention sparse", body)


if __name__ == "__main__":
    sys.exit(answer(run, parser()))
