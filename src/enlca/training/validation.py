"""PSNR-Y of the averaged weights by the evaluation protocol, the pictures shared out among devices.

Letters:  h, w height and width of LR   H, W of HR
"""

import os
from pathlib import Path
from typing import NamedTuple, cast
from zlib import crc32

import numpy as np
import torch
from jaxtyping import UInt8
from lightning.fabric import Fabric
from torch import Tensor

from enlca.data.pairs import find_pairs, load_pair
from enlca.errors import PictureError
from enlca.inference.execute import padded
from enlca.metrics import psnr
from enlca.network.interface import SRModel
from enlca.training.dead_units import firing_units

# Enough to see what the network does, little enough for a log: pictures, and pixels a side.
SHOWN, CROP = 3, 256


class Validated(NamedTuple):
    """What a validation found, the numbers equal on all devices.

    Attributes:
        psnr: mean PSNR-Y in dB.
        dead_units: share of the units of residual blocks that fired in no picture; None without such blocks.
        pictures: names and middles of the first pictures, upscaled.
    """

    psnr: float
    dead_units: float | None
    pictures: list[tuple[str, UInt8[np.ndarray, "_ _ 3"]]]


class ValidationSet:
    """The pairs of a benchmark folder in memory.

    Attributes:
        names, pairs: of the pictures; LR and HR.
        checksum: CRC-32 of the names and pixels, by which a resumed run knows the pictures again.

    Raises:
        PictureError: if there are none, or one cannot be used.
    """

    def __init__(self, folder: Path, scale: int):
        self.scale = scale
        self.names, self.pairs = [], []
        self.checksum = 0
        problems = []
        for pair in find_pairs(folder, scale):
            try:
                lr, hr = load_pair(pair, scale)
                height, width = hr.shape[:2]
                if min(height, width) <= 2 * scale:
                    border = f"nothing is left of {width}x{height} pixels without a border of {scale}"
                    raise PictureError(f"{pair.hr}: {border}")
            except PictureError as error:
                problems.append(str(error))
            else:
                self.pairs.append((lr, hr))
                self.names.append(pair.name)
                for part in (os.fsencode(pair.name), lr.tobytes(), hr.tobytes()):
                    self.checksum = crc32(part, self.checksum)
        if problems:
            more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
            raise PictureError(f"validation: {'; '.join(problems[:3])}{more}")

    def score(self, network: SRModel, fabric: Fabric) -> Validated:
        """Upscale and compare all pictures.

        Each device scores every n-th picture. The scores are joined before they are averaged, so the mean
        is that of one device to the last bit, also where the devices have different numbers of pictures.
        """
        scores = torch.zeros(len(self.pairs), dtype=torch.float64, device=_with_doubles(fabric.device))
        shown = []
        was_training = network.training
        network.eval()
        with firing_units(network) as fired:
            for index in range(fabric.global_rank, len(self.pairs), fabric.world_size):
                lr, hr = self.pairs[index]
                made = _upscale(network, lr, fabric.device)
                scores[index] = psnr(made, hr, shave=self.scale)
                if len(shown) < SHOWN:
                    shown.append((f"validation/{self.names[index]}", _middle(made)))
        network.train(was_training)
        joined = cast(Tensor, fabric.all_reduce(scores, reduce_op="sum"))
        dead = None
        if fired:
            counts = cast(Tensor, fabric.all_reduce(torch.cat(fired).float(), reduce_op="sum"))
            dead = float((counts == 0).float().mean())
        return Validated(float(joined.mean()), dead, shown)


def _with_doubles(device: torch.device) -> torch.device:
    return torch.device("cpu") if device.type == "mps" else device


@torch.no_grad()
def _upscale(
    network: SRModel, pixels: UInt8[np.ndarray, "h w 3"], device: torch.device
) -> UInt8[np.ndarray, "H W 3"]:
    lr = torch.from_numpy(pixels.transpose(2, 0, 1).copy()).to(device)
    sr = padded(network)(lr[None].float() / 255)[0].clamp(0, 1).mul(255).round().byte()
    return sr.permute(1, 2, 0).cpu().numpy()


def _middle(pixels: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "_ _ 3"]:
    top, left = (max(0, (side - CROP) // 2) for side in pixels.shape[:2])
    return pixels[top : top + CROP, left : left + CROP]
