"""Does an engine compute what the network computes?"""

from collections.abc import Iterable

import torch

from enlca.errors import ParityError
from enlca.inference.transforms import Forward
from enlca.network.sr import SRNetwork

# Primes, so that no block of positions comes out even; a single pixel; more than one block of positions.
SIZES = ((7, 11), (1, 1), (23, 17), (1, 13), (41, 37))
TOLERANCE = 1e-4


@torch.no_grad()
def check_parity(
    engine: Forward,
    network: SRNetwork,
    *,
    sizes: Iterable[tuple[int, int]] = SIZES,
    tolerance: float = TOLERANCE,
) -> float:
    """The largest difference between `engine` and `network`, on pictures of noise.

    It is taken relative to the largest value where that is above 1, as it is in networks not yet trained.

    Raises:
        ParityError: it exceeds `tolerance`, or is not a number.
    """
    generator = torch.Generator().manual_seed(1)
    worst = 0.0
    for height, width in sizes:
        lr = torch.rand(1, 3, height, width, generator=generator)
        expected = network(lr.to(network.mean)).cpu()
        found = engine(lr)
        difference = float((found - expected).abs().max() / expected.abs().max().clamp(min=1))
        # Written so that NaN fails too.
        if found.shape != expected.shape or not difference <= tolerance:
            raise ParityError(
                f"the exported network differs from PyTorch by {difference:.1e} on a picture of "
                f"{height}x{width} (allowed: {tolerance:.0e}); nothing was written"
            )
        worst = max(worst, difference)
    return worst
