"""Figure 1: where a query looks by non-local attention, by NLSA and by ENLCA.

    python -m experiments.figure1_correlation --budget smoke|short|small|paper [--jobs 2]

Trains the three networks on one backbone if they are not there yet (`runs/BUDGET/`, the first seed), and
draws the weights of a marked query in the last attention block, as `results/figure1_correlation_BUDGET.png`.
ENLCA has two maps: softmax of inner products, which the paper draws, and the weights that it really applies.
"""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from experiments.ablation import HERE, answer, command_line, publish, trained
from experiments.drawing import Map, maps_figure
from experiments.variants import enla, other_attention
from jaxtyping import UInt8

from enlca.analysis.correlation import Sparsity, View, exact_weights, own_weights, sparsity, view_of
from enlca.checkpoint.store import load
from enlca.errors import EnlcaError
from enlca.image.picture import read_image
from enlca.network.sr import SRNetwork

IMAGES = HERE.parent / "docs" / "images"
# A joint between bricks; the edge of a shoulder.
QUERIES = {IMAGES / "bricks_crop.png": (60, 64), IMAGES / "astronaut_crop.png": (96, 17)}
CONTRAST = (0.02, 0.08)


def last_view(network: SRNetwork, picture: UInt8[np.ndarray, "H W 3"]) -> View:
    """What the last attention block sees."""
    lr = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    return view_of(network, lr, block=len(network.non_local_blocks) - 1)


class Found(NamedTuple):
    """How sparse one map is."""

    picture: str
    title: str
    positions: int
    sparsity: Sparsity


def queries(arguments: argparse.Namespace) -> Mapping[Path, tuple[int, int]]:
    """Pictures and where to look from: row and column.

    Raises:
        EnlcaError: one of the two options without the other.
    """
    if (arguments.picture is None) != (arguments.at is None):
        raise EnlcaError("--picture FILE and --at ROW COLUMN go together")
    return QUERIES if arguments.picture is None else {arguments.picture: tuple(arguments.at)}


def draw(
    path: Path, panels: Sequence[tuple[str, Path, str]], looks: Mapping[Path, tuple[int, int]]
) -> list[Found]:
    """Draw `panels`, each (title, weights' file, "exact" or "own"), for all pictures.

    Raises:
        EnlcaError: a picture cannot be read, or the query is outside.
    """
    rows, found = [], []
    for file, at in looks.items():
        picture, maps = read_image(file).rgb, []
        for title, weights, kind in panels:
            view = last_view(load(weights), picture)
            try:
                row = (exact_weights if kind == "exact" else own_weights)(view, view.position(*at))
            except ValueError as error:
                raise EnlcaError(f"{file}: {error}") from error
            sparse = sparsity(row)
            found.append(Found(file.stem, title.replace("\n", " "), len(row), sparse))
            note = f"top 1 %: {sparse.top_share:.0%}\neffective: {sparse.effective:,.0f}"
            maps.append(Map(title, row.unflatten(0, (view.height, view.width)).numpy(), note))
        rows.append((picture, at, maps))
    maps_figure(path, rows)
    return found


def table(found: Sequence[Found]) -> str:
    """A row for each map."""
    head = ("picture", "map (measured)", "entropy, bits", "weight on the top 1 %", "effective positions")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for picture, title, n, sparse in found:
        lines.append(
            f"| {picture} | {title} | {sparse.entropy:.2f} of {math.log2(n):.2f} |"
            f" {sparse.top_share:.1%} | {sparse.effective:,.0f} of {n:,} |"
        )
    return "\n".join(lines)


def run(arguments: argparse.Namespace) -> None:
    """Train what is missing, draw, and say how sparse the maps are."""
    looks = queries(arguments)
    variants = (other_attention("exact"), other_attention("lsh"), enla(amplification=6, contrast=CONTRAST))
    nla, nlsa, enlca = (run.weights for run in trained(arguments, variants, seeds=1))
    name = f"figure1_correlation_{arguments.budget}.png"
    panels = [
        ("non-local\nattention", nla, "own"),
        ("NLSA", nlsa, "own"),
        ("ENLCA\nas the paper draws it", enlca, "exact"),
        ("ENLCA\nas it is applied", enlca, "own"),
    ]
    found = draw(arguments.out / name, panels, looks)
    text = (
        "* Non-local attention looks at irrelevant places, NLSA misses relevant ones, ENLCA does neither: no"
        " number\n  decides that; look. The softmax map is not what ENLCA applies: that is the last column."
    )
    body = f"![Figure 1](results/{name})\n\n{table(found)}\n\n{text}"
    publish(arguments, "figure1_correlation", "Figure 1: where a query looks", body)


def parser() -> argparse.ArgumentParser:
    """The options that all experiments have, and a picture of one's own."""
    line = command_line(__doc__)
    line.add_argument("--picture", type=Path, metavar="FILE", help="an LR picture (default: two)")
    line.add_argument("--at", type=int, nargs=2, metavar=("ROW", "COLUMN"), help="the query, in its pixels")
    return line


if __name__ == "__main__":
    sys.exit(answer(run, parser()))
