"""Local attribution maps: the LR pixels that detail in the SR image depends on.  (Gu and Dong 2021)

    D(x)      sum over a square of the SR image of its gradient's magnitude: the amount of detail
    path      t -> x_t, from the blurred LR image (t = 0) to the image itself (t = 1)
    map_i     integral over t of  dD/dx_i (x_t)  dx_ti/dt

Integrated along a path, the map sums to D(image) - D(blurred image): "completeness". A step of the integral
is the gradient at its middle times the exact difference between its ends, so only the gradients are
approximated; the number of steps is doubled until the map is complete.

Letters:  H, W height and width of the LR image   S scale   h, w of the square
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, pad

from enlca.inference.tiles import Region, crop

Forward = Callable[[Tensor], Tensor]

# Added to the square of a gradient's magnitude, which has no derivative at 0: a quarter of a grey level.
SOFT = 1e-6


class Attribution(NamedTuple):
    """The local attribution map of a square of the SR image.

    Attributes:
        map: each LR pixel's contribution, summed over colours; negative where it removes detail. change:
        D(image) - D(blurred image), which the map should sum to. completeness: |sum of the map - change| /
        |change|: 0 is complete. The denominator is at least SOFT^0.5. steps: of the integral.
    """

    map: Float[Tensor, "H W"]
    change: float
    completeness: float
    steps: int

    @property
    def absolute(self) -> Float[Tensor, "H W"]:
        """Absolute contribution of each LR pixel."""
        return self.map.abs()

    @property
    def diffusion_index(self) -> float:
        """(1 - Gini) * 100 of the absolute map: 100 if all pixels contribute equally, near 0 if few do."""
        return 100 * (1 - gini(self.absolute))


def lam(
    network: Forward,
    lr: Float[Tensor, "1 3 H W"],
    *,
    top: int,
    left: int,
    side: int,
    sigma: float = 1.2,
    steps: int = 32,
    most_steps: int = 512,
    tolerance: float = 0.01,
    within: Region | None = None,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> Attribution:
    """Compute the local attribution map of one square, in the memory of one forward and backward pass.

    Args:
        network: any differentiable SR network, in evaluation mode. NLSA's output is discontinuous where a
            hash changes, so its map may never be complete.
        lr: the LR image, in [0, 1].
        top: first row of the square, in SR pixels.
        left: first column of the square, in SR pixels.
        side: of the square, in SR pixels; LAM's authors take 16.
        sigma: of the strongest blur, in LR pixels; 1.2 is LAM's.
        steps: of the first integral.
        most_steps: upper limit of the steps of an integral.
        tolerance: stop at this `completeness`; that of the result may be larger, see `most_steps`.
        within: the LR pixels on which the square depends (`inference.reach.pixels_needed`): only they are
            computed. None is all.
        on_step: called with the number of steps done and of all steps of this integral; may raise to cancel.

    Raises:
        ValueError: if the square is smaller than 2 or not inside the SR image, or for invalid settings.
    """
    if side < 2:
        raise ValueError(f"side must be at least 2, as a gradient takes two pixels; got {side}")
    if sigma <= 0 or not 1 <= steps <= most_steps:
        raise ValueError(f"sigma must be positive and steps from 1 to {most_steps}; got {sigma} and {steps}")

    whole = Region(0, 0, *lr.shape[2:])
    part = within or whole

    def detail_of(x: Float[Tensor, "1 3 H W"]) -> Float[Tensor, ""]:
        sr = network(crop(x, part, whole))
        scale = sr.shape[2] // part.height
        height, width = scale * whole.height, scale * whole.width
        if not (0 <= top <= height - side and 0 <= left <= width - side):
            raise ValueError(
                f"a square of {side} at row {top}, column {left} leaves the SR image of {height} rows"
                f" and {width} columns"
            )
        return detail(crop(sr, Region(top, left, top + side, left + side), part.times(scale)))

    lr = lr.detach()
    with torch.no_grad():
        change = float(detail_of(lr)) - float(detail_of(blurred(lr, sigma)))
    while True:
        # On the CPU: some devices have no float64.
        total = torch.zeros(lr.shape, dtype=torch.float64)
        for step in range(steps):
            start, middle, end = (blurred(lr, sigma * (1 - (step + way) / steps)) for way in (0, 0.5, 1))
            with torch.enable_grad():
                middle.requires_grad_()
                (gradient,) = torch.autograd.grad(detail_of(middle), middle)
            total += (gradient * (end - start)).cpu()
            on_step(step + 1, steps)
        gap = abs(float(total.sum()) - change) / max(abs(change), SOFT**0.5)
        if gap <= tolerance or 2 * steps > most_steps:
            return Attribution(total.sum(dim=1)[0].to(lr.dtype), change, gap, steps)
        steps *= 2


def detail(square: Float[Tensor, "1 3 h w"]) -> Float[Tensor, ""]:
    """Compute D: the magnitude of the gradient (forward differences), summed over pixels and colours."""
    down = square[:, :, 1:, :-1] - square[:, :, :-1, :-1]
    right = square[:, :, :-1, 1:] - square[:, :, :-1, :-1]
    return (down.square() + right.square() + SOFT).sqrt().sum()


def blurred(x: Float[Tensor, "B C H W"], sigma: float) -> Float[Tensor, "B C H W"]:
    """Apply a Gaussian blur with replicated borders, truncated at 4 sigma; none for sigma 0."""
    if sigma <= 0:
        return x.clone()
    radius = math.ceil(4 * sigma)
    distance = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.softmax(-(distance**2) / (2 * sigma**2), dim=0).to(x)
    planes = pad(x.flatten(0, 1).unsqueeze(1), [radius] * 4, mode="replicate")
    planes = conv2d(conv2d(planes, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
    return planes.view_as(x)


def gini(values: Float[Tensor, "*any"]) -> float:
    """Compute the Gini coefficient of non-negative values: 0 if all are equal, at most 1 - 1/n."""
    ordered = values.double().flatten().sort().values
    n, total = len(ordered), float(ordered.sum())
    if total == 0:
        return 0.0
    rank = torch.arange(1, n + 1, dtype=torch.float64, device=values.device)
    return float(((2 * rank - n - 1) * ordered).sum()) / (n * total)
