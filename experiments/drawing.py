"""How the figures of this folder look, so that they look alike: sizes, colours, marks, and files of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.colors import LogNorm

DPI = 300
WIDTH = 7.0  # inches: two columns of a paper
# Colours that colour-blind readers tell apart (Okabe and Ito 2008), and cividis for maps.
MARK = "#D55E00"
MAP = "cividis"

plt.rcParams |= {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    # The same file for the same numbers.
    "svg.hashsalt": "enlca",
}


class Map(NamedTuple):
    """One panel: weights of all positions, its title, and a line below it."""

    title: str
    weights: Float[np.ndarray, "H W"]
    note: str


def maps_figure(
    path: Path, rows: Sequence[tuple[UInt8[np.ndarray, "H W 3"], tuple[int, int], Sequence[Map]]]
) -> None:
    """A row for each picture: the picture with its query marked, then its maps.

    A weight is drawn as a multiple of the average weight, on one logarithmic scale for all panels.
    """
    columns = 1 + max(len(maps) for _, _, maps in rows)
    tallest = max(picture.shape[0] / picture.shape[1] for picture, _, _ in rows)
    size = (WIDTH, len(rows) * (WIDTH / columns * tallest * 0.92 + 0.42))
    figure, axes = plt.subplots(len(rows), columns, figsize=size, layout="constrained", squeeze=False)
    multiples = [weights.size * weights for _, _, maps in rows for _, weights, _ in maps]
    most = max(float(one.max()) for one in multiples)
    norm = LogNorm(vmin=min(0.1, most / 10), vmax=most, clip=True)
    shown: Any = None
    for number, (line, (picture, (row, column), maps)) in enumerate(zip(axes, rows, strict=True)):
        line[0].imshow(picture)
        line[0].set_title("picture,\nquery marked" if number == 0 else "")
        for axis, (title, weights, note) in zip(line[1:], maps, strict=True):
            shown = axis.imshow(weights.size * weights, cmap=MAP, norm=norm, interpolation="nearest")
            axis.set_title(title if number == 0 else "")
            axis.set_xlabel(note, fontsize=7)
        for axis in line:
            axis.plot(column, row, marker="s", markersize=6, markerfacecolor="none", markeredgecolor=MARK)
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
    bar = figure.colorbar(shown, ax=axes[:, -1], shrink=0.8, aspect=25)
    bar.set_label("weight / average weight")
    save(figure, path)


def save(figure: Any, path: Path) -> None:
    """Write the figure whole: .svg as vectors, others at 300 dpi."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}")
    try:
        metadata = {"Date": None} if path.suffix == ".svg" else {}
        figure.savefig(partial, dpi=DPI, format=path.suffix[1:], metadata=metadata)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
        plt.close(figure)
