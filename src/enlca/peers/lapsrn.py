"""LapSRN: a Laplacian pyramid of residual luma images, each of twice the size (Lai et al. 2017, CVPR).

Each level doubles the features and the image by transposed convolutions, and adds a residual image that it
reads from the features.

Letters:  B batch   C channels   H, W height and width at a level   S scale
"""

import re
from fractions import Fraction
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from enlca.network.interface import SRModel
from enlca.network.layers import conv3x3
from enlca.peers.layout import Peer, Shapes
from enlca.peers.luma import LumaModel, resize
from enlca.peers.naming import length

LEAK = 0.2
# Levels of each scale. There is no network for x3: an x4 image is downscaled (Sec. 4.3).
LEVELS = {2: 1, 3: 2, 4: 2, 8: 3}


class Level(nn.Module):
    """Double the size of features and image.

    Args:
        channels: of the features.
        depth: convolutions before the features are doubled.
    """

    def __init__(self, channels: int, depth: int):
        super().__init__()
        self.convs = nn.ModuleList(conv3x3(channels, channels) for _ in range(depth))
        self.upscale = nn.ConvTranspose2d(channels, channels, kernel_size=3, stride=2)
        self.residual = conv3x3(channels, 1)
        self.upscale_image = nn.ConvTranspose2d(1, 1, kernel_size=4, stride=2, padding=1, bias=False)

    def forward(
        self, x: Float[Tensor, "B C H W"], image: Float[Tensor, "B 1 H W"]
    ) -> tuple[Float[Tensor, "B C _ _"], Float[Tensor, "B 1 _ _"]]:
        """Return features and image of twice the height and width."""
        for conv in self.convs:
            x = leaky_relu(conv(x), LEAK)
        # 2H + 1 rows come out; the published network drops the last row and column.
        x = leaky_relu(self.upscale(x)[..., :-1, :-1], LEAK)
        return x, self.upscale_image(image) + self.residual(x)


class LapSRN(LumaModel):
    """Upscale luma level by level.

    Args:
        scale: upscaling factor: 2, 3, 4 or 8.
        channels: width of the feature maps.
        depth: convolutions of a level: 10 in the published networks for x2 and x4, 5 in that for x8.
        levels: how often the size is doubled; must be that of the scale, which is the default.

    Raises:
        ValueError: another scale, or levels of another one.
    """

    tile_overlap = 20

    def __init__(self, *, scale: int = 4, channels: int = 64, depth: int = 10, levels: int | None = None):
        super().__init__()
        if scale not in LEVELS:
            raise ValueError(f"scale must be one of {', '.join(map(str, LEVELS))}; got {scale!r}")
        if levels not in (None, LEVELS[scale]):
            raise ValueError(f"x{scale} doubles the size {LEVELS[scale]} times, not {levels}")
        self.scale = scale
        self.input = conv3x3(1, channels)
        self.levels = nn.ModuleList(Level(channels, depth) for _ in range(LEVELS[scale]))

    def upscale_luma(
        self, lr: Float[Tensor, "B 1 H W"], bicubic: Float[Tensor, "B 1 SH SW"]
    ) -> Float[Tensor, "B 1 SH SW"]:
        """Return the SR luma."""
        x, image = leaky_relu(self.input(lr), LEAK), lr
        for level in self.levels:
            x, image = level(x, image)
        rest = Fraction(self.scale, 2 ** len(self.levels))
        return image if rest == 1 else resize(image, rest)


def published(model: SRModel) -> dict[str, str]:
    """Return the published names, which end in `_f` (filter) and `_b`. Their level1 is the last one."""
    assert isinstance(model, LapSRN)
    names = {}
    for ours in model.state_dict():
        *place, kind = ours.split(".")
        if place[0] == "levels":
            level, part = len(model.levels) - int(place[1]), ".".join(place[2:])
            theirs = f"level{level}_{_part(part)}"
        else:
            theirs = "input_conv"
        names[ours] = f"{theirs}_{'f' if kind == 'weight' else 'b'}"
    return names


def _part(part: str) -> str:
    if match := re.fullmatch(r"convs\.(\d+)", part):
        return f"conv{int(match[1]) + 1}"
    return {"upscale": "upconv", "residual": "residual_conv", "upscale_image": "img_up"}[part]


def deduce(shapes: Shapes) -> dict[str, Any]:
    """Return the settings of a published LapSRN; raise ValueError if it is none."""
    channels = length(shapes, "input_conv_f")
    levels = 1
    while f"level{levels + 1}_upconv_f" in shapes:
        levels += 1
    depth = 0
    while f"level1_conv{depth + 1}_f" in shapes:
        depth += 1
    scales = [scale for scale, number in LEVELS.items() if number == levels]
    if not scales:
        raise ValueError(f"it has {levels} levels")
    sizes = {"channels": channels, "depth": depth, "levels": levels}
    # Two levels serve x4 and x3.
    return sizes if len(scales) > 1 else sizes | {"scale": scales[0]}


PEER = Peer(
    name="LapSRN", reference="Lai et al. 2017, CVPR", build=LapSRN, deduce=deduce, published=published
)
