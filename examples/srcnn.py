"""
Training a small network of your own
====================================

SRCNN (Dong et al. 2014) with enlca's loader, loop and protocol. In the folder of this file::

    enlca train srcnn.yaml --data.train PICTURES              # on a folder of pictures, a minute
    enlca evaluate --model srcnn:SRCNN@runs/srcnn --data Set5 --scale 3
    python srcnn.py PICTURE OUT STEPS                         # what is shown below
"""

import csv
import sys
from pathlib import Path
from shutil import copy
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import torch
from torch import nn

import enlca.models


class SRCNN(nn.Module):
    """Upscale by bicubic interpolation, then sharpen by convolutions of 9, 5 and 5 pixels.

    What `enlca` asks of it: arguments with `scale`, and B 3 H W in [0, 1] -> B 3 SH SW.
    """

    # LR pixels that an output pixel depends on, so that tiles of large pictures fit together.
    tile_overlap = 12

    def __init__(self, scale: int, width: int = 64):
        super().__init__()
        self.upscale = nn.Upsample(scale_factor=scale, mode="bicubic")
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 9, padding=4),
            nn.ReLU(),
            nn.Conv2d(width, width // 2, 5, padding=2),
            nn.ReLU(),
            nn.Conv2d(width // 2, 3, 5, padding=2),
        )

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        """Return the SR images."""
        x = self.upscale(lr)
        return x + self.layers(x)


# %%
# The configuration beside this file names the network, `srcnn:SRCNN`, and says how it is trained. Here it
# sees one picture, and far too few steps.

PICTURE = Path(sys.argv[0]).parent / "../docs/images/astronaut_crop.png"


def main(picture: str | Path = PICTURE, out: str = "astronaut_x3.png", steps: int = 40) -> None:
    """Train for some steps on one picture, upscale it, and draw the loss."""
    from enlca.training.fit import fit
    from enlca.training.parse import read_config

    enlca.models.register("srcnn:SRCNN", SRCNN)
    settings = Path(sys.argv[0]).with_suffix(".yaml")
    with TemporaryDirectory() as folder:
        copy(picture, folder)
        places = ["--data.train", folder, "--run.dir", f"{folder}/run", "--data.cache", f"{folder}/cache"]
        best = fit(*read_config(settings, [*places, "--run.steps", str(steps), "--run.log_every", "1"]))
        upscaler = enlca.Upscaler(f"srcnn:SRCNN@{best}")
        upscaler(picture).save(out)
        with open(f"{folder}/run/metrics.csv", newline="") as file:
            rows = list(csv.DictReader(file))
    count = sum(weight.numel() for weight in upscaler.network.parameters())
    print(f"SRCNN of {count:,} weights, trained for {steps} steps -> {out}")
    plt.plot([int(row["step"]) for row in rows], [float(row["l1"]) for row in rows])
    plt.xlabel("step")
    plt.ylabel("L1")
    plt.show()


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(int, sys.argv[3:4]))
