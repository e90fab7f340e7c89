"""ENLA by exponentials as they are, where none of them is out of range: the fast way on a processor.

`blocks.py` shifts each exponent by the largest of its row and divides, which takes three more walks over the
features. At the lengths that embeddings have (|u|^2 = k = 6, |f| about 8) there is nothing to shift: the
features lie between 1e-13 and 1e10. So the sums of Eq. 5-6 are taken as they are printed, and judged by the
M x (E + 1) numbers of the summary and the one for each query: where those are ordinary, nothing was lost on
the way; where they are not, or not numbers, the caller goes the other way. Only for a `room.readable`.

    summarise   phi_rj  = exp( F_r.k_j - |k_j|^2/2 )
                total_r = sum_j phi_rj             mean_r = sum_j phi_rj v_j / total_r
    read        s_r     = total_r / max total      y_i = sum_r w_ir mean_r / sum_r w_ir
                w_ir    = s_r exp( F_r.q_i )       (|q_i|^2/2 cancels)

Letters:  B batch   D embedding channels   M random features   N positions   E value channels
"""

import torch
from jaxtyping import Float
from torch import Tensor

from enlca.attention.room import Room, add_product, multiply, per_image

# In float32 what underflows is below 1e-37: nothing beside a sum of 1e-18, and products of its terms with
# values like these keep their digits. Above, all is far from overflow.
SUMS = 1e-18, 1e18
VALUES = 1e-10, 1e10


def summarise(
    room: Room,
    f: Float[Tensor, "M D"],
    k: Float[Tensor, "B D N"],
    v: Float[Tensor, "B E N"],
    floor: float,
    mean: Float[Tensor, "B M E"],
    log_total: Float[Tensor, "B M 1"],
) -> bool:
    """Whether `mean` and `log_total` hold the summary now; else, out of range, they are as before."""
    n, dtype = k.shape[-1], f.dtype
    total, sums = room.sums(log_total), room.sums(mean)
    for keys, values in room.blocks(k, v):
        phi = room.log_phi(f, keys.to(dtype)).exp_()
        total[: len(phi)] += phi.sum(dim=-1, keepdim=True)
        add_product(sums, phi, values.to(dtype).mT)
    total, sums = per_image(total, len(k)), per_image(sums, len(k))
    if floor > 0:
        total += floor * n
        sums += floor * v.sum(dim=-1, dtype=dtype).unsqueeze(1)
    sums /= total
    if not (_are_ordinary(total, n) and _has_ordinary_values(sums)):
        return False
    mean.copy_(sums)
    torch.log(total, out=log_total)
    return True


def read(
    room: Room,
    f: Float[Tensor, "M D"],
    q: Float[Tensor, "B D N"],
    mean: Float[Tensor, "B M E"],
    log_total: Float[Tensor, "B 1 M"],
    floor: float,
    out: Float[Tensor, "B E N"],
) -> bool:
    """Whether `out` holds what each query sees; nothing of use where numbers are out of range."""
    share = (log_total - log_total.amax(dim=-1, keepdim=True)).exp_()
    if not (_are_ordinary(share) and _has_ordinary_values(mean)):
        return False
    sums = (mean * share.mT).mT.contiguous()
    totals = q.new_empty(len(q), 1, q.shape[-1], dtype=f.dtype)
    for queries, total, y in room.blocks(q, totals, out):
        # Beside a floor |q|^2/2 does not cancel.
        phi = room.log_phi(f, queries.to(f.dtype), squares=floor > 0).exp_()
        torch.bmm(share.expand(len(phi), -1, -1), phi, out=total)
        product = multiply(sums.expand(len(phi), -1, -1), phi, out=room.staging(y))
        if floor > 0:
            total += floor * share.sum(dim=-1, keepdim=True)
            product += floor * sums.sum(dim=-1, keepdim=True)
        torch.div(product, total, out=y)
    return _are_ordinary(totals)


def _are_ordinary(sums: Tensor, of: int = 1) -> bool:
    """Whether each sum is, for each of the numbers that it is made of."""
    lowest, highest = sums.aminmax()
    return of * SUMS[0] <= lowest.item() and highest.item() <= of * SUMS[1]


def _has_ordinary_values(mean: Tensor) -> bool:
    """Whether the largest is neither too small nor too large."""
    lowest, highest = mean.aminmax()
    return VALUES[0] <= max(-lowest.item(), highest.item()) <= VALUES[1]
