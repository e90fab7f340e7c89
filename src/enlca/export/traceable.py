"""Rewrite a network so that one traced graph serves every batch, height and width: see `attends`.

Letters:  B batch   C channels   D embedding channels   H, W height and width   N = H W positions
"""

import copy

from jaxtyping import Float
from torch import Tensor, nn

from enlca.attention.block import Embed, NonLocalBlock
from enlca.errors import ExportError
from enlca.export.attends import TRACEABLE, TraceableWindow
from enlca.network.sr import SRNetwork


class TraceableBlock(nn.Module):
    """`NonLocalBlock` for images of any size."""

    def __init__(self, block: NonLocalBlock, attend: nn.Module):
        super().__init__()
        assert isinstance(block.embed, Embed)
        self.embed = block.embed
        self.attend = attend
        self.res_scale = block.res_scale

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Add to each position what attention finds for it."""
        at = _positions(x)
        q, k, v = (_embedded(by, x, at) for by in (self.embed.query, self.embed.key, self.embed.value))
        qkv = self._amplified(q), self._amplified(k), v
        if isinstance(self.attend, TraceableWindow):
            found = self.attend(*(u.unflatten(1, x.shape[-2:]) for u in qkv)).flatten(1, 2)
        else:
            found = self.attend(*qkv)
        y = at + self.res_scale * found
        return y.unflatten(1, x.shape[-2:]).permute(0, 3, 1, 2)

    def _amplified(self, u: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        """Scale to length sqrt(k) at every position (Eq. 3)."""
        square = (u * u).sum(dim=-1, keepdim=True).clamp(min=self.embed.eps**2)
        return u * (self.embed.length * (-0.5 * square.log()).exp())


def traceable(network: SRNetwork) -> SRNetwork:
    """Return a copy of `network`, on the CPU in float32, that can be traced with unknown sizes.

    Raises:
        ExportError: for NLSA, whose hashing cannot be written as one graph for all sizes.
    """
    if network.config.attention == "lsh":
        raise ExportError(
            "networks with attention lsh (NLSA) cannot be exported: they draw their hash functions "
            "anew for each size of picture, which no fixed graph can; they run in PyTorch alone"
        )
    copied = copy.deepcopy(network).cpu().float().eval().requires_grad_(False)
    for index, stage in enumerate(copied.body):
        if isinstance(stage, NonLocalBlock):
            copied.body[index] = TraceableBlock(stage, TRACEABLE[type(stage.attend)](stage.attend))
    return copied


def _positions(features: Float[Tensor, "B D H W"]) -> Float[Tensor, "B N D"]:
    return features.permute(0, 2, 3, 1).flatten(1, 2)


def _embedded(
    by: nn.Conv2d, x: Float[Tensor, "B C H W"], at: Float[Tensor, "B N C"]
) -> Float[Tensor, "B N D"]:
    """Convolve x, whose positions are `at`; a 1 x 1 convolution is computed as a matrix product."""
    if by.kernel_size == (1, 1):
        return nn.functional.linear(at, by.weight.flatten(1), by.bias)
    return _positions(by(x))
