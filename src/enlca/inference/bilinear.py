"""Bilinear upscaling of a part of a picture, with the rounding errors of upscaling all of it.

PyTorch computes the position of an SR pixel, (x + 1/2) / S - 1/2, in float32. At S = 3 and x = 60,000 the
position is wrong by 1e-3 pixels, and the result by 1e-3 of the contrast there. A tile that counts from its
own corner is more exact, and therefore not equal. So the weights are taken from PyTorch itself, for a row and
a column of the whole picture: each SR pixel is a mean of its nearest LR pixel and the two beside it, which
differ modulo 3, so upscaling an indicator of each class modulo 3 gives the weights.

Letters:  C channels   h, w height and width of a part of a picture   S scale
         L length of a row or column of the LR picture, SL of the SR picture
         n length of a part of the LR picture   l that part upscaled   X the leading axes   Y the last axis
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate, one_hot

from enlca.inference.reach import Features
from enlca.inference.tiles import Region


def bilinear(picture: Features, whole: Region, *, scale: int, like: Tensor) -> Features:
    """Return the function that upscales the picture at a region of it.

    Args:
        picture: returns the pixels of a region.
        whole: the region of the whole picture.
        scale: the factor, S.
        like: a tensor of the device and type to compute in.
    """
    of_columns, of_rows = (tap_weights(side, scale, like=like) for side in (whole.width, whole.height))

    def at(region: Region) -> Float[Tensor, "1 C h w"]:
        wide = region.grown(1, whole)
        columns = {"owned": (region.left, region.right), "held": (wide.left, wide.right)}
        rows = {"owned": (region.top, region.bottom), "held": (wide.top, wide.bottom)}
        # Columns first, while there are few rows: then the SR part is written in order.
        broad = upscale_axis(picture(wide).mT, of_columns, scale=scale, **columns).mT
        return upscale_axis(broad, of_rows, scale=scale, **rows)

    return at


def tap_weights(length: int, scale: int, *, like: Tensor) -> Float[Tensor, "3 SL"]:
    """Return the weights of the neighbours with index 0, 1 and 2 modulo 3, for each SR pixel of a row."""
    classes = one_hot(torch.arange(length, device=like.device) % 3, 3).to(like.dtype)
    row = classes.mT[None, :, None]
    upscaled = interpolate(row, scale_factor=(1.0, float(scale)), mode="bilinear", align_corners=False)
    return upscaled[0, :, 0]


def upscale_axis(
    part: Float[Tensor, "*X n Y"],
    weights: Float[Tensor, "3 SL"],
    *,
    scale: int,
    owned: tuple[int, int],
    held: tuple[int, int],
) -> Float[Tensor, "*X l Y"]:
    """Upscale the last axis but one: `part` has the pixels `held`, the result those of `owned`.

    Both are first and last + 1; `held` is one pixel wider on each side, except at the picture's border.
    """
    sr = torch.arange(scale * owned[0], scale * owned[1], device=part.device)
    nearest = sr // scale
    taps = (nearest + step for step in (-1, 0, 1))
    first, *others = (
        (part.index_select(-2, tap.clamp(held[0], held[1] - 1) - held[0]), weights[tap % 3, sr, None])
        for tap in taps
    )
    total = first[0].mul_(first[1])
    for pixels, weight in others:
        total.addcmul_(pixels, weight)
    return total
