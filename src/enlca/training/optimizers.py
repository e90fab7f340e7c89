"""The optimisers of a run: Adam, or Muon, whose steps are orthogonal matrices.  (Jordan et al. 2024)

A convolution's weight, seen as a matrix `out x (in kh kw)`, maps patches to channels. Its momentum usually
has few large singular values; Newton-Schulz steps bring all of them near 1, so that rare directions are
learned as fast as frequent ones. The other parameters (biases, first and last convolution) are Adam's.

Letters:  L matrices of one shape   R rows   C columns
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim.adam import adam

from enlca.network.interface import SRModel
from enlca.network.sr import SRNetwork
from enlca.training.config import OptimConfig

# The quintic of Jordan et al.: it does not converge to 1, but within five steps comes to 0.7 to 1.2.
QUINTIC = (3.4445, -4.7750, 2.0315)
STEPS = 5


def build_optimizer(network: SRModel, optim: OptimConfig) -> torch.optim.Optimizer:
    """Build the optimiser that `optim` describes.

    Muon updates the convolutions of the stages and of `fuse`; Adam the head, the upsampler and all biases.
    """
    parameters = list(network.parameters())
    if optim.kind == "adam":
        fused = parameters[0].device.type in ("cpu", "cuda")
        return torch.optim.Adam(parameters, lr=optim.lr, betas=optim.betas, fused=fused)
    assert isinstance(network, SRNetwork), "refused by the configuration"
    hidden = [*network.body.parameters(), *network.fuse.parameters()]
    matrices = [weight for weight in hidden if weight.ndim == 4]
    chosen = {id(weight) for weight in matrices}
    return Muon(
        matrices,
        [weight for weight in parameters if id(weight) not in chosen],
        lr=optim.lr,
        betas=optim.betas,
        muon_lr=optim.muon_lr,
        momentum=optim.momentum,
        weight_decay=optim.weight_decay,
    )


def orthogonalize(matrices: Float[Tensor, "L R C"]) -> Float[Tensor, "L R C"]:
    """Return U V^T of each matrix U S V^T, with singular values between about 0.7 and 1.2; zero stays zero.

    Computed in the type of the input: in 16 bits a resumed run would still be exact, but less orthogonal.
    """
    if matrices.shape[-2] > matrices.shape[-1]:
        return orthogonalize(matrices.mT).mT
    a, b, c = QUINTIC
    x = matrices / matrices.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    for _ in range(STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


class Muon(torch.optim.Optimizer):
    """Muon for `matrices`, Adam for `others`: a group of parameters for each, in one optimiser.

    Args:
        matrices: parameters of two dimensions or more; all but the first are joined.
        others: parameters that Adam updates.
        lr: Adam's learning rate.
        betas: Adam's.
        muon_lr: Muon's learning rate: the spectral norm of a step, times sqrt(rows / columns) where there are
            more rows.
        momentum: Muon's, with Nesterov's look ahead.
        weight_decay: Muon's, decoupled: a step shrinks `matrices` by muon_lr * weight_decay.

    Raises:
        ValueError: if one of `matrices` has fewer than two dimensions.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        others: Iterable[nn.Parameter],
        *,
        lr: float,
        betas: tuple[float, float],
        muon_lr: float,
        momentum: float,
        weight_decay: float = 0.0,
    ):
        matrices = list(matrices)
        if flat := [tuple(weight.shape) for weight in matrices if weight.ndim < 2]:
            raise ValueError(f"Muon needs matrices, got a parameter of shape {flat[0]}")
        adam = {"kind": "adam", "params": list(others), "lr": lr, "betas": betas}
        muon = {"kind": "muon", "params": matrices, "lr": muon_lr, "momentum": momentum}
        super().__init__([adam, muon | {"weight_decay": weight_decay}], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters that have a gradient; `closure` as in every optimiser of PyTorch."""
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if weights:
                (self._adam if group["kind"] == "adam" else self._muon)(group, weights)
        return result

    def _adam(self, group: dict[str, Any], weights: list[Tensor]) -> None:
        for weight in weights:
            if not self.state[weight]:
                self.state[weight] = {
                    "step": torch.zeros((), dtype=torch.float32),
                    "exp_avg": torch.zeros_like(weight),
                    "exp_avg_sq": torch.zeros_like(weight),
                }
        states = [self.state[weight] for weight in weights]
        first, second = group["betas"]
        adam(
            weights,
            [cast(Tensor, weight.grad) for weight in weights],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            amsgrad=False,
            beta1=first,
            beta2=second,
            lr=group["lr"],
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )

    def _muon(self, group: dict[str, Any], weights: list[Tensor]) -> None:
        # Matrices of one shape go through Newton-Schulz together: a network has few shapes.
        ahead: dict[torch.Size, list[Tensor]] = defaultdict(list)
        alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
        for weight in weights:
            state, gradient = self.state[weight], cast(Tensor, weight.grad)
            if not state:
                state["momentum"] = torch.zeros_like(weight)
            momentum = state["momentum"].lerp_(gradient, 1 - group["momentum"])
            ahead[weight.shape].append(gradient.lerp(momentum, group["momentum"]).flatten(1))
            alike[weight.shape].append(weight)
        for shape, matrices in ahead.items():
            rows, columns = shape[0], shape[1:].numel()
            size = group["lr"] * max(1.0, rows / columns) ** 0.5
            for weight, update in zip(alike[shape], orthogonalize(torch.stack(matrices)), strict=True):
                weight.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update.view(shape), alpha=size)
