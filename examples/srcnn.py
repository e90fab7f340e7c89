"""Train a network of one's own, SRCNN (Dong et al. 2014), with enlca's loader, loop and protocol.

python srcnn.py PICTURE OUT [STEPS]                       trains on one picture, and upscales it
enlca train srcnn.yaml --data.train PICTURES              in this folder: on a folder of pictures, a minute
enlca evaluate --model srcnn:SRCNN@runs/srcnn --data Set5 --scale 3
"""

import sys
from pathlib import Path
from shutil import copy
from tempfile import TemporaryDirectory

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


def main(picture: str, out: str, steps: int = 500) -> None:
    """Train for some steps on one picture, and upscale it."""
    from enlca.training.fit import fit
    from enlca.training.parse import read_config

    enlca.models.register("srcnn:SRCNN", SRCNN)
    settings = Path(__file__).with_suffix(".yaml")
    with TemporaryDirectory() as folder:
        copy(picture, folder)
        places = ["--data.train", folder, "--run.dir", f"{folder}/run", "--data.cache", f"{folder}/cache"]
        best = fit(*read_config(settings, [*places, "--run.steps", str(steps)]))
        upscaler = enlca.Upscaler(f"srcnn:SRCNN@{best}")
        upscaler(picture).save(out)
    count = sum(weight.numel() for weight in upscaler.network.parameters())
    print(f"SRCNN of {count:,} weights, trained for {steps} steps -> {out}")


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(int, sys.argv[3:4]))
