"""Methods that upscale luma alone and leave colour to bicubic interpolation, and that interpolation.

Luma is MATLAB's Y and the interpolation is MATLAB's `imresize` for real numbers, with which these methods
were trained and measured. It is linear, and a grey of any level has the same Cb and Cr, so that nothing has
to be converted to YCbCr and back: the difference of the two lumas is added to each of R, G and B.

Letters:  B batch   C channels   H, W height and width of the LR image   S scale   K kernel size
"""

from fractions import Fraction
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, pixel_shuffle

from enlca.attention.ops import autocast_disabled
from enlca.image.resize import contributions
from enlca.network.interface import SRModel

# ITU-R BT.601, studio swing: of 255 levels, black is 16 and white 235.
RED, GREEN, BLUE, BLACK, SWING = 65.481 / 255, 128.553 / 255, 24.966 / 255, 16 / 255, 219 / 255


class LumaModel(SRModel):
    """A method that computes luma; a subclass implements `upscale_luma`."""

    half_safe = False

    def forward(self, lr: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 SH SW"]:
        """Return the SR images."""
        bicubic = resize(lr, Fraction(self.scale))
        smooth = luma(bicubic)
        return bicubic + (self.upscale_luma(luma(lr), smooth) - smooth) / SWING

    def upscale_luma(
        self, lr: Float[Tensor, "B 1 H W"], bicubic: Float[Tensor, "B 1 SH SW"]
    ) -> Float[Tensor, "B 1 SH SW"]:
        """Return the SR luma, from the LR luma or its bicubic interpolation; both from 16/255 to 235/255."""
        raise NotImplementedError


def luma(rgb: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 1 H W"]:
    """Return Y of images in [0, 1], from 16/255 to 235/255 (MATLAB's `rgb2ycbcr`)."""
    red, green, blue = rgb.split(1, dim=1)
    return RED * red + GREEN * green + BLUE * blue + BLACK


def resize(x: Float[Tensor, "B C H W"], scale: Fraction) -> Float[Tensor, "B C h w"]:
    """Resize both axes by `scale`, as MATLAB's `imresize(x, scale, 'bicubic')` does with real numbers.

    The weights of outputs repeat with the period of the scale's numerator: one convolution computes a period,
    and a pixel shuffle interleaves them.

    Raises:
        ValueError: a side is not a multiple of the scale's denominator.
    """
    height, width = x.shape[-2:]
    step, outputs = scale.denominator, scale.numerator
    if height % step or width % step:
        raise ValueError(f"sides must be multiples of {step} to resize by {scale}, got {height} x {width}")
    first, table = _period(scale)
    weight = torch.tensor(table, dtype=x.dtype, device=x.device)
    size = weight.shape[1]
    kernel = torch.einsum("ik,jl->ijkl", weight, weight).reshape(outputs**2, 1, size, size)
    for axis in (-2, -1):
        x = _mirrored(x, axis, before=-first, after=first + size - step)
    with autocast_disabled(x):
        resized = conv2d(x.flatten(0, 1).unsqueeze(1), kernel, stride=step)
    return pixel_shuffle(resized, outputs).unflatten(0, x.shape[:2]).squeeze(2)


@lru_cache
def _period(scale: Fraction) -> tuple[int, list[list[float]]]:
    """Return the first input that a period of outputs depends on, and the weights of all: rows of K."""
    # The outputs of the fifth period of an axis that is long enough: no edge is near.
    period = slice(4 * scale.numerator, 5 * scale.numerator)
    index, weights = (x[period] for x in contributions(9 * scale.denominator, scale))
    index = index - 4 * scale.denominator
    used = index[weights != 0]
    first, last = int(used.min()), int(used.max())
    rows = []
    for places, values in zip(index.tolist(), weights.tolist(), strict=True):
        at = dict(zip(places, values, strict=True))
        rows.append([at.get(place, 0.0) for place in range(first, last + 1)])
    return first, rows


def _mirrored(x: Tensor, axis: int, *, before: int, after: int) -> Tensor:
    """Pad an axis by its mirror image, the edge pixel repeated: c b a | a b c | c b a."""
    size = x.shape[axis]
    index = torch.arange(-before, size + after, device=x.device) % (2 * size)
    return x.index_select(axis, torch.where(index < size, index, 2 * size - 1 - index))
