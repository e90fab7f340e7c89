"""Dead units: channels between the convolutions of a residual block whose ReLU is zero everywhere.

No gradient reaches the weights of such a unit, so it stays dead. Steps that are large beside what a block
adds to the features switch whole blocks off within some hundred steps, and no loss shows it, because the rest
of the network goes on learning (experiments/LOG.md, 2026-11-29, evening). With a `res_scale` of 0.1 they
stay small.

Letters:  B batch   C channels   H, W height and width
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from enlca.network.layers import residual_blocks

# A few are dead in every network.
MANY = 0.5
REMARK = (
    "{:.0%} of the units of the residual blocks are dead (their ReLU is zero in all validation pictures) and"
    " learn nothing any more; a new run with a smaller network.res_scale, such as 0.1, or smaller steps keeps"
    " them alive"
)


@contextmanager
def firing_units(network: nn.Module) -> Iterator[list[Bool[Tensor, "C"]]]:
    """Watch a network's residual blocks: for each, in order, which units were above zero anywhere.

    The tensors are all false at first and updated by each forward pass until the context is left. A network
    without residual blocks has none.
    """
    blocks = residual_blocks(network).values()
    weights = [block.first.weight for block in blocks]
    fired = [torch.zeros(len(weight), dtype=torch.bool, device=weight.device) for weight in weights]
    hooks = [
        block.relu.register_forward_hook(partial(_note, units))
        for block, units in zip(blocks, fired, strict=True)
    ]
    try:
        yield fired
    finally:
        for hook in hooks:
            hook.remove()


def _note(
    fired: Bool[Tensor, "C"], relu: nn.Module, inputs: object, output: Float[Tensor, "B C H W"]
) -> None:
    fired |= output.detach().amax(dim=(0, 2, 3)) > 0
