"""Self-ensemble: the mean over the 8 symmetries of a square.  (Timofte et al. 2016, EDSR's "+")

Letters:  B batch   H, W height and width   S scale
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Forward = Callable[[Float[Tensor, "B 3 H W"]], Float[Tensor, "B 3 SH SW"]]


def turned(picture: Float[Tensor, "B 3 H W"], move: int) -> Float[Tensor, "B 3 h w"]:
    """Symmetry number `move`: mirrored if `move & 4`, then `move & 3` quarter turns."""
    return torch.rot90(picture.flip(-1) if move & 4 else picture, move & 3, dims=(-2, -1))


def turned_back(picture: Float[Tensor, "B 3 H W"], move: int) -> Float[Tensor, "B 3 h w"]:
    """The inverse of `turned`."""
    upright = torch.rot90(picture, -(move & 3), dims=(-2, -1))
    return upright.flip(-1) if move & 4 else upright


def self_ensemble(forward: Forward) -> Forward:
    """`forward` averaged over 8 views of the picture, before any rounding. 8 times the work."""

    def run(lr: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 SH SW"]:
        total = sum(turned_back(forward(turned(lr, move)), move) for move in range(8))
        return torch.as_tensor(total) / 8

    return run
