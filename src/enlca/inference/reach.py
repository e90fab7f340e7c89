"""How far the stages of a network reach: which features of a stage a part of the SR picture depends on.

A convolution needs a halo of neighbours, attention inside windows whole windows. A summary is of the whole
picture, but it is a few numbers: what is left of a global stage is the halo of its embedding.

Letters:  C channels   h, w height and width of a part of a picture
"""

from collections.abc import Callable
from fractions import Fraction
from math import ceil

from jaxtyping import Float
from torch import Tensor, nn

from enlca.attention.block import NonLocalBlock
from enlca.attention.window import WindowAttend
from enlca.inference.tiles import Region, crop
from enlca.network.sr import SRNetwork

# Returns the features of any part of a picture.
Features = Callable[[Region], Float[Tensor, "1 C h w"]]


def halo_of(layers: nn.Module) -> int:
    """Return the reach of a chain of convolutions and pixel shuffles, in pixels of its input."""
    halo, size = Fraction(0), 1
    for layer in layers.modules():
        if isinstance(layer, nn.Conv2d):
            halo += Fraction(layer.kernel_size[0] // 2, size)
        elif isinstance(layer, nn.PixelShuffle):
            size *= layer.upscale_factor
    return ceil(halo)


def convolved(features: Features, layers: nn.Module, whole: Region, *, scale: int = 1) -> Features:
    """Apply a chain of layers that upscales by `scale`."""
    halo = halo_of(layers)

    def at(region: Region) -> Tensor:
        wide = region.grown(halo, whole)
        return crop(layers(features(wide)), region.times(scale), wide.times(scale))

    return at


def windows_seen(attend: WindowAttend, region: Region, whole: Region) -> Region:
    """Return all windows that the windows of `region` see."""
    seen = region.aligned(attend.window, whole).grown(attend.halo, whole)
    return seen.aligned(attend.window, whole)


def needed(network: SRNetwork, own: Region, whole: Region) -> list[Region]:
    """Return, for each stage of the body, where its output is needed for the SR picture at `own`."""
    return _regions(network, own, whole)[1:]


def pixels_needed(network: nn.Module, own: Region, whole: Region) -> Region:
    """Return the LR pixels whose picture alone has the same SR picture at `own` as the whole one.

    That is `whole` where attention sums over the picture, and for networks that are not ours.
    """
    if not isinstance(network, SRNetwork) or network.config.attention not in ("none", "window"):
        return whole
    pixels = _regions(network, own, whole)[0].grown(halo_of(network.head), whole)
    # Windows are counted from the first pixel.
    return pixels.aligned(network.config.window, whole)


def _regions(network: SRNetwork, own: Region, whole: Region) -> list[Region]:
    """Return where the input of the body is needed for the SR picture at `own`, and each stage's output."""
    region, regions = own.grown(halo_of(network.upsampler) + halo_of(network.fuse), whole), []
    for stage in reversed(network.body):
        regions.append(region)
        if isinstance(stage, NonLocalBlock):
            if isinstance(stage.attend, WindowAttend):
                region = windows_seen(stage.attend, region, whole)
            region = region.grown(network.config.embed_kernel // 2, whole)
        else:
            region = region.grown(halo_of(stage), whole)
    return [region, *reversed(regions)]
