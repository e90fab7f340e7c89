"""Which small pixels a part of the large picture owes its detail to: LAM (Gu and Dong 2021).

    D(x)      sum over a square of the large picture of its gradient's magnitude: how much detail there is
    path      t -> x_t, from the blurred small picture (t = 0) to the picture itself (t = 1)
    map_i     integral over t of  dD/dx_i (x_t)  dx_ti/dt

Along a path the parts add up to the whole: the map sums to D(picture) - D(blurred picture), "completeness".
A step of the integral is the gradient in the middle times the exact difference between both ends, so only
the gradients are approximated; steps are doubled until the map is complete.

Letters:  H, W height and width of the small picture   S scale   h, w of the square
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, pad

Forward = Callable[[Tensor], Tensor]

# Added to the square of a gradient's magnitude, which has no derivative at 0; a quarter of a grey level.
SOFT = 1e-6


class Attribution(NamedTuple):
    """What the detail in a square of the large picture rests on.

    Attributes:
        map: each small pixel's share of it, summed over colours; negative where it takes detail away.
        change: D(picture) - D(blurred picture), which the map should sum to.
        completeness: |sum of the map - change| / |change|: 0 is complete. Changes below what `SOFT` hides
            count as that much.
        steps: of the integral that `map` is from.
    """

    map: Float[Tensor, "H W"]
    change: float
    completeness: float
    steps: int

    @property
    def absolute(self) -> Float[Tensor, "H W"]:
        """How much each small pixel matters, whichever way."""
        return self.map.abs()

    @property
    def diffusion_index(self) -> float:
        """(1 - Gini) * 100 of the absolute map: 100 where all pixels matter alike, near 0 where few do."""
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
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> Attribution:
    """The local attribution map of one square, with the memory of one pass and its gradient.

    Args:
        network: anything that enlarges, in evaluation mode. NLSA's output jumps where a hash changes, and
            may never become complete.
        lr: the small picture, in [0, 1].
        top: first row of the square, in large pixels.
        left: first column of the square, in large pixels.
        side: of the square, in large pixels; LAM's authors take 16.
        sigma: of the strongest blur, in small pixels; 1.2 is LAM's.
        steps: of the first integral.
        most_steps: no integral has more.
        tolerance: the `completeness` that is good enough; look at the result's, it may be larger.
        on_step: called with steps done and steps of this integral; what it raises ends the work.

    Raises:
        ValueError: the square leaves the large picture or is smaller than 2, or settings make no sense.
    """
    if side < 2:
        raise ValueError(f"side must be at least 2, as a gradient takes two pixels; got {side}")
    if sigma <= 0 or not 1 <= steps <= most_steps:
        raise ValueError(f"sigma must be positive and steps from 1 to {most_steps}; got {sigma} and {steps}")

    @torch.no_grad()
    def detected(x: Float[Tensor, "1 3 H W"]) -> float:
        sr = network(x)
        height, width = sr.shape[2:]
        if not (0 <= top <= height - side and 0 <= left <= width - side):
            raise ValueError(
                f"a square of {side} at row {top}, column {left} leaves the large picture of {height} rows"
                f" and {width} columns"
            )
        return float(detail(_square(sr, top, left, side)))

    lr = lr.detach()
    change = detected(lr) - detected(blurred(lr, sigma))
    while True:
        # Not where the network is: some devices have no float64.
        total = torch.zeros(lr.shape, dtype=torch.float64)
        for step in range(steps):
            start, middle, end = (blurred(lr, sigma * (1 - (step + part) / steps)) for part in (0, 0.5, 1))
            with torch.enable_grad():
                middle.requires_grad_()
                found = detail(_square(network(middle), top, left, side))
                (gradient,) = torch.autograd.grad(found, middle)
            total += (gradient * (end - start)).cpu()
            on_step(step + 1, steps)
        gap = abs(float(total.sum()) - change) / max(abs(change), SOFT**0.5)
        if gap <= tolerance or 2 * steps > most_steps:
            return Attribution(total.sum(dim=1)[0].to(lr.dtype), change, gap, steps)
        steps *= 2


def _square(sr: Float[Tensor, "1 3 SH SW"], top: int, left: int, side: int) -> Float[Tensor, "1 3 h w"]:
    return sr[:, :, top : top + side, left : left + side]


def detail(square: Float[Tensor, "1 3 h w"]) -> Float[Tensor, ""]:
    """D: the magnitude of the gradient (forward differences), summed over pixels and colours."""
    down = square[:, :, 1:, :-1] - square[:, :, :-1, :-1]
    right = square[:, :, :-1, 1:] - square[:, :, :-1, :-1]
    return (down.square() + right.square() + SOFT).sqrt().sum()


def blurred(x: Float[Tensor, "B C H W"], sigma: float) -> Float[Tensor, "B C H W"]:
    """Gaussian blur with repeated borders, cut off beyond 4 sigma; sigma 0 is the picture itself."""
    if sigma <= 0:
        return x.clone()
    radius = math.ceil(4 * sigma)
    distance = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.softmax(-(distance**2) / (2 * sigma**2), dim=0).to(x)
    planes = pad(x.flatten(0, 1).unsqueeze(1), [radius] * 4, mode="replicate")
    planes = conv2d(conv2d(planes, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
    return planes.view_as(x)


def gini(values: Float[Tensor, "*any"]) -> float:
    """Inequality of what is not negative: 0 where all are equal (even if zero), 1 - 1/n at most."""
    ordered = values.double().flatten().sort().values
    n, total = len(ordered), float(ordered.sum())
    if total == 0:
        return 0.0
    rank = torch.arange(1, n + 1, dtype=torch.float64, device=values.device)
    return float(((2 * rank - n - 1) * ordered).sum()) / (n * total)
