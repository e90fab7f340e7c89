"""Figure 5: one crop of a picture by several methods, each with its PSNR and SSIM.

    python -m experiments.figure5_visual --budget smoke|short|small|paper
    python -m experiments.figure5_visual --test SET --picture NAME --box LEFT TOP WIDTH HEIGHT \\
        --method NLSN=SR_DIR --method "ENLCN (tiny)=enlcn-tiny"

A method is a folder of SR pictures of any method, matched by name, or a model by name or file, that
upscales the picture here. Without any: bicubic and weights of the package, or, with the budget "paper", the
networks of Table 2 in `runs/paper`. The numbers are of the whole picture. Writes
`results/figure5_visual_BUDGET.png` and `.md`.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from experiments.ablation import HERE, answer, command_line, publish, trained
from experiments.drawing import MARK, WIDTH, plt, save
from experiments.table2_ablation import variants_of_rows
from jaxtyping import UInt8

from enlca.data.names import Partners
from enlca.data.pairs import Pair, find_pairs, load_made, load_pair
from enlca.errors import EnlcaError
from enlca.evaluation.evaluate import method_called
from enlca.image.files import find_pictures
from enlca.metrics import luma, psnr_plane, ssim_plane

LARGE = HERE.parent / "docs" / "images" / "large"
# Of the bricks: left, top, width, height in pixels of the HR picture.
BOX = (150, 210, 96, 72)
PANEL_ROWS = 2


class Panel(NamedTuple):
    """What one method made of the picture, with PSNR and SSIM; the original has none."""

    method: str
    pixels: UInt8[np.ndarray, "H W 3"]
    scores: tuple[float, float] | None

    @property
    def numbers(self) -> str:
        """As the paper prints them."""
        return "{:.2f} / {:.4f}".format(*self.scores) if self.scores else "PSNR / SSIM"


def methods_of(arguments: argparse.Namespace) -> Mapping[str, str]:
    """Title, and folder or model, of each method.

    Raises:
        EnlcaError: for a method without a name.
    """
    if arguments.method:
        pairs = [word.partition("=") for word in arguments.method]
        if broken := ["".join(parts) for parts in pairs if not all(parts)]:
            raise EnlcaError(f"--method {broken[0]}: write TITLE=FOLDER or TITLE=MODEL")
        return {title: where for title, _, where in pairs}
    if arguments.budget == "paper":
        base, *_, full = (
            run.weights for run in trained(arguments, list(variants_of_rows().values()), seeds=1)
        )
        return {"bicubic": "bicubic", "EDSR": str(base), "ENLCN": str(full)}
    return {"bicubic": "bicubic", "EDSR (tiny)": "edsr-tiny", "ENLCN (tiny)": "enlcn-tiny"}


def picture_called(name: str | None, folder: Path, scale: int) -> Pair:
    """The pair of that name; without one the first.

    Raises:
        EnlcaError: there is none.
    """
    pairs = find_pairs(folder, scale)
    chosen = [pair for pair in pairs if name in (None, pair.name, pair.hr.name)]
    if not chosen:
        names = ", ".join(pair.name for pair in pairs[:8])
        raise EnlcaError(f"{folder}: no picture {name}; there are {names}")
    return chosen[0]


def _middle(picture: UInt8[np.ndarray, "H W 3"]) -> tuple[int, int, int, int]:
    """A box of a quarter of the sides in the middle."""
    height, width = picture.shape[:2]
    return 3 * width // 8, 3 * height // 8, max(1, width // 4), max(1, height // 4)


def panels(arguments: argparse.Namespace) -> tuple[list[Panel], Sequence[int]]:
    """The original, then every method; and the box.

    Raises:
        EnlcaError: a picture or a model is not there, sizes differ, or the box is outside.
    """
    scale = arguments.scale
    pair = picture_called(arguments.picture, arguments.test[0] if arguments.test else LARGE, scale)
    lr, hr = load_pair(pair, scale)
    box = arguments.box or (BOX if arguments.test is None else _middle(hr))
    left, top, width, height = box
    inside = left >= 0 and top >= 0 and left + width <= hr.shape[1] and top + height <= hr.shape[0]
    if not (inside and width > 0 and height > 0):
        sides = f"{hr.shape[1]} x {hr.shape[0]}"
        raise EnlcaError(f"--box {' '.join(map(str, box))}: not inside {pair.name}, which is {sides}")
    made = [Panel("original", hr, None)]
    for title, where in methods_of(arguments).items():
        if Path(where).is_dir():
            sr, _ = load_made(pair.hr, Partners([pair.hr], find_pictures(Path(where))).of(pair.hr), scale)
        else:
            sr = method_called(where, scale=scale, device="cpu").upscale(lr)
        planes = luma(sr), luma(hr)
        scores = psnr_plane(*planes, shave=scale), ssim_plane(*planes, shave=scale)
        made.append(Panel(title, sr, scores))
    return made, box


def draw(path: Path, made: Sequence[Panel], box: Sequence[int]) -> None:
    """The picture with its box on the left, the crops in two rows beside it."""
    left, top, width, height = box
    columns = -(-len(made) // PANEL_ROWS)
    whole = made[0].pixels
    # The whole picture is as high as two crops with their titles.
    side = 2.3 * (height / width) / (whole.shape[0] / whole.shape[1])
    size = (WIDTH, WIDTH / (columns + side) * 2.2 * height / width + 0.5)
    figure = plt.figure(figsize=size, layout="constrained")
    grid = figure.add_gridspec(PANEL_ROWS, columns + 1, width_ratios=[side] + [1] * columns)
    axes = [figure.add_subplot(grid[:, 0])]
    axes[0].imshow(whole)
    axes[0].add_patch(plt.Rectangle((left, top), width, height, fill=False, edgecolor=MARK, linewidth=1.5))
    for number, panel in enumerate(made):
        axes.append(figure.add_subplot(grid[number // columns, 1 + number % columns]))
        axes[-1].imshow(panel.pixels[top : top + height, left : left + width], interpolation="nearest")
        axes[-1].set_xlabel(f"{panel.method}\n{panel.numbers}", fontsize=7)
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(False)
    save(figure, path)


def run(arguments: argparse.Namespace) -> None:
    """Upscale or read, draw, and write the numbers."""
    made, box = panels(arguments)
    name = f"figure5_visual_{arguments.budget}.png"
    draw(arguments.out / name, made, box)
    lines = ["| method | PSNR / SSIM of the picture (measured) |", "|---|---|"]
    lines += [f"| {panel.method} | {panel.numbers} |" for panel in made[1:]]
    best = max(made[1:], key=lambda panel: panel.scores or ())
    holds = "holds here" if "ENLCN" in best.method else "does not hold here"
    text = (
        f"* ENLCN is the best: {holds}, on one picture ({best.method} is). The paper's pictures are of"
        " Urban100; this one is free to show."
    )
    body = "\n".join([f"![Figure 5](results/{name})", "", *lines, "", text])
    publish(arguments, "figure5_visual", "Figure 5: visual comparison", body)


def parser() -> argparse.ArgumentParser:
    """The options that all experiments have, and those of this figure."""
    line = command_line(__doc__)
    line.add_argument("--picture", metavar="NAME", help="of the folder --test (default: the first)")
    line.add_argument("--method", action="append", metavar="TITLE=FOLDER|MODEL", help="repeat for several")
    sides = ("LEFT", "TOP", "WIDTH", "HEIGHT")
    line.add_argument("--box", type=int, nargs=4, metavar=sides, help="of the HR picture")
    line.add_argument("--scale", type=int, default=4, choices=(2, 3, 4))
    return line


if __name__ == "__main__":
    sys.exit(answer(run, parser()))
