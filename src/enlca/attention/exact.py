"""Standard non-local attention over all pairs of positions, which ENLA estimates.  (Eq. 1)

Letters:  B batch   D embedding channels   N positions   Nq positions of queries   E value channels
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention


def dense_attention(
    q: Float[Tensor, "B D Nq"], k: Float[Tensor, "B D N"], v: Float[Tensor, "B E N"]
) -> Float[Tensor, "B E Nq"]:
    """Compute Eq. 1 as printed, with the N x N matrix in memory: the reference, for small N."""
    return v @ (q.mT @ k).softmax(dim=-1).mT


# Queries per chunk: PyTorch holds this many x N scores where it has no fused kernel.
QUERY_CHUNK = 1024


class ExactAttend(nn.Module):
    """Eq. 1 through PyTorch's fused attention: quadratic time, memory linear in N. No parameters.

    There is no scale 1/sqrt(D): q and k carry the amplification k instead (Eq. 3).
    """

    def forward(
        self, q: Float[Tensor, "B D Nq"], k: Float[Tensor, "B D N"], v: Float[Tensor, "B E N"]
    ) -> Float[Tensor, "B E Nq"]:
        """Attend from each query to all positions; in v's type."""
        with torch.autocast(q.device.type, enabled=False):
            dtype = torch.promote_types(q.dtype, torch.float32)
            # PyTorch's fused kernel wants one number of channels; zeros change no product.
            widest = max(q.shape[1], v.shape[1])
            queries, keys, values = (
                pad(u.to(dtype).mT, (0, widest - u.shape[1])).unsqueeze(1).contiguous() for u in (q, k, v)
            )
            parts = [
                scaled_dot_product_attention(chunk, keys, values, scale=1.0)
                for chunk in queries.split(QUERY_CHUNK, dim=-2)
            ]
            return torch.cat(parts, dim=-2).squeeze(1)[..., : v.shape[1]].mT.to(v.dtype)
