"""NLRN: a recurrent network whose state holds the scores of attention, too (Liu et al. 2018, NeurIPS).

    state:  features x, scores s of all pairs of positions
    s <- s + q k^T          q, k, v are 1 x 1 convolutions of x
    x <- x + softmax(s) v,  two convolutions,  + the features before the first recursion

All recursions share their convolutions; each has batch normalisation of its own.

NOTE(paper): left open there, chosen here: each convolution but the first follows batch normalisation and
ReLU; attention is added to its normalised input. The scores are not scaled. eps is TensorFlow's 1e-3.

The published weights are in TensorFlow's format, which is not read here. Tensor names in a file are our own.

Letters:  B batch   C channels   H, W height and width of the SR image   N = H W positions
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from enlca.attention.ops import autocast_disabled
from enlca.network.layers import conv3x3
from enlca.peers.layout import Peer, Shapes
from enlca.peers.luma import LumaModel
from enlca.peers.naming import check_size, count, length, renamed
from enlca.peers.norm import STATISTICS, Norm, activated

PIXEL_RANGE = 255.0
EPS = 1e-3
# SR images of more positions are cut into windows: the paper's neighbourhood of q = 45 pixels. They overlap.
WHOLE, WINDOW, OVERLAP = 8192, 45, 14
# Elements of a chunk of weights.
CHUNK_ELEMENTS = 1 << 22


def softmax_attention(scores: Float[Tensor, "B N N"], v: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
    """Return softmax(scores) v, the softmax over the last axis, some queries at a time."""
    queries = max(1, CHUNK_ELEMENTS // (v.shape[0] * v.shape[1]))
    return torch.cat([rows.softmax(dim=-1) @ v for rows in scores.split(queries, dim=1)], dim=1)


class NLRN(LumaModel):
    """Improve bicubic luma in 0..255; one network can serve all scales.

    Args:
        scale: upscaling factor: 2, 3 or 4.
        channels: width of the feature maps.
        embed_channels: of queries and keys.
        recursions: number of recurrent steps.

    Raises:
        ValueError: another scale.
    """

    # Scores of a whole image and chunks of weights; features are counted in `__init__`.
    workspace_elements = WHOLE**2 + 3 * CHUNK_ELEMENTS

    def __init__(
        self, *, scale: int = 4, channels: int = 128, embed_channels: int = 64, recursions: int = 12
    ):
        super().__init__()
        if scale not in (2, 3, 4):
            raise ValueError(f"scale must be one of 2, 3, 4; got {scale!r}")

        def norms() -> nn.ModuleList:
            return nn.ModuleList(Norm(channels, eps=EPS) for _ in range(recursions))

        self.scale = scale
        self.workspace_elements += 8 * WHOLE * channels
        self.input_norm, self.input = Norm(1, eps=EPS), conv3x3(1, channels)
        self.query = nn.Conv2d(channels, embed_channels, kernel_size=1)
        self.key = nn.Conv2d(channels, embed_channels, kernel_size=1)
        self.value = nn.Conv2d(channels, channels, kernel_size=1)
        self.first, self.second = conv3x3(channels, channels), conv3x3(channels, channels)
        self.attention_norms, self.first_norms, self.second_norms = norms(), norms(), norms()
        self.output_norm, self.output = Norm(channels, eps=EPS), conv3x3(channels, 1)

    @property
    def elements_per_pixel(self) -> int:
        """Tensor elements for each LR pixel: images alone, since features exist for a window at a time.

        Counted, because the probe of `measure_elements` would take minutes.
        """
        return 24 * self.scale**2

    def upscale_luma(
        self, lr: Float[Tensor, "B 1 h w"], bicubic: Float[Tensor, "B 1 H W"]
    ) -> Float[Tensor, "B 1 H W"]:
        """Return the SR luma; a large image window by window."""
        x = PIXEL_RANGE * bicubic
        height, width = x.shape[-2:]
        if height * width <= WHOLE:
            return self.improve(x) / PIXEL_RANGE
        sr = torch.empty_like(x)
        for top, rows in windows(height):
            for left, columns in windows(width):
                # The margin that overlaps the window before is computed, and left as that one made it.
                part = self.improve(x[..., rows, columns])[..., top:, left:]
                sr[..., rows.start + top : rows.stop, columns.start + left : columns.stop] = part
        return sr / PIXEL_RANGE

    def improve(self, x: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B 1 H W"]:
        """Return the SR luma of bicubic luma in 0..255; each position attends to all."""
        state = start = self.input(self.input_norm(x))
        size = state.shape[-2] * state.shape[-1]
        scores = state.new_zeros(state.shape[0], size, size, dtype=x.dtype)
        for attention_norm, first_norm, second_norm in zip(
            self.attention_norms, self.first_norms, self.second_norms, strict=True
        ):
            normed = activated(attention_norm, state)
            state = normed + self.attend(normed, scores)
            state = self.first(activated(first_norm, state))
            state = start + self.second(activated(second_norm, state))
        return x + self.output(activated(self.output_norm, state))

    def attend(self, x: Float[Tensor, "B C H W"], scores: Float[Tensor, "B N N"]) -> Float[Tensor, "B C H W"]:
        """Add this step's scores to `scores`, in place; return attention with all until now."""
        q, k, v = (embed(x).flatten(2).mT.to(scores.dtype) for embed in (self.query, self.key, self.value))
        with autocast_disabled(x):
            scores.baddbmm_(q, k.mT)
            return softmax_attention(scores, v).mT.unflatten(2, x.shape[2:])


def windows(size: int) -> Iterator[tuple[int, slice]]:
    """Yield the windows along an axis, and how many of their first pixels the window before is to compute."""
    last = max(0, size - WINDOW)
    for start in [*range(0, last, WINDOW - OVERLAP), last]:
        yield OVERLAP // 2 if start else 0, slice(start, min(start + WINDOW, size))


def deduce(shapes: Shapes) -> dict[str, Any]:
    """Return the settings of an NLRN, which serves any scale; raise ValueError if it is none."""
    recursions = count(shapes, "attention_norms.#.weight")
    check_size(shapes, recursions)
    channels, embedded = length(shapes, "input.weight"), length(shapes, "query.weight")
    return {"channels": channels, "embed_channels": embedded, "recursions": recursions}


PEER = Peer(
    name="NLRN",
    reference="Liu et al. 2018, NeurIPS",
    build=NLRN,
    deduce=deduce,
    published=partial(renamed, table=STATISTICS),
)
