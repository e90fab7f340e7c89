"""Draw what ordinary tiles lose: tiled against whole, beside streamed against whole.

python -m experiments.figure_tiles docs/images/astronaut_crop.png docs/images/tiles_difference.png
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from enlca import Upscaler
from enlca.image.picture import read_image
from enlca.inference.execute import Executor
from enlca.inference.strategy import Strategy

DPI = 200


def main() -> None:
    """The SR picture, and both differences on one scale, in levels of 255."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--model", default="enlcn-tiny")
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--tile", type=int, default=32)
    arguments = parser.parse_args()

    network = Upscaler(arguments.model, scale=arguments.scale, device="cpu").network
    executor, picture = Executor(network, network), read_image(arguments.source).rgb / 255
    whole, tiled, streamed = (
        255 * np.concatenate(list(executor.bands(picture, strategy)))
        for strategy in (
            Strategy("whole"),
            Strategy("tiled", arguments.tile),
            Strategy("stream", arguments.tile, cache_limit=0),
        )
    )
    tiles = f"ordinary tiles of {arguments.tile}, overlap {network.tile_overlap}"
    off = {
        tiles: np.abs(tiled - whole).max(axis=2),
        f"streamed in tiles of {arguments.tile}": np.abs(streamed - whole).max(axis=2),
    }
    figure, axes = plt.subplots(1, 3, figsize=(9.4, 3.3), layout="constrained")
    axes[0].imshow(whole.round().astype(np.uint8))
    axes[0].set_title("the picture as a whole", fontsize=9)
    largest = max(float(np.percentile(values, 99.9)) for values in off.values())
    for axis, (name, values) in zip(axes[1:], off.items(), strict=True):
        shown = axis.imshow(values, cmap="cividis", vmin=0, vmax=largest)
        axis.set_title(f"{name}\nlargest difference {values.max():.2g} levels", fontsize=9)
        print(f"{name}: largest {values.max():.2g}, mean {values.mean():.2g} levels of 255")
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
    figure.colorbar(shown, ax=axes[1:], shrink=0.85, label="difference in levels of 255")
    figure.savefig(arguments.target, dpi=DPI)


if __name__ == "__main__":
    main()
