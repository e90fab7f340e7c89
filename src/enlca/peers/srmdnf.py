"""SRMDNF: convolutions that are told the blur kernel (Zhang, Zuo and Zhang 2018, CVPR), without noise.

The kernel, 15 x 15, is a point in the space of the 15 principal components of Gaussian kernels; each of its
coordinates is a constant map beside R, G and B. For bicubic LR images without blur it is a single 1.

Letters:  B batch   H, W height and width of the LR image   S scale
"""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from enlca.network.interface import SRModel
from enlca.network.layers import conv3x3
from enlca.peers.layout import Peer, Shapes
from enlca.peers.naming import Table, count, length, renamed

# The kernel that is 1 in its centre, in the components that the authors published: `P[:, 112]` of
# srmd_pca_matlab.mat (cszn/KAIR, MIT licence). The paper does not give the components.
NO_BLUR = (
    -1.1236096e-08, -1.3689916e-08, 1.8563796e-02, 2.8606689e-08, 3.3529297e-02,
    8.3727294e-08, -2.5442401e-07, -3.1623498e-02, -1.3516925e-02, -1.1046609e-08,
    3.8475379e-02, 3.7946574e-08, -2.4491675e-01, -8.0221349e-01, -5.4054976e-01,
)  # fmt: skip


class SRMDNF(SRModel):
    """Upscale by convolutions at LR size, all but the last rectified, and a pixel shuffle.

    Args:
        scale: upscaling factor: 2, 3 or 4.
        channels: width of the feature maps.
        depth: number of convolutions.

    Raises:
        ValueError: for invalid values.
    """

    # The image itself goes through the convolutions: there is no skip connection.
    half_safe = False
    kernel: Tensor

    def __init__(self, *, scale: int = 4, channels: int = 128, depth: int = 12):
        super().__init__()
        if scale not in (2, 3, 4):
            raise ValueError(f"scale must be one of 2, 3, 4; got {scale!r}")
        if depth < 2:
            raise ValueError(f"depth must be at least 2, got {depth}")
        self.scale = scale
        self.tile_overlap = depth
        self.register_buffer("kernel", torch.tensor(NO_BLUR).view(1, -1, 1, 1), persistent=False)
        layers = [conv3x3(3 + len(NO_BLUR), channels), nn.ReLU(inplace=True)]
        for _ in range(depth - 2):
            layers += [conv3x3(channels, channels), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, conv3x3(channels, 3 * scale**2), nn.PixelShuffle(scale))

    def forward(self, lr: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 SH SW"]:
        """Return the SR images."""
        batch, _, height, width = lr.shape
        maps = self.kernel.expand(batch, -1, height, width).to(lr.dtype)
        return self.layers(torch.cat([lr, maps], dim=1))


NAMES: Table = [(r"layers\.(.+)", r"model.\1")]


def deduce(shapes: Shapes) -> dict[str, Any]:
    """Return the settings of a published SRMDNF; raise ValueError if it is none."""
    last = count(shapes, "model.#.weight") - 1
    rows, inputs = length(shapes, f"model.{last}.weight"), length(shapes, "model.0.weight", axis=1)
    if inputs != 3 + len(NO_BLUR):
        raise ValueError(f"its first convolution reads {inputs} maps instead of {3 + len(NO_BLUR)}")
    scale = next((s for s in (2, 3, 4) if 3 * s**2 == rows), None)
    if scale is None:
        raise ValueError(f"its last convolution makes {rows} maps")
    return {"scale": scale, "channels": length(shapes, "model.0.weight"), "depth": last // 2 + 1}


PEER = Peer(
    name="SRMDNF",
    reference="Zhang et al. 2018, CVPR",
    build=SRMDNF,
    deduce=deduce,
    published=partial(renamed, table=NAMES),
)
