"""The objective and the learning rate of one training step.

Letters:  B batch   P side of the LR patch   S scale
"""

import math
from functools import partial

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from enlca.attention.block import Embeddings
from enlca.losses import ENLCALoss, LossTerms
from enlca.models import CustomConfig, CustomModel, build_custom
from enlca.network.sr import SRConfig, SRNetwork
from enlca.training.config import ScheduleConfig

# A network of enlca's, or of one's own.
Trainable = SRNetwork | CustomModel


def build_network(config: SRConfig | CustomConfig) -> Trainable:
    """Return the network that a configuration describes, its weights drawn from the global generator.

    Raises:
        CheckpointError: the function of a network of one's own cannot be used.
    """
    return build_custom(config) if isinstance(config, CustomConfig) else SRNetwork(config)


def with_embeddings(
    network: Trainable, lr: Float[Tensor, "B 3 P P"]
) -> tuple[Float[Tensor, "B 3 SP SP"], list[Embeddings]]:
    """Return the SR images, and what the contrastive loss is computed from: nothing for other networks."""
    if isinstance(network, SRNetwork):
        return network.forward_with_embeddings(lr)
    return network(lr), []


class Objective(nn.Module):
    """A network and the loss that it is trained on: a batch in, loss terms out.

    The loss is inside, so that DistributedDataParallel wraps one forward.
    """

    def __init__(self, network: Trainable, loss: ENLCALoss, *, compile: bool = False):
        super().__init__()
        self.network = network
        self.loss = loss
        upscale = partial(with_embeddings, network)
        self._upscale = torch.compile(upscale) if compile else upscale

    def forward(
        self,
        lr: UInt8[Tensor, "B 3 P P"],
        hr: UInt8[Tensor, "B 3 SP SP"],
        teacher: UInt8[Tensor, "B 3 SP SP"] | None = None,
        *,
        contrast: bool,
        generator: torch.Generator | None = None,
    ) -> LossTerms:
        """Compute the loss of a batch; `generator` chooses the anchors of the contrastive loss."""
        sr, embeddings = self._upscale(unit_range(lr))
        target = unit_range(hr)
        if teacher is not None:
            target = target.lerp(unit_range(teacher), self.loss.teacher)
        return self.loss(sr, target, embeddings, contrast=contrast, generator=generator)


def unit_range(pixels: UInt8[Tensor, "B 3 h w"]) -> Float[Tensor, "B 3 h w"]:
    """Return levels 0..255 as floats in [0, 1], channels last in memory."""
    return pixels.to(memory_format=torch.channels_last).float() / 255


def learning_rate_factor(step: int, *, schedule: ScheduleConfig, steps: int, steps_per_epoch: int) -> float:
    """Return the learning rate of step `step` (from 0), as a multiple of the initial one."""
    if step < schedule.warmup:
        return (step + 1) / schedule.warmup
    if schedule.kind == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
    if schedule.kind == "stable":
        if schedule.decay_from is None or step < schedule.decay_from:
            return 1.0
        return 1 - math.sqrt(min(1.0, (step - schedule.decay_from) / (steps - schedule.decay_from)))
    return 0.5 ** sum(step >= epoch * steps_per_epoch for epoch in schedule.halve_at)


@torch.no_grad()
def first_nonfinite(objective: Objective, lr: Tensor, hr: Tensor, *, contrast: bool) -> str:
    """Name the first tensor of a step that is not finite: a weight, an output, a loss or a gradient.

    The forward pass is repeated, so random anchors may differ; gradients are those that the weights have now.
    """
    for name, parameter in objective.network.named_parameters():
        if not parameter.isfinite().all():
            return f"the weight {name}"
    found: list[str] = []

    def look(name: str, module: nn.Module, inputs: object, output: object) -> None:
        tensors = output if isinstance(output, (list, tuple)) else [output]
        if not all(tensor.isfinite().all() for tensor in tensors if isinstance(tensor, Tensor)):
            found.append(name)

    handles = [
        module.register_forward_hook(partial(look, name))
        for name, module in objective.network.named_modules()
    ]
    try:
        sr, embeddings = with_embeddings(objective.network, unit_range(lr))
        terms = objective.loss(sr, unit_range(hr), embeddings, contrast=contrast)
    finally:
        for handle in handles:
            handle.remove()
    if found:
        return f"the output of {found[0]}"
    for name, term in terms._asdict().items():
        if name != "total" and not term.isfinite():
            return f"the loss term {name}"
    for name, parameter in objective.network.named_parameters():
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            return f"the gradient of {name}"
    return "the loss in the run's own precision"
