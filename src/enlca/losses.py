"""What training minimises: L1 plus the contrastive loss, after a warm-up.  (Eq. 10-12)

L2 in place of L1 is for the last steps of a run that is judged by PSNR.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import l1_loss, mse_loss

from enlca.attention.block import Embeddings
from enlca.attention.contrastive import contrastive_loss

KINDS = ("l1", "l2")


class LossTerms(NamedTuple):
    """The loss and what it is made of; `contrast` and `gap` are zero during the warm-up.

    What `total` has beyond them is the weighted loss of gradients; it has the squared error in place of `l1`
    where the loss is of that kind.
    """

    total: Float[Tensor, ""]
    l1: Float[Tensor, ""]
    contrast: Float[Tensor, ""]
    gap: Float[Tensor, ""]


@dataclass(frozen=True, kw_only=True)
class ENLCALoss:
    """L = L_rec + lambda_cl L_cl.  (Eq. 11-12)

    L_cl is averaged over the network's non-local blocks; the paper does not say how it joins them.

    Args:
        kind: L_rec of pixels: "l1", the paper's, or "l2", the squared error, which PSNR counts.
        teacher: share of the teacher's picture in the target of L_rec, where there is a teacher
            (`data.teacher`); the rest is HR.
        gradient: weight in L_rec of the L1 between the differences of neighbouring pixels: blurred edges cost
            more, a wrong mean does not. 0 switches it off.
        contrast_weight: lambda_cl; 0 switches the contrastive loss off.
        relevant: n1, a share of the positions or a count.
        start: n2, the first irrelevant rank, a share or a count.
        margin: b.
        hinge: clamp each query's term at zero, as the released code does.
        irrelevant_floor: added to the irrelevant mean; 1e-6 in the released code.
        anchors: random queries of each image to use; None is all of them.
    """

    kind: str = "l1"
    teacher: float = 0.0
    gradient: float = 0.0
    contrast_weight: float = 1e-3
    # int first: a YAML reader that tried float first would make a share of a count.
    relevant: int | float = 0.02
    start: int | float = 0.08
    margin: float = 1.0
    hinge: bool = False
    irrelevant_floor: float = 0.0
    anchors: int | None = None

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"loss.kind must be one of {', '.join(KINDS)}; got {self.kind!r}")
        if not 0 <= self.teacher <= 1:
            raise ValueError(f"teacher must be in [0, 1], got {self.teacher}")
        if not 0 <= self.gradient < math.inf:
            raise ValueError(f"gradient must be finite and not negative, got {self.gradient}")
        for name in ("contrast_weight", "irrelevant_floor"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be finite and not negative, got {getattr(self, name)}")
        if not math.isfinite(self.margin):
            raise ValueError(f"margin must be finite, got {self.margin}")
        if self.anchors is not None and self.anchors < 1:
            raise ValueError(f"anchors must be at least 1, or null for all queries; got {self.anchors}")
        for name, value in (("relevant", self.relevant), ("start", self.start)):
            if not value > 0 or (isinstance(value, float) and value >= 1):
                raise ValueError(f"{name} must be a share between 0 and 1 or a positive count, got {value}")

    def __call__(
        self,
        sr: Float[Tensor, "B 3 H W"],
        hr: Float[Tensor, "B 3 H W"],
        embeddings: Sequence[Embeddings],
        *,
        contrast: bool,
        generator: torch.Generator | None = None,
    ) -> LossTerms:
        """Compute the loss of a batch; `contrast=False` is the warm-up, with L_rec alone."""
        l1 = l1_loss(sr.float(), hr.float())
        zero = l1.new_zeros(())
        total = l1 if self.kind == "l1" else mse_loss(sr.float(), hr.float())
        if self.gradient:
            total = total + self.gradient * gradient_loss(sr.float(), hr.float())
        if not (contrast and embeddings and self.contrast_weight):
            return LossTerms(total, l1, zero, zero)
        blocks = [
            contrastive_loss(
                seen.q,
                seen.k,
                relevant=self.relevant,
                start=self.start,
                margin=self.margin,
                hinge=self.hinge,
                irrelevant_floor=self.irrelevant_floor,
                anchors=self.anchors,
                generator=generator,
            )
            for seen in embeddings
        ]
        loss, gap = (torch.stack(values).mean() for values in zip(*blocks, strict=True))
        return LossTerms(total + self.contrast_weight * loss, l1, loss, gap)


def gradient_loss(sr: Float[Tensor, "B 3 H W"], hr: Float[Tensor, "B 3 H W"]) -> Float[Tensor, ""]:
    """Return the mean L1 between the differences of vertical and of horizontal neighbours."""
    error = sr - hr
    return 0.5 * (error.diff(dim=-2).abs().mean() + error.diff(dim=-1).abs().mean())
