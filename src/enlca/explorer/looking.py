"""What is known of one point: the weights of several attentions there, and how few positions they rest on.

Letters:  N = H W positions of the small picture   H, W its height and width
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from enlca.analysis.correlation import (
    Sparsity,
    View,
    exact_weights,
    linear_weights,
    redraw_spread,
    sparse_weights,
    sparsity,
)
from enlca.attention.features import orthogonal_gaussian
from enlca.attention.linear import LinearAttend
from enlca.attention.lsh import LSHAttend
from enlca.network.sr import SRConfig

# Of F, for the spread: as many as make about so many features of positions, within these.
FEWEST_DRAWS, DRAWS = 3, 8
FEATURES_DRAWN = 8 * 64 * 256**2
# Maps that are quick and come first; NLSA's sorting and the redraws take most of the time.
QUICK = 3
SPREAD_SEED = 0


@dataclass(frozen=True)
class Settings:
    """How the attentions are set.

    Attributes:
        amplification: the paper's k; None is the network's own.
        n_features: the paper's m; None is the network's own.
        redraw: number of the draw of F; 0 is the network's own F, where m is its own, too.
    """

    amplification: float | None = None
    n_features: int | None = None
    redraw: int = 0


@dataclass(frozen=True)
class Map:
    """Where a point looks by one kind of attention.

    Attributes:
        name: of the attention.
        about: what it is, in a few words.
        weights: of each position; those of the spread are standard deviations.
        sparsity: None for the spread.
    """

    name: str
    about: str
    weights: Float[Tensor, "H W"]
    sparsity: Sparsity | None = None


def has_amplification(config: SRConfig) -> bool:
    """Whether k is a setting of the network: NLSA learns the length of its queries instead."""
    return config.attention in ("linear", "exact")


def look(view: View, config: SRConfig, row: int, column: int, settings: Settings) -> Iterator[Map]:
    """All maps of a point, one after the other, the QUICK ones first.

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
    floor = view.attend.floor if isinstance(view.attend, LinearAttend) else 0.0

    def described(name: str, about: str, weights: Float[Tensor, "N"]) -> Map:
        return Map(name, about, weights.cpu().view(view.height, view.width), sparsity(weights))

    yield described("Exact softmax", f"what the paper draws, {k_text}", exact_weights(amplified, at))
    f, of_f = _projection(view, m, settings.redraw)
    yield described("ENLA, as applied", f"m = {m}, {of_f}", linear_weights(amplified, at, f, floor=floor))
    if has_amplification(config):
        yield described("Exact without k", "unit vectors, k = 1", exact_weights(view.amplified(1 / own), at))
    lsh = view.attend if isinstance(view.attend, LSHAttend) else LSHAttend()
    yield described("NLSA", "softmax among those that hash alike", sparse_weights(amplified, at, lsh))
    draws = max(FEWEST_DRAWS, min(DRAWS, FEATURES_DRAWN // (m * view.height * view.width)))
    generator = torch.Generator().manual_seed(SPREAD_SEED)
    spread = redraw_spread(amplified, at, n_features=m, draws=draws, generator=generator, floor=floor)
    about = f"standard deviation over {draws} redraws of F"
    yield Map("ENLA's spread", about, spread.deviation.cpu().view(view.height, view.width))


def _projection(view: View, m: int, redraw: int) -> tuple[Float[Tensor, "M D"], str]:
    """F and what to call it."""
    own = view.attend.projection if isinstance(view.attend, LinearAttend) else None
    if own is not None and len(own) == m and redraw == 0:
        return own, "the network's own F"
    generator = torch.Generator().manual_seed(redraw)
    drawn = orthogonal_gaussian(m, len(view.q), generator=generator).to(view.q)
    return drawn, f"F drawn anew, no. {redraw}" if redraw else "F drawn for this"
