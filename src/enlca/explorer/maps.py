"""Weights as a picture: times the average, on a logarithmic scale, in colours for colour-blind people, too.

The scale is symmetric: the average weight, 1/N, is its middle, and the ends are REACH times less and more.

Letters:  H, W height and width   h, w those of what is shown   C colours
"""

import base64
import io
import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

# Each 17th colour of viridis (van der Walt and Smith 2015, CC0); between them it is straight enough.
_STOPS = (
    "440154 481a6c 472f7d 414487 39568c 31688e 2a788e 23888e "
    "1f988b 22a884 35b779 54c568 7ad151 a5db36 d2e21b fde725"
)
# Sides of what is shown, at most; weights of what falls together are averaged.
LONGEST = 512
# The ends of the scale: so many times less and more than the average; always the same, so all maps compare.
REACH = 100


def palette() -> UInt8[np.ndarray, "256 3"]:
    """Viridis, from dark (little) to bright (much)."""
    stops = np.array([[int(code[i : i + 2], 16) for i in (0, 2, 4)] for code in _STOPS.split()])
    at = np.linspace(0, 255, len(stops))
    channels = [np.interp(np.arange(256), at, stops[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=1).round().astype(np.uint8)


def shown(weights: Float[Tensor, "H W"]) -> Float[Tensor, "h w"]:
    """The weights at the size that is drawn: means of rectangles where there are too many."""
    height, width = weights.shape
    shrink = max(1.0, max(height, width) / LONGEST)
    if shrink == 1:
        return weights
    size = (max(1, round(height / shrink)), max(1, round(width / shrink)))
    return adaptive_avg_pool2d(weights[None], size)[0]


def levels(weights: Float[Tensor, "H W"]) -> UInt8[np.ndarray, "h w"]:
    """0 for 1/REACH times the average and less, 255 for REACH times the average and more."""
    times = shown(weights).double() * weights.numel()
    position = times.clamp_min(1 / REACH).log10() / (2 * math.log10(REACH)) + 0.5
    return (position * 255).round().clamp(0, 255).to(torch.uint8).numpy()


def png(weights: Float[Tensor, "H W"]) -> bytes:
    """A map as a PNG with a palette."""
    from PIL import Image

    image = Image.fromarray(levels(weights))
    image.putpalette(palette().tobytes())
    return encoded(image)


def encoded(image: Any, **about: Any) -> bytes:
    """A picture of Pillow's as a PNG: quickly, as it is seen once."""
    file = io.BytesIO()
    image.save(file, format="PNG", compress_level=3, **about)
    return file.getvalue()


def data_uri(content: bytes) -> str:
    """A PNG as an address, so that it needs no file."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def gradient() -> str:
    """The colours as CSS, for the legend."""
    return f"linear-gradient(to right, {', '.join('#' + code for code in _STOPS.split())})"
