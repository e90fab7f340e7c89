"""The bilinear enlargement of a part of a picture, with the rounding errors of the whole picture's.

PyTorch finds the place of an enlarged pixel, (x + 1/2) / S - 1/2, in float32. For S = 3 that is rounded: at
x = 60,000 the place is wrong by 1e-3 pixels, and so is the result, by 1e-3 of the contrast there. A tile that
counts from its own corner is more exact, and therefore not equal. So the weights are taken from PyTorch
itself, for a row and a column of the whole picture: each pixel is a mean of its nearest small pixel and the
two beside it, which differ modulo 3, so the weight of a pixel is what became of an indicator of its class.

Letters:  S scale   L length of a row or column of the small picture, SL of the large one
         n length of a part of the small one   l length of that part enlarged   X, Y the axes before and after
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate, one_hot


def tap_weights(length: int, scale: int, *, like: Tensor) -> Float[Tensor, "3 SL"]:
    """For each large pixel of a row: how much its neighbours with index 0, 1 and 2 modulo 3 count."""
    classes = one_hot(torch.arange(length, device=like.device) % 3, 3).to(like.dtype)
    row = classes.mT[None, :, None]
    enlarged = interpolate(row, scale_factor=(1.0, float(scale)), mode="bilinear", align_corners=False)
    return enlarged[0, :, 0]


def enlarge_axis(
    part: Float[Tensor, "*X n Y"],
    weights: Float[Tensor, "3 SL"],
    *,
    scale: int,
    owned: tuple[int, int],
    held: tuple[int, int],
) -> Float[Tensor, "*X l Y"]:
    """Enlarges the last axis but one: `part` holds the pixels `held`, those of `owned` are wanted.

    Both are first and last + 1; `held` is one pixel wider on each side where the picture is.
    """
    large = torch.arange(scale * owned[0], scale * owned[1], device=part.device)
    nearest = large // scale
    taps = (nearest + step for step in (-1, 0, 1))
    first, *others = (
        (part.index_select(-2, tap.clamp(held[0], held[1] - 1) - held[0]), weights[tap % 3, large, None])
        for tap in taps
    )
    total = first[0].mul_(first[1])
    for pixels, weight in others:
        total.addcmul_(pixels, weight)
    return total
