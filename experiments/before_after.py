"""Draw the README's picture: bicubic and a network side by side, on one crop.

    python -m experiments.before_after docs/images/astronaut_crop.png docs/images/before_after.png \\
        --crop 20 0 80 80
"""

import argparse
from fractions import Fraction
from pathlib import Path

import numpy as np

from enlca import Upscaler
from enlca.checkpoint import DEFAULT_MODEL
from enlca.image.picture import Picture, read_image, write_image
from enlca.image.resize import imresize

GAP = 8
FORM = argparse.RawDescriptionHelpFormatter


def main() -> None:
    """Left bicubic, right the network, a white gap between; the crop is in pixels of the source."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=FORM)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--scale", type=int, default=4)
    sides = ("LEFT", "TOP", "WIDTH", "HEIGHT")
    parser.add_argument("--crop", type=int, nargs=4, metavar=sides, required=True)
    arguments = parser.parse_args()

    small = read_image(arguments.source).rgb
    left, top, width, height = (side * arguments.scale for side in arguments.crop)
    panels = [
        large[top : top + height, left : left + width]
        for large in (
            imresize(small, Fraction(arguments.scale)),
            Upscaler(arguments.model, scale=arguments.scale, device="cpu")(small),
        )
    ]
    gap = np.full((panels[0].shape[0], GAP, 3), 255, dtype=np.uint8)
    write_image(arguments.target, Picture(np.concatenate([panels[0], gap, panels[1]], axis=1)))


if __name__ == "__main__":
    main()
