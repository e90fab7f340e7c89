"""OISR-RK3: residual blocks as steps of a third-order Runge-Kutta method (He et al. 2019, CVPR).

A residual block y + G(y) is Euler's step of the equation dy/dt = G(y). Kutta's third-order step is

    k1 = G1(y)    k2 = G2(y + k1 / 2)    k3 = G3(y - k1 + 2 k2)    y' = y + (k1 + 4 k2 + k3) / 6

Here the three G are different (a rectifier, then a convolution), and the coefficients 1/2, 2, -1, 4 and 1/6
are learned. Each rectifier has a slope for each channel, which starts from PyTorch's 1/4.

Letters:  B batch   C channels   H, W height and width of the LR image
"""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from enlca.network.layers import conv3x3
from enlca.peers.frame import FRAME, EDSRFrame, check_pixel_range, scale_of_frame
from enlca.peers.layout import Peer, Shapes
from enlca.peers.naming import Table, count, length, renamed

# In the order of the published scalars: of k1 in k2; of k2 and k1 in k3; of k2 in the sum; of the sum.
KUTTA = (1 / 2, 2.0, -1.0, 4.0, 1 / 6)


class RungeKuttaBlock(nn.Module):
    """One step of the third-order method, with learned coefficients (Sec. 3).

    Args:
        channels: of the features.
    """

    def __init__(self, channels: int):
        super().__init__()
        # A rectifier for each channel, before the convolution.
        self.functions = nn.ModuleList(
            nn.Sequential(nn.PReLU(channels), conv3x3(channels, channels)) for _ in range(3)
        )
        self.coefficients = nn.ParameterList(torch.tensor([value]) for value in KUTTA)

    def forward(self, y: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Return features of the same shape."""
        first, second, third = self.functions
        k1_in_k2, k2_in_k3, k1_in_k3, k2_in_sum, whole_sum = self.coefficients
        k1 = first(y)
        k2 = second(y + k1_in_k2 * k1)
        k3 = third(y + k2_in_k3 * k2 + k1_in_k3 * k1)
        return y + whole_sum * (k1 + k2_in_sum * k2 + k3)


class OISR(EDSRFrame):
    """Upscale by Runge-Kutta blocks in EDSR's frame.

    Args:
        scale: upscaling factor: 2, 3 or 4.
        channels: width of the feature maps.
        blocks: Runge-Kutta blocks, of three convolutions each.

    Raises:
        ValueError: another scale.
    """

    def __init__(self, *, scale: int = 4, channels: int = 256, blocks: int = 22):
        steps = (RungeKuttaBlock(channels) for _ in range(blocks))
        body = nn.Sequential(*steps, conv3x3(channels, channels))
        super().__init__(body, scale=scale, channels=channels)


# Published numbers start from 1.
NAMES: Table = [
    *((rf"body\.(\d+)\.functions\.{i}\.0\.(\w+)", rf"body.\1.relu{i + 1}.\2") for i in range(3)),
    *((rf"body\.(\d+)\.functions\.{i}\.1\.(\w+)", rf"body.\1.conv{i + 1}.\2") for i in range(3)),
    *((rf"body\.(\d+)\.coefficients\.{i}", rf"body.\1.scale{i + 1}") for i in range(5)),
    *FRAME,
]


def deduce(shapes: Shapes) -> dict[str, Any]:
    """Return the settings of a published OISR-RK3; raise ValueError if it is none."""
    channels = length(shapes, "head.0.weight")
    return {
        "scale": scale_of_frame(shapes, channels),
        "channels": channels,
        "blocks": count(shapes, "body.#.conv3.weight"),
    }


PEER = Peer(
    name="OISR",
    reference="He et al. 2019, CVPR",
    build=OISR,
    deduce=deduce,
    published=partial(renamed, table=NAMES),
    check=check_pixel_range,
)
