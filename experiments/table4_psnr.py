"""Table 4's PSNR: ENLCA with m random features, beside no attention, non-local attention and NLSA.

    python -m experiments.table4_psnr --budget smoke|short|small|paper [--seeds N] [--minutes M]

Two readings of "m", each said: a network trained at each m; and the network trained at the recipe's m, whose
F is drawn anew with m features when it is tested, or whose estimate is replaced by softmax itself. Trains
what is not trained yet (`runs/BUDGET/`), scores every seed picture by picture, and writes
`results/table4_psnr_BUDGET.md` and `.csv`. What m costs: `table4_cost`.
"""

import argparse
import dataclasses
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from experiments.ablation import (
    answer,
    apart,
    command_line,
    expected,
    means,
    publish,
    tests_of,
    trained,
    verdicts,
)
from experiments.scores import Score, psnr_of, scored
from experiments.table2_ablation import CONTRAST
from experiments.variants import BUDGETS, Run, Variant, enla, other_attention, recipe, without_attention

from enlca.checkpoint.store import load
from enlca.network.sr import SRNetwork

SOFTMAX = "softmax"


def variants_of_rows(own: int) -> dict[str, Variant]:
    """The rows of the paper's table that have a PSNR; `own` is the recipe's m."""
    rows = {"Baseline": without_attention(), "NLA": other_attention("exact")}
    rows["NLSA-r4"] = other_attention("lsh")
    for name in expected()["table4"]:
        if found := re.fullmatch(r"ENLCA-m(\d+)", name):
            m = int(found[1])
            rows[name] = enla(amplification=6, contrast=CONTRAST, n_features=None if m == own else m)
    return rows


def with_features(weights: Path, n_features: int | None, seed: int) -> SRNetwork:
    """The network of a file with F drawn anew with so many features; None is softmax in the place of ENLA."""
    source = load(weights)
    change = {"attention": "exact"} if n_features is None else {"n_features": n_features}
    network = SRNetwork(dataclasses.replace(source.config, **change))
    kept = {name: value for name, value in source.state_dict().items() if ".attend." not in name}
    missing, unexpected = network.load_state_dict(kept, strict=False)
    assert not unexpected
    assert all(".attend." in name for name in missing)
    network.redraw_(torch.Generator().manual_seed(seed))
    return network.eval()


def replaced(runs: Sequence[Run], tests: Sequence[Path], features: Sequence[int]) -> list[Score]:
    """The scores of runs with each of `features`, and with softmax, at test time."""
    found = []
    for run in runs:
        for m in (*features, None):
            view = SOFTMAX if m is None else f"m{m}"
            for folder in tests:
                made = psnr_of(
                    run,
                    folder,
                    view=view,
                    network=lambda run=run, m=m: with_features(run.weights, m, run.seed),
                )
                name = folder.resolve().name
                found += [Score(view, run.seed, name, image, psnr, 0, 0.0) for image, psnr in made.items()]
    return found


def run(arguments: argparse.Namespace) -> None:
    """Train, score, write."""
    own = recipe(BUDGETS[arguments.budget]).network.n_features
    variants = variants_of_rows(own)
    runs = trained(arguments, list(variants.values()))
    scores = scored(runs, tests_of(arguments))
    paper = {name: f"{row['psnr']:.2f}" for name, row in expected()["table4"].items() if "psnr" in row}
    head = ["method", "PSNR, Urban100 x4 (paper)"]
    table = means(scores, head, [([name, paper[name]], variant) for name, variant in variants.items()])
    base, most = variants["Baseline"], max(_features(variants))
    claims = {
        f"ENLCA-m{m} over no attention (paper {_over(paper, f'ENLCA-m{m}', 'Baseline')})": (
            variants[f"ENLCA-m{m}"],
            base,
        )
        for m in (most, 16, 2)
    }
    claims["ENLCA-m16 over NLSA (paper +0.11)"] = (variants["ENLCA-m16"], variants["NLSA-r4"])
    claims[f"m = {most} over m = 16 (paper {_over(paper, f'ENLCA-m{most}', 'ENLCA-m16')})"] = (
        variants[f"ENLCA-m{most}"],
        variants["ENLCA-m16"],
    )
    full = [run for run in runs if run.variant == variants[f"ENLCA-m{own}"]]
    again = replaced(full, tests_of(arguments), _features(variants))
    at_test = [([f"m = {m}"], Variant(f"m{m}", {})) for m in _features(variants)]
    at_test.append((["softmax itself"], Variant(SOFTMAX, {})))
    body = [
        "A network trained at each m (k = 6, contrastive loss):",
        "",
        *table,
        "",
        *verdicts(scores, claims),
        "",
        f"Of ENLCA with all m {apart(scores, [variants[f'ENLCA-m{m}'] for m in _features(variants)])}.",
        "",
        f"The network trained at m = {own}, its F drawn anew with m features when it is tested:",
        "",
        *means(again, ["at test time"], at_test),
    ]
    publish(arguments, "table4_psnr", "Table 4: PSNR against m", "\n".join(body), [*scores, *again])


def _features(variants: dict[str, Variant]) -> list[int]:
    return [int(name.rpartition("m")[2]) for name in variants if name.startswith("ENLCA-m")]


def _over(paper: dict[str, str], name: str, other: str) -> str:
    return f"{float(paper[name]) - float(paper[other]):+.2f}"


def parser() -> argparse.ArgumentParser:
    """The options that all experiments have."""
    return command_line(__doc__)


if __name__ == "__main__":
    sys.exit(answer(run, parser()))
