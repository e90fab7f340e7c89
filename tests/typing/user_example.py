# pyright: strict
"""What a user may write, with everything that is public: pyright checks it in strict mode, a test runs it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import enlca
from enlca.errors import EnlcaError
from enlca.image.picture import Picture, read_image
from enlca.integrations import hub, spandrel
from enlca.models import register


class Nearest(nn.Module):
    """A network of one's own."""

    def __init__(self, scale: int):
        super().__init__()
        self.repeat = nn.UpsamplingNearest2d(scale_factor=scale)

    def forward(self, lr: Tensor) -> Tensor:
        return self.repeat(lr)


class Block(nn.Module):
    """A block of another network, with our attention inside."""

    def __init__(self, channels: int):
        super().__init__()
        self.block = enlca.NonLocalBlock(channels=channels, attend="linear", n_features=16)
        self.fast = enlca.LinearAttend(dim=channels, n_features=16)
        self.exact = enlca.ExactAttend()

    def forward(self, features: Tensor) -> Tensor:
        mixed = self.block(features)
        tokens = nn.functional.normalize(mixed.flatten(2), dim=1)
        return mixed + (self.fast(tokens, tokens, tokens) - self.exact(tokens, tokens, tokens)).view_as(mixed)


def networks(folder: Path) -> enlca.SRNetwork:
    """Make a network, store it, load it in each way."""
    config = enlca.SRConfig(
        scale=2, channels=8, n_blocks=2, blocks_per_stage=1, embed_channels=4, n_features=8
    )
    network = enlca.SRNetwork(config).eval()
    enlca.save(network, folder / "mine.safetensors", scores={"Set5": {"psnr_y": 30.0}})
    again: enlca.SRNetwork = enlca.load(folder / "mine.safetensors", scale=2)
    hub.save_pretrained(again, folder / "mine", license="cc0-1.0")
    same: enlca.SRNetwork = hub.from_pretrained(folder / "mine")
    sr: Tensor = same(torch.rand(1, 3, 6, 5))
    assert sr.shape == (1, 3, 12, 10)
    return same


def pictures(network: enlca.SRNetwork, folder: Path) -> list[tuple[int, ...]]:
    """Upscale pictures of each kind; return the sizes."""
    up = enlca.Upscaler(network, device="cpu", mode="auto", max_memory=None)
    grey = np.linspace(0, 1, 30, dtype=np.float32).reshape(6, 5)
    larger: np.ndarray = up(grey)
    tensor: Tensor = up(torch.rand(3, 6, 5))
    file = folder / "photo.png"
    Picture(np.zeros((6, 5, 3), np.uint8)).save(file)
    picture: Picture = up(file)
    remarks: tuple[str, ...] = picture.save(folder / "photo_x2.png")
    assert not remarks
    again: Picture = up(file.read_bytes())
    bands: Iterator[np.ndarray] = up.stream(iter([grey[:, :, None]]))
    steps: list[float] = []
    rows = sum(
        len(band)
        for band in up.bands(read_image(file).pixels, progress=lambda what, done, total: steps.append(done))
    )
    assert steps
    sizes = [larger.shape, tuple(tensor.shape), again.pixels.shape, (rows, int(up.scale))]
    return [*sizes, *(band.shape for band in bands)]


def main(folder: Path) -> str:
    """Do all of it; return what the last, wrong, call says."""
    print(enlca.__version__, pictures(networks(folder), folder), Block(8)(torch.rand(1, 8, 6, 5)).shape)
    register("nearest", Nearest)
    sr: Tensor = enlca.Upscaler("nearest", scale=3)(torch.rand(3, 6, 5))
    assert sr.shape == (3, 18, 15)
    push, install = hub.push, spandrel.install
    assert callable(push)
    assert callable(install)
    try:
        enlca.load("no-such-model")
    except EnlcaError as error:
        return str(error)
    raise AssertionError
