"""The frame that RCAN, OISR, SAN and others took from EDSR (Lim et al. 2017), around a body of their own.

    255 LR --mean shift--> head --> body, + head --> upsampler --> to RGB --mean shift--> 255 SR

Pixels are 0..255 inside. The papers do not say so, but it matters as soon as there are weights: biases and
rectifiers make a network depend on the range. It is that of the code in which these methods were published.

Letters:  B batch   C channels   H, W height and width of the LR image   S scale
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d

from enlca.attention.ops import autocast_disabled
from enlca.network.interface import SRModel
from enlca.network.layers import conv3x3, stepwise_upsampler
from enlca.network.sr import DIV2K_MEAN, SCALES
from enlca.peers.layout import Shapes
from enlca.peers.naming import Table, length

PIXEL_RANGE = 255.0

# Ours -> published; the mean shifts have the same name.
FRAME: Table = [
    (r"head\.(\w+)", r"head.0.\1"),
    (r"upsampler\.(\d+)\.(\w+)", r"tail.0.\1.\2"),
    (r"to_rgb\.(\w+)", r"tail.1.\1"),
]


class MeanShift(nn.Module):
    """weight @ RGB + bias, not trained: takes the mean colour of DIV2K from a picture, or puts it back.

    A published tensor like any other: a file's own numbers are used. In the weights' type whatever autocast
    says: in 16 bits 0..255 would be rounded to whole levels.

    Args:
        sign: -1 subtracts the mean, 1 adds it.
    """

    def __init__(self, sign: int):
        super().__init__()
        bias = sign * PIXEL_RANGE * torch.tensor(DIV2K_MEAN)
        self.weight = nn.Parameter(torch.eye(3).view(3, 3, 1, 1), requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)

    def forward(self, x: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
        """Return the shifted pictures."""
        with autocast_disabled(x):
            return conv2d(x.to(self.weight.dtype), self.weight, self.bias)


class Residual(nn.Sequential):
    """x + the layers, one after the other."""

    def forward(self, input: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Return features of the same shape."""
        return input + super().forward(input)


class EDSRFrame(SRModel):
    """A body of any kind at LR size, between a convolution and an upsampler, with a long skip connection.

    Args:
        body: B C H W -> B C H W.
        scale: upscaling factor: 2, 3 or 4.
        channels: width of the feature maps.

    Raises:
        ValueError: another scale.
    """

    def __init__(self, body: nn.Module, *, scale: int, channels: int):
        super().__init__()
        check_scale(scale)
        self.scale = scale
        self.sub_mean = MeanShift(-1)
        self.head = conv3x3(3, channels)
        self.body = body
        upsampler = stepwise_upsampler(scale, channels)
        self.upsampler, self.to_rgb = upsampler[:-1], upsampler[-1]
        self.add_mean = MeanShift(1)

    def forward(self, lr: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 SH SW"]:
        """Return the SR images."""
        head = self.head(self.sub_mean(PIXEL_RANGE * lr))
        sr = self.to_rgb(self.upsampler(head + self.body(head)))
        return self.add_mean(sr) / PIXEL_RANGE


def check_scale(scale: int) -> None:
    """Raise ValueError for a scale that these methods do not have."""
    if scale not in SCALES:
        raise ValueError(f"scale must be one of {', '.join(map(str, SCALES))}; got {scale!r}")


def scale_of_frame(shapes: Shapes, channels: int) -> int:
    """Return the scale of a published EDSR upsampler.

    Raises:
        ValueError: there is none, or one of another scale.
    """
    return scale_of_steps(shapes, first="tail.0.0.weight", second="tail.0.2.weight", channels=channels)


def scale_of_steps(shapes: Shapes, *, first: str, second: str, channels: int) -> int:
    """Return 4 if there are two steps of an upsampler, else what the first one's output channels say.

    Raises:
        ValueError: the first one is missing, or has another number of output channels.
    """
    rows = length(shapes, first)
    if rows == 9 * channels:
        return 3
    if rows == 4 * channels:
        return 4 if second in shapes else 2
    raise ValueError(f"it has {first} of shape {list(shapes[first])}, which is no step of an upsampler")


def check_pixel_range(model: SRModel) -> None:
    """Raise ValueError if the mean shift of `model` is one for pixels in [0, 1]."""
    shift = model.get_submodule("sub_mean")
    assert isinstance(shift, MeanShift)
    identity = torch.allclose(shift.weight, torch.eye(3, device=shift.weight.device).view(3, 3, 1, 1))
    if identity and 0 < shift.bias.abs().max() <= 1:
        numbers = ", ".join(f"{x:.4g}" for x in shift.bias.tolist())
        raise ValueError(f"sub_mean.bias ({numbers}) is for pixels in [0, 1], and {model.name} takes 0..255")
