"""Attention maps of one position: computed by several attentions, and drawn on a logarithmic colour scale.

The scale is symmetric: its middle is the average weight, 1/N, and its ends are REACH times less and more. The
colours can be told apart by colour-blind people, too.

Letters:  N = H W positions of the LR image   H, W its height and width   h, w those of the drawing
         M random features   D embedding channels
"""

import base64
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from enlca.analysis.approximation import attend_with
from enlca.analysis.correlation import (
    Sparsity,
    View,
    exact_weights,
    linear_weights,
    redraw_spread,
    sparse_weights,
    sparsity,
    window_weights,
)
from enlca.attention.features import orthogonal_gaussian
from enlca.attention.linear import LinearAttend
from enlca.attention.lsh import LSHAttend
from enlca.attention.window import WindowAttend
from enlca.network.sr import SRConfig

# Of the maps by kind of attention, and what the name of the network's own ends in.
NAMES = {
    "exact": "Exact softmax",
    "window": "Windows",
    "linear": "ENLA",
    "without k": "Exact without k",
    "lsh": "NLSA",
}
APPLIED = ", as applied"
# Redraws of F for the spread: as many as compute about FEATURES_DRAWN features of positions, within limits.
FEWEST_DRAWS, DRAWS = 3, 8
FEATURES_DRAWN = 8 * 64 * 256**2
SPREAD_SEED = 0
# The first maps are quick; NLSA's sorting and the redraws take most of the time.
N_QUICK = 3

# Each 17th colour of viridis (van der Walt and Smith 2015, CC0); linear between them is close enough.
_COLOURS = (
    "440154 481a6c 472f7d 414487 39568c 31688e 2a788e 23888e "
    "1f988b 22a884 35b779 54c568 7ad151 a5db36 d2e21b fde725"
)
# Longest side of a drawing, in pixels.
LONGEST = 512
# The same for all maps, so that they can be compared.
REACH = 100


@dataclass(frozen=True)
class MapSettings:
    """Settings of the attentions.

    Attributes:
        amplification: the paper's k; None is the network's own.
        n_features: the paper's m; None is the network's own.
        redraw: number of the draw of F; 0 is the network's own F, if m is the network's own, too.
    """

    amplification: float | None = None
    n_features: int | None = None
    redraw: int = 0


@dataclass(frozen=True)
class AttentionMap:
    """The weights of all positions for one query, by one kind of attention.

    Attributes:
        name: of the attention.
        about: a short description.
        weights: of each position; for the spread, standard deviations.
        sparsity: of the weights; None for the spread.
    """

    name: str
    about: str
    weights: Float[Tensor, "H W"]
    sparsity: Sparsity | None = None


def has_amplification(config: SRConfig) -> bool:
    """Return whether k is a setting of the network: NLSA learns the length of its queries instead."""
    return config.attention in ("linear", "exact", "window")


