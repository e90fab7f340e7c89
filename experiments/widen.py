"""Begin a wider network with what a narrower one computes.  (Net2Net, Chen et al. 2016)

    python -m experiments.widen enlcn-tiny configs/enlcn_light_wide_x4.yaml --train DIR

writes `runs/wide_x4.safetensors` for `run.start_from`. The narrow network's attention is left out, as it may
be of another kind; non-local blocks of the wide one begin with an output of zero. Its additional channels are
computed but not read yet, so that gradients alone decide what they are for; the bias of an additional unit of
a residual block is such that it fires at about half of the positions.

Letters:  a channels of the narrow network   b of the wide one   h, w height and width of an LR picture
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from enlca.checkpoint.file import save
from enlca.checkpoint.store import load_model
from enlca.data.packed import open_training_set
from enlca.network.layers import ResBlock, residual_blocks
from enlca.network.sr import SRConfig, SRNetwork
from enlca.training.parse import read_config

PICTURES, SIDE = 16, 96


@torch.no_grad()
def widen(narrow: SRNetwork, config: SRConfig, pictures: list[Float[Tensor, "1 3 h w"]]) -> SRNetwork:
    """Return a network of `config` that computes what `narrow` does without its attention.

    Its weights that are not the narrow network's come from PyTorch's global generator.

    Args:
        narrow: with the same scale, mean, skip, upsampler and number of residual blocks, and at most as wide.
        config: of the wide network.
        pictures: LR, by which the additional units of residual blocks are scaled and centred.

    Raises:
        ValueError: one cannot be made from the other.
    """
    for field in ("scale", "mean", "skip", "upsampler", "n_blocks"):
        one, other = getattr(narrow.config, field), getattr(config, field)
        if one != other:
            raise ValueError(f"{field} must be that of the narrow network, {one}; got {other}")
    a, b = narrow.config.channels, config.channels
    if a > b:
        raise ValueError(f"the narrow network has {a} channels, more than the {b} of the wide one")
    wide = SRNetwork(config)
    for block in wide.non_local_blocks:
        _zero(block.embed.value)
    _copy(narrow.head, wide.head)
    if a < b:
        wide.head.weight[a:] *= _row_norm(narrow.head.weight) / _row_norm(wide.head.weight[a:])
    wide.head.bias[a:] = 0
    ratio = narrow.config.res_scale / config.res_scale
    pairs = list(zip(residual_blocks(narrow).values(), residual_blocks(wide).values(), strict=True))
    for old, new in pairs:
        new.first.weight[:a, a:] = 0
        _copy(old.first, new.first)
        new.first.bias[a:] = 0
        _zero(new.second)
        _copy(old.second, new.second, times=ratio)
    _zero(wide.fuse)
    _copy(narrow.fuse, wide.fuse)
    last = wide.upsampler[0]
    last.weight[:, a:] = 0
    _copy(narrow.upsampler[0], last)
    if a < b:
        for _, new in pairs:
            _centre(wide, new, a, pictures)
    return wide


def _copy(old: nn.Conv2d, new: nn.Conv2d, *, times: float = 1.0) -> None:
    """Put a narrow convolution's weights, multiplied, in the first rows and columns of a wide one's."""
    rows, columns = old.weight.shape[:2]
    new.weight[:rows, :columns] = times * old.weight
    new.bias[:rows] = times * old.bias


def _zero(convolution: nn.Conv2d) -> None:
    convolution.weight.zero_()
    convolution.bias.zero_()


def _row_norm(weight: Tensor) -> Tensor:
    return weight.norm() / len(weight) ** 0.5


def _centre(wide: SRNetwork, block: ResBlock, a: int, pictures: list[Tensor]) -> None:
    """Give units from `a` on the spread of those before them, and a mean of zero."""
    inputs: list[Tensor] = []
    hook = block.first.register_forward_pre_hook(lambda module, args: inputs.append(args[0].clone()))
    for picture in pictures:
        wide(picture)
    hook.remove()
    spread = torch.stack([block.first(x).std((0, 2, 3)) for x in inputs]).mean(0)
    block.first.weight[a:] *= (spread[:a].median() / spread[a:])[:, None, None, None]
    means = torch.stack([block.first(x).mean((0, 2, 3)) for x in inputs]).mean(0)
    block.first.bias[a:] = -means[a:]


def pictures_of(folder: Path, scale: int) -> list[Float[Tensor, "1 3 h w"]]:
    """Return LR pictures of a training folder: 16 by chance, always the same, at most 96 pixels a side."""
    packed = open_training_set(folder, scale=scale)
    chosen = np.random.default_rng(0).choice(len(packed), min(PICTURES, len(packed)), replace=False)
    return [
        torch.from_numpy(packed.lr[index][:SIDE, :SIDE].copy()).permute(2, 0, 1)[None].float() / 255
        for index in chosen
    ]


def main() -> None:
    """Parse the command line and write the wide network."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("narrow", help="name or file of the narrow model")
    parser.add_argument("config", type=Path, help="configuration of a training of the wide one")
    parser.add_argument("--train", type=Path, required=True, help="its training pictures")
    parser.add_argument("--out", type=Path, help="default: runs/wide_xSCALE.safetensors")
    args = parser.parse_args()
    config = read_config(args.config)[0].network
    assert isinstance(config, SRConfig)
    narrow = load_model(args.narrow, config.scale).model
    assert isinstance(narrow, SRNetwork)
    torch.manual_seed(7)
    wide = widen(narrow, config, pictures_of(args.train, config.scale))
    out = args.out or Path(f"runs/wide_x{config.scale}.safetensors")
    out.parent.mkdir(parents=True, exist_ok=True)
    save(wide, out)
    print(out)


if __name__ == "__main__":
    main()
