"""The contrastive loss of sparse aggregation: separate relevant from irrelevant keys.  (Eq. 8-10)

For each query the keys are ranked by relevance. The first n1 N are relevant; n1 N more, starting at rank
n2 N, irrelevant. The loss is the margin minus the gap between the two groups' log-mean-exp scores.

The loss is a mean over queries, so a random subset of queries (anchors) estimates it without bias at
a cost linear in N; and only the first (n1 + n2) N ranks matter, so a top-k replaces the sort.

Letters:  B batch   A anchor queries   D embedding channels   N positions
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Contrast(NamedTuple):
    """L_cl (Eq. 10), and the mean gap between relevant and irrelevant scores."""

    loss: Float[Tensor, ""]
    gap: Float[Tensor, ""]


def relevance(q: Float[Tensor, "B D A"], k: Float[Tensor, "B D N"]) -> Float[Tensor, "B A N"]:
    """Return T = k cos(q, k) (Eq. 8) for q and k of length sqrt(k) (Eq. 3)."""
    return q.mT @ k


def rank_ranges(n_positions: int, relevant: float | int, start: float | int) -> tuple[int, int]:
    """Return (n1 N, n2 N) as counts: a float is a share of the positions, an int a count already.

    Raises:
        ValueError: if the irrelevant ranks do not fit into `n_positions`.
    """
    count, first = (round(x * n_positions) if isinstance(x, float) else x for x in (relevant, start))
    count, first = max(1, count), max(1, first)
    if first + count > n_positions:
        raise ValueError(
            f"contrast needs ranks up to {first + count} (start {start}, relevant {relevant}),"
            f" but the feature map has only {n_positions} positions: use larger patches or smaller ranks"
        )
    return count, first


def contrastive_loss(
    q: Float[Tensor, "B D N"],
    k: Float[Tensor, "B D N"],
    *,
    relevant: float | int = 0.02,
    start: float | int = 0.08,
    margin: float = 1.0,
    hinge: bool = False,
    irrelevant_floor: float = 0.0,
    anchors: int | None = None,
    generator: torch.Generator | None = None,
) -> Contrast:
    """Compute L_cl of Eq. 10, averaged over queries and the batch, in float32.

    Args:
        q: queries of length sqrt(k).
        k: keys of length sqrt(k).
        relevant: n1, a share of N (float) or a count (int).
        start: n2, the first irrelevant rank, a share of N (float) or a count (int).
        margin: b.
        hinge: clamp each query's term at zero.
        irrelevant_floor: added to the irrelevant mean.
        anchors: number of random queries per image; None is all of them.
        generator: source of the anchors, on q's device; None is torch's global generator.

    Raises:
        ValueError: see `rank_ranges`.

    NOTE(paper): Eq. 10 has no hinge and no floor. The released code has `hinge=True`,
    `irrelevant_floor=1e-6`, and fixed ranks: `relevant=15, start=50`.
    """
    count, first = rank_ranges(k.shape[-1], relevant, start)
    with torch.autocast(q.device.type, enabled=False):
        if anchors is not None and anchors < q.shape[-1]:
            draws = torch.rand(q.shape[0], q.shape[-1], generator=generator, device=q.device)
            chosen = draws.topk(anchors, dim=-1).indices
            q = q.gather(-1, chosen.unsqueeze(1).expand(-1, q.shape[1], -1))
        ranked = relevance(q.float(), k.float()).topk(first + count, dim=-1).values
        positive = ranked[..., :count].logsumexp(dim=-1) - math.log(count)
        negative = ranked[..., first:].logsumexp(dim=-1) - math.log(count)
        if irrelevant_floor > 0:
            negative = torch.logaddexp(negative, torch.full_like(negative, math.log(irrelevant_floor)))
        gap = positive - negative
        terms = margin - gap
        return Contrast((terms.relu() if hinge else terms).mean(), gap.mean())
