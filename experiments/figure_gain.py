"""Where in a picture one network is nearer to the original than another: maps of the error's difference.

    python -m experiments.figure_gain BASE MODEL --test SET [--scale 4] [--pictures 3]

Squared errors of luma of BASE (a network without attention, say) minus those of MODEL, averaged over the
positions around by a Gaussian of 2 pixels: blue where MODEL is better. Drawn are the pictures of the set with
the largest gain in dB. The table is of all of them: how much of the set's gain lies in the tenth of its
positions with most contrast (standard deviation within 7 x 7 pixels), and in the half with least.

Writes `results/figure_gain_SET.png` and `.md`.
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from benchmarks.report import processor
from experiments.ablation import HERE, answer
from experiments.drawing import WIDTH, plt, save
from jaxtyping import Float, UInt8
from torch.nn.functional import avg_pool2d

from enlca.data.pairs import load_pair
from enlca.evaluation.evaluate import Method, method_called
from enlca.metrics import luma, psnr_plane
from enlca.runtime.files import write_atomically

# Side of the windows of local contrast, and sigma of the maps, in pixels.
WINDOW, SIGMA = 7, 2.0


class Gain(NamedTuple):
    """What the model gains over the base on one picture: in dB, and in squared levels of each pixel."""

    picture: str
    hr: UInt8[np.ndarray, "H W 3"]
    db: float
    squares: Float[np.ndarray, "H W"]
    contrast: Float[np.ndarray, "H W"]


def gains(base: Method, model: Method, folder: Path, scale: int) -> list[Gain]:
    """The gain on each picture of a set.

    Raises:
        EnlcaError: the set is not there.
    """
    found = []
    for pair in base.pairs(folder, scale):
        lr, hr = load_pair(pair, scale)
        y = luma(hr)
        planes = [luma(method.upscale(lr)) for method in (base, model)]
        before, after = (psnr_plane(plane, y, shave=scale) for plane in planes)
        squares = (planes[0] - y) ** 2 - (planes[1] - y) ** 2
        found.append(Gain(pair.name, hr, after - before, squares, local_deviation(y)))
    return found


def local_deviation(plane: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """Standard deviation around each pixel, as far as the picture goes."""
    u = torch.from_numpy(np.stack([plane, plane**2]).astype(np.float64))[None]
    mean, square = avg_pool2d(u, WINDOW, 1, WINDOW // 2, count_include_pad=False)[0]
    return (square - mean**2).clamp_min(0).sqrt().numpy()


def share(found: Sequence[Gain], low: float, high: float) -> float:
    """Which part of the gain lies between two quantiles of contrast over all pictures."""
    contrast = np.concatenate([gain.contrast.ravel() for gain in found])
    squares = np.concatenate([gain.squares.ravel() for gain in found])
    order = squares[np.argsort(contrast, kind="stable")]
    first, last = round(low * len(order)), round(high * len(order))
    return float(order[first:last].sum() / order.sum())


def draw(path: Path, shown: Sequence[Gain]) -> None:
    """The originals, and below them the maps on one scale for all."""
    from scipy.ndimage import gaussian_filter

    maps = [gaussian_filter(gain.squares, SIGMA) for gain in shown]
    most = max(float(np.quantile(np.abs(one), 0.995)) for one in maps)
    # All panels are equally high.
    widths = [gain.hr.shape[1] / gain.hr.shape[0] for gain in shown]
    size = (WIDTH, 2 * (WIDTH - 0.8) / sum(widths) + 0.4)
    figure, axes = plt.subplots(
        2, len(shown), figsize=size, layout="constrained", squeeze=False, width_ratios=widths
    )
    drawn = None
    for (above, below), gain, one in zip(axes.T, shown, maps, strict=True):
        above.imshow(gain.hr)
        above.set_title(f"{gain.picture}: {gain.db:+.2f} dB")
        drawn = below.imshow(one, cmap="RdBu", vmin=-most, vmax=most, interpolation="nearest")
        for axis in (above, below):
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
    bar = figure.colorbar(drawn, ax=axes[1, -1], shrink=0.9, aspect=20)
    bar.set_label("squared error less, levels²")
    save(figure, path)


def run(arguments: argparse.Namespace) -> None:
    """Measure, draw, and write the numbers."""
    base, model = (
        method_called(name, scale=arguments.scale, device="cpu") for name in (arguments.base, arguments.model)
    )
    found = gains(base, model, arguments.test, arguments.scale)
    name = f"figure_gain_{arguments.test.name}"
    figure = ""
    if best := sorted(found, key=lambda gain: -gain.db)[: arguments.pictures]:
        draw(arguments.out / f"{name}.png", best)
        figure = f"![gain]({name}.png)\n\n"
    mean = float(np.mean([gain.db for gain in found]))
    section = f"""## Where the gain is: {arguments.test.name}

{figure}| {model.name} over {base.name} | |
|---|---|
| mean gain of {len(found)} pictures | {mean:+.3f} dB |
| pictures with a gain | {sum(gain.db > 0 for gain in found)} of {len(found)} |
| of the gain in squared error, in the tenth of positions with most contrast | {share(found, 0.9, 1):.0%} |
| in the half with least | {share(found, 0, 0.5):.0%} |

Made by `python -m experiments.figure_gain`, {processor()}, PyTorch {torch.__version__}, \
{date.today().isoformat()}.
"""
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_atomically(arguments.out / f"{name}.md", section.encode())
    print(section)


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    line = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    line.add_argument("base", metavar="BASE", help="a model by name or file")
    line.add_argument("model", metavar="MODEL", help="another one")
    line.add_argument("--test", type=Path, required=True, metavar="SET", help="a benchmark folder")
    line.add_argument("--scale", type=int, default=4, choices=(2, 3, 4))
    line.add_argument(
        "--pictures", type=int, default=3, help="how many are drawn, or 0 (default: %(default)s)"
    )
    line.add_argument("--out", type=Path, default=HERE / "results", metavar="DIR")
    return line


if __name__ == "__main__":
    sys.exit(answer(run, parser()))