def attention_maps(
    view: View, config: SRConfig, row: int, column: int, settings: MapSettings
) -> Iterator[AttentionMap]:
    """Yield all maps of a position, the N_QUICK quick ones first.

    That of the network's own attention is called "..., as applied".

    Raises:
        ValueError: outside the picture, or settings that no attention has.
    """
    at = view.position(row, column)
    own = config.amplification
    amplified, k_text = view, f"k = {own:g}"
    if not has_amplification(config):
        k_text = "queries of their own length"
    elif settings.amplification is not None and settings.amplification != own:
        amplified = view.amplified(settings.amplification / own)
        k_text = f"k = {settings.amplification:g}"
    m = settings.n_features or config.n_features
    own_features: dict[str, Any] = {}
    if isinstance(view.attend, LinearAttend):
        own_features = {"features": view.attend.features, "floor": view.attend.floor}

    def described(kind: str, about: str, weights: Float[Tensor, "N"]) -> AttentionMap:
        name = NAMES[kind] + (APPLIED if kind == config.attention else "")
        return AttentionMap(name, about, weights.cpu().view(view.height, view.width), sparsity(weights))

    yield described("exact", f"what the paper draws, {k_text}", exact_weights(amplified, at))
    if isinstance(view.attend, WindowAttend):
        side, halo = view.attend.window, view.attend.halo
        about = f"softmax in {side} x {side} positions and {halo} around them, {k_text}"
        yield described("window", about, window_weights(amplified, at, view.attend))
    f, of_f = _projection(view, m, settings.redraw)
    of_f = f"{config.features} features, {of_f}" if config.features != "positive" else of_f
    enla = linear_weights(amplified, at, attend_with(f, **own_features))
    yield described("linear", f"m = {m}, {of_f}", enla)
    if has_amplification(config):
        flat = exact_weights(view.amplified(1 / own), at)
        yield described("without k", "unit vectors, k = 1", flat)
    lsh = view.attend if isinstance(view.attend, LSHAttend) else LSHAttend()
    yield described("lsh", "softmax among those that hash alike", sparse_weights(amplified, at, lsh))
    draws = max(FEWEST_DRAWS, min(DRAWS, FEATURES_DRAWN // (m * view.height * view.width)))
    generator = torch.Generator().manual_seed(SPREAD_SEED)
    spread = redraw_spread(amplified, at, n_features=m, draws=draws, generator=generator, **own_features)
    about = f"standard deviation over {draws} redraws of F"
    yield AttentionMap("ENLA's spread", about, spread.deviation.cpu().view(view.height, view.width))


def _projection(view: View, m: int, redraw: int) -> tuple[Float[Tensor, "M D"], str]:
    """Return F and its description."""
    own = view.attend.projection if isinstance(view.attend, LinearAttend) else None
    if own is not None and len(own) == m and redraw == 0:
        return own, "the network's own F"
    generator = torch.Generator().manual_seed(redraw)
    drawn = orthogonal_gaussian(m, len(view.q), generator=generator).to(view.q)
    return drawn, f"F redrawn, no. {redraw}" if redraw else "F drawn for this"


def palette() -> UInt8[np.ndarray, "256 3"]:
    """Return viridis, from dark (small weights) to bright (large weights)."""
    stops = np.array([[int(code[i : i + 2], 16) for i in (0, 2, 4)] for code in _COLOURS.split()])
    at = np.linspace(0, 255, len(stops))
    channels = [np.interp(np.arange(256), at, stops[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=1).round().astype(np.uint8)


def shrink(weights: Float[Tensor, "H W"]) -> Float[Tensor, "h w"]:
    """Average rectangles of weights until no side is longer than LONGEST."""
    height, width = weights.shape
    factor = max(1.0, max(height, width) / LONGEST)
    if factor == 1:
        return weights
    size = (max(1, round(height / factor)), max(1, round(width / factor)))
    return adaptive_avg_pool2d(weights[None], size)[0]


def levels(weights: Float[Tensor, "H W"]) -> UInt8[np.ndarray, "h w"]:
    """Return palette indices: 0 for 1/REACH times the average or less, 255 for REACH times or more."""
    times = shrink(weights).double() * weights.numel()
    position = times.clamp_min(1 / REACH).log10() / (2 * math.log10(REACH)) + 0.5
    return (position * 255).round().clamp(0, 255).to(torch.uint8).numpy()


def png(weights: Float[Tensor, "H W"]) -> bytes:
    """Draw a map as a PNG with a palette."""
    from PIL import Image

    image = Image.fromarray(levels(weights))
    image.putpalette(palette().tobytes())
    return encode_png(image)


def encode_png(image: Any, **info: Any) -> bytes:
    """Encode a Pillow image as a PNG with little compression, for speed; `info` as in `Image.save`."""
    file = io.BytesIO()
    image.save(file, format="PNG", compress_level=3, **info)
    return file.getvalue()


def data_uri(content: bytes) -> str:
    """Return a PNG as an address that contains it."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def gradient() -> str:
    """Return the colours as CSS, for the legend."""
    return f"linear-gradient(to right, {', '.join('#' + code for code in _COLOURS.split())})"
