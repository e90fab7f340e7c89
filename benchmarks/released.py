"""The released code's way of computing ENLA and its loss: a slow twin to compare with.

The steps and the layout of the authors' code (docs/reproduction.md), written down anew:

    phi(u)  = ( exp(F u - |u|^2 / 2) + 1e-4 ) / sqrt(m)       every position's features, stored    Eq. 4
    y       = phi(Q) [ phi(K)^T V ] / phi(Q) [ phi(K)^T 1 ]   positions first, channels last       Eq. 5-6
    ranked  = sort( exp(Q K^T) )                              N x N, every row in full             Eq. 8
    loss    = max(0, -log( mean of ranks 0-14 / (mean of ranks 50-64 + 1e-6) ) + 1)                Eq. 9-10

It is the same function as ours with `RELEASED_NETWORK` and `RELEASED_LOSS`, in value and gradient. No
constant is taken out of the exponentials (the authors take none), so nothing stands between the floor of
1e-4 and ours. Only attention and loss are theirs; convolutions, optimiser and data are common to both.

Letters:  B batch   D embedding channels   M random features   N positions   E value channels
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from enlca.attention.block import Embed, Embeddings, NonLocalBlock
from enlca.attention.linear import LinearAttend
from enlca.losses import LossTerms
from enlca.network.sr import SRNetwork

# With these, `SRConfig` and `ENLCALoss` say what this file computes.
RELEASED_NETWORK = {"embed_eps": 5e-5, "feature_floor": 1e-4}
RELEASED_LOSS = {"relevant": 15, "start": 50, "hinge": True, "irrelevant_floor": 1e-6}


class ReleasedAttend(nn.Module):
    """ENLA by exponentials: in the place of `LinearAttend`, with its F."""

    projection: Tensor

    def __init__(self, projection: Float[Tensor, "M D"]):
        super().__init__()
        self.register_buffer("projection", projection.clone())

    def features(self, u: Float[Tensor, "B N D"]) -> Float[Tensor, "B N M"]:
        """Eq. 4 and a floor. It overflows for long u, where ours does not."""
        exponents = torch.einsum("bnd,md->bnm", u, self.projection.to(u.dtype))
        half_squares = u.square().sum(dim=-1, keepdim=True) / 2
        return (torch.exp(exponents - half_squares) + 1e-4) * len(self.projection) ** -0.5

    def forward(
        self, q: Float[Tensor, "B D N"], k: Float[Tensor, "B D N"], v: Float[Tensor, "B E N"]
    ) -> Float[Tensor, "B E N"]:
        """Eq. 5-6 as printed: two products, and a division at the end."""
        phi_q, phi_k = self.features(q.mT), self.features(k.mT)
        inverse = 1 / torch.einsum("bnm,bm->bn", phi_q, phi_k.sum(dim=1))
        context = torch.einsum("bnm,bne->bme", phi_k, v.mT)
        return (torch.einsum("bme,bnm->bne", context, phi_q) * inverse.unsqueeze(-1)).mT


def released_contrast(
    q: Float[Tensor, "B D N"], k: Float[Tensor, "B D N"]
) -> tuple[Float[Tensor, "B N"], Float[Tensor, "B N"]]:
    """Relevant and irrelevant means of every query: all pairs, and a full sort of every query's keys."""
    scores = torch.exp(q.mT @ k)
    ranked = torch.sort(scores, dim=2, descending=True).values
    return ranked[:, :, :15].mean(dim=2), ranked[:, :, 50:65].mean(dim=2)


@dataclass(frozen=True, kw_only=True)
class ReleasedLoss:
    """L1 and the released contrast of every block: in the place of `ENLCALoss`."""

    contrast_weight: float = 1e-3

    def __call__(
        self,
        sr: Float[Tensor, "B 3 H W"],
        hr: Float[Tensor, "B 3 H W"],
        embeddings: Sequence[Embeddings],
        *,
        contrast: bool,
        generator: torch.Generator | None = None,
    ) -> LossTerms:
        """The loss of a batch. All queries are used, so `generator` is not."""
        l1 = l1_loss(sr, hr)
        if not (contrast and embeddings):
            return LossTerms(l1, l1, l1.new_zeros(()), l1.new_zeros(()))
        losses, gaps = [], []
        for seen in embeddings:
            relevant, irrelevant = released_contrast(seen.q, seen.k)
            gap = torch.log(relevant / (irrelevant + 1e-6))
            losses.append((-gap + 1).relu().mean())
            gaps.append(gap.mean())
        loss, gap = torch.stack(losses).mean(), torch.stack(gaps).mean()
        return LossTerms(l1 + self.contrast_weight * loss, l1, loss, gap)


def as_released(network: SRNetwork) -> SRNetwork:
    """A copy of `network` whose attention is the released code's, with the same weights and the same F."""
    twin = copy.deepcopy(network)
    for block in twin.modules():
        if isinstance(block, NonLocalBlock):
            if not (isinstance(block.attend, LinearAttend) and isinstance(block.embed, Embed)):
                raise ValueError('the released code has no other attention than "linear"')
            block.attend = ReleasedAttend(block.attend.projection)
            block.embed.eps = RELEASED_NETWORK["embed_eps"]
    return twin
