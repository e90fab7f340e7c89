"""SRVGGNetCompact: plain convolutions at LR size, added to the nearest LR pixel.

The small network of Real-ESRGAN (Wang et al. 2021, ICCVW, and its published code), which is not in Table 1.
Its weights were trained on degraded photographs with a perceptual and an adversarial loss, so that it invents
texture: PSNR alone does not do it justice.

Letters:  B batch   H, W height and width of the LR image   S scale
"""

from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from enlca.network.interface import SRModel
from enlca.network.layers import conv3x3
from enlca.peers.layout import Peer, Shapes
from enlca.peers.naming import count, length, renamed


class SRVGGNetCompact(SRModel):
    """Add a pixel shuffle of convolutions, each but the last followed by a PReLU, to the enlarged LR image.

    Args:
        scale: upscaling factor: 2, 3 or 4.
        channels: width of the feature maps.
        depth: number of convolutions between the first and the last.

    Raises:
        ValueError: for invalid values.
    """

    def __init__(self, *, scale: int = 4, channels: int = 64, depth: int = 32):
        super().__init__()
        if scale not in (2, 3, 4):
            raise ValueError(f"scale must be one of 2, 3, 4; got {scale!r}")
        if depth < 0:
            raise ValueError(f"depth must be at least 0, got {depth}")
        self.scale = scale
        self.tile_overlap = depth + 2
        # Called `body`, as published.
        layers = [conv3x3(3, channels), nn.PReLU(channels)]
        for _ in range(depth):
            layers += [conv3x3(channels, channels), nn.PReLU(channels)]
        self.body = nn.Sequential(*layers, conv3x3(channels, 3 * scale**2), nn.PixelShuffle(scale))

    def forward(self, lr: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 SH SW"]:
        """Return the SR images."""
        return self.body(lr) + interpolate(lr, scale_factor=float(self.scale), mode="nearest")


def deduce(shapes: Shapes) -> dict[str, Any]:
    """Return the settings of a published SRVGGNetCompact; raise ValueError if it is none."""
    last = count(shapes, "body.#.weight") - 1
    channels = length(shapes, "body.1.weight")
    if len(shapes["body.1.weight"]) != 1:
        raise ValueError("its second layer is no PReLU")
    if (inputs := length(shapes, "body.0.weight", axis=1)) != 3:
        raise ValueError(f"its first convolution reads {inputs} channels instead of 3")
    rows = length(shapes, f"body.{last}.weight")
    scale = next((s for s in (2, 3, 4) if 3 * s**2 == rows), None)
    if scale is None or last % 2:
        raise ValueError(f"its last convolution, body.{last}, makes {rows} maps")
    return {"scale": scale, "channels": channels, "depth": last // 2 - 1}


PEER = Peer(
    name="SRVGGNetCompact",
    reference="Wang et al. 2021, ICCVW",
    build=SRVGGNetCompact,
    deduce=deduce,
    published=partial(renamed, table=[]),
)
