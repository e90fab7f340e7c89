"""How `blocks.py` walks over positions: block by block, in memory that is asked for once.

Letters:  B batch   D embedding channels   M random features   N positions   n those of a block
"""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from enlca.attention.features import LARGEST_COORDINATE

# At most this many positions at a time: the memory of attention does not grow with the picture; and a
# matrix product that sums 10^6 positions in one go loses three digits in float32. Not a power of two: rows
# of 4096 or 2048 numbers would all fall on the same few lines of a processor's cache.
BLOCK = 4000
# On a processor at most so many features at a time for each thread (1 MB): they stay in its caches, and the
# C library keeps memory of this size for the next call, where it would fetch larger pieces anew.
CPU_FEATURES = 256_000


class Room:
    """A walk over the positions of `u`, and its memory: asked for once, used for block after block."""

    def __init__(self, u: Float[Tensor, "B D N"], n_features: int, dtype: torch.dtype):
        b, _, n = u.shape
        most = BLOCK
        if u.device.type == "cpu":
            most = min(BLOCK, max(256, torch.get_num_threads() * CPU_FEATURES // n_features))
        # Blocks of one size: a small one at the end costs as many calls as a full one.
        self.size = -(-n // max(1, -(-n // most)))
        # As many images at a time as fit one block; one where they are large.
        self.together = max(1, most // max(1, n))
        rows = self.size * min(self.together, b)
        self.numbers, self.dtype = rows * n_features, dtype
        self.u = u
        self.rooms: dict[str, Tensor] = {}

    def images(self, *tensors: Float[Tensor, "B *_"]) -> Iterator[tuple[Tensor, ...]]:
        """Parts of the batch."""
        return zip(*(tensor.split(self.together) for tensor in tensors), strict=True)

    def blocks(self, *tensors: Float[Tensor, "B _ N"]) -> Iterator[tuple[Tensor, ...]]:
        """Parts of the positions; none if there are none."""
        if not tensors[0].shape[-1]:
            return iter(())
        return zip(*(tensor.split(self.size, dim=-1) for tensor in tensors), strict=True)

    def view(self, name: str, *shape: int) -> Tensor:
        """The room called `name` in this shape; what was there before is lost."""
        if name not in self.rooms:
            self.rooms[name] = self.u.new_empty(self.numbers, dtype=self.dtype)
        return self.rooms[name][: math.prod(shape)].view(shape)

    def limited(self, u: Float[Tensor, "B D n"]) -> Float[Tensor, "B D n"]:
        """`u`, with every coordinate small enough for its square to be finite."""
        return u.to(self.dtype).clamp(-LARGEST_COORDINATE, LARGEST_COORDINATE)

    def log_phi(self, f: Float[Tensor, "B M D"], u: Float[Tensor, "B D n"]) -> Float[Tensor, "B M n"]:
        """F u - |u|^2 / 2, in the room of features."""
        squares = u.square().sum(dim=1, keepdim=True)
        out = self.view("phi", len(u), f.shape[1], u.shape[-1])
        return torch.baddbmm(squares, f, u, beta=-0.5, out=out)

    def query_weights(
        self,
        queries: Float[Tensor, "B D n"],
        log_total: Float[Tensor, "B 1 M"],
        f: Float[Tensor, "M D"],
        floor: float,
    ) -> tuple[Float[Tensor, "B n M"], Float[Tensor, "B n M"]]:
        """w, which sum to one for each query, and their share that depends on the query (not the floor's).

        One of them is in the room of features; without a floor they are the same tensor.
        """
        b, _, n = queries.shape
        out = self.view("phi", b, n, len(f))
        logits = torch.baddbmm(log_total, queries.mT, f.mT.expand(b, -1, -1), out=out)
        if floor <= 0:
            weights = softmax(logits)
            return weights, weights
        minus_half_square = queries.square().sum(dim=1).mul_(-0.5).unsqueeze(-1)
        highest_total = log_total.amax(dim=-1, keepdim=True)
        log_flat = math.log(floor) + highest_total
        shift = torch.maximum(logits.amax(dim=-1, keepdim=True).add_(minus_half_square), log_flat)
        own = logits.sub_(shift - minus_half_square).exp_()
        # exp(log_total_r + log floor - shift_i), a product of two factors that are at most 1.
        weights = torch.addcmul(own, (log_total - highest_total).exp_(), (log_flat - shift).exp_())
        total = weights.sum(dim=-1, keepdim=True)
        return weights.div_(total), own.div_(total)


def softmax(logits: Tensor) -> Tensor:
    """Over the last dimension; on a processor in place, where each number is read before it is written."""
    return torch.softmax(logits, dim=-1, out=logits if logits.device.type == "cpu" else None)
