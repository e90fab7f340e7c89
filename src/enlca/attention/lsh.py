"""Non-local sparse attention: attend among positions that hash alike (NLSA; Mei, Fan, Zhou 2021).

The paper's main comparison. ENLA estimates all pairs; NLSA computes few pairs exactly. A random rotation R
sends similar vectors to the same corner of a cross-polytope,

    code(x) = argmax [ x R, -x R ]                                       spherical hashing

and attention stays among positions of like codes. Buckets differ in size, so positions are sorted by
code and cut into chunks of equal size; each chunk attends to itself and to the chunks before and after
it, cyclically. One rotation may separate similar vectors, so there are several rounds, each with its own;
round r is weighted by its share of the softmax's denominator:

    y = sum_r softmax_r( log_total_r ) y_r              log_total_r = logsumexp_j( q.k_j ) in round r

Letters:  B batch   D embedding channels   E value channels   N positions   R rounds
          K axes of a rotation: 2 K buckets   L positions of a chunk   C chunks   W = 3 L keys of a chunk
"""

from functools import reduce
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

MAX_BUCKETS = 128


class Round(NamedTuple):
    """The output of one round of hashing, and the logarithm of its softmax's denominator."""

    y: Float[Tensor, "B E N"]
    log_total: Float[Tensor, "B N"]


def bucket_count(n_positions: int, chunk: int) -> int:
    """Return NLSA's number of buckets: even, at most MAX_BUCKETS, about one chunk per bucket.

    NOTE(nlsn): for fewer positions than a chunk NLSA's code has no buckets, and fails. Here it has two: there
    is only one chunk then, so the number does not matter.
    """
    chunks = n_positions // chunk
    return max(2, min(chunks + chunks % 2, MAX_BUCKETS))


def hash_codes(x: Float[Tensor, "B D N"], rotations: Float[Tensor, "R D K"]) -> Int[Tensor, "B R N"]:
    """Return the nearest of the 2 K directions +-R in every round: a bucket from 0 to 2 K - 1."""
    rotated = torch.einsum("bdn,rdk->brnk", x, rotations)
    return torch.cat([rotated, -rotated], dim=-1).argmax(dim=-1)


def bucket_attention(
    q: Float[Tensor, "B D N"],
    k: Float[Tensor, "B D N"],
    v: Float[Tensor, "B E N"],
    codes: Int[Tensor, "B N"],
    *,
    chunk: int,
) -> Round:
    """Attend from each chunk of the sorted positions to itself and the chunks before and after it.

    Positions of equal code keep their order. The last chunk is padded with keys of zero weight.

    NOTE(nlsn): NLSA's code pads with copies of the last positions, and with fewer than three chunks one is
    both neighbours: such keys count two or three times there. Here each key counts once.
    """
    n = codes.shape[-1]
    chunk = min(chunk, n)
    n_chunks = -(-n // chunk)
    order = codes.argsort(dim=-1, stable=True)
    places = nn.functional.pad(order, (0, n_chunks * chunk - n))
    shifts = (0, 1, -1)[:n_chunks]

    def chunks(u: Float[Tensor, "B X N"]) -> Float[Tensor, "B X C L"]:
        return u.gather(-1, places.unsqueeze(1).expand(-1, u.shape[1], -1)).unflatten(-1, (n_chunks, chunk))

    def with_neighbours(u: Tensor) -> Tensor:
        return torch.cat([u.roll(shift, dims=-2) for shift in shifts], dim=-1)

    scores = torch.einsum("bdcl,bdcw->bclw", chunks(q), with_neighbours(chunks(k)))
    if n_chunks * chunk > n:
        padding = (torch.arange(n_chunks * chunk, device=q.device) >= n).unflatten(0, (n_chunks, chunk))
        scores = scores.masked_fill(with_neighbours(padding).unsqueeze(1), -torch.inf)
    log_total = scores.logsumexp(dim=-1)
    y = torch.einsum("bclw,becw->becl", scores.softmax(dim=-1), with_neighbours(chunks(v)))
    back = order.argsort(dim=-1)
    return Round(
        y.flatten(-2).gather(-1, back.unsqueeze(1).expand(-1, y.shape[1], -1)),
        log_total.flatten(-2).gather(-1, back),
    )


class LSHAttend(nn.Module):
    """NLSA as a module. No parameters and no buffers: rotations come from a seed.

    In evaluation every forward uses the rotations of `seed`. In training every forward draws new ones from
    the module's own generator, which starts at `seed` and which `redraw_` reseeds.

    NOTE(nlsn): NLSA's code draws new rotations from the global generator in evaluation as well, so its
    scores vary from run to run.

    Args:
        n_hashes: rounds of hashing.
        chunk: positions of a chunk.
        seed: of the rotations.

    Raises:
        ValueError: if `n_hashes` or `chunk` is below 1.
    """

    def __init__(self, *, n_hashes: int = 4, chunk: int = 144, seed: int = 0):
        super().__init__()
        if n_hashes < 1 or chunk < 1:
            raise ValueError(f"n_hashes and chunk must be at least 1, got {n_hashes} and {chunk}")
        self.n_hashes = n_hashes
        self.chunk = chunk
        self.seed = seed
        self.generator = torch.Generator().manual_seed(seed)

    def redraw_(self, generator: torch.Generator) -> None:
        """Reseed the rotations of training from `generator`; evaluation is not changed."""
        seed = torch.randint(2**62, (), generator=generator, device=generator.device)
        self.generator.manual_seed(int(seed))

    def rotations(self, dim: int, n_positions: int) -> Float[Tensor, "R D K"]:
        """Draw the rotations of the next forward, on the CPU: the same on every device."""
        generator = self.generator if self.training else torch.Generator().manual_seed(self.seed)
        axes = bucket_count(n_positions, self.chunk) // 2
        return torch.randn(self.n_hashes, dim, axes, generator=generator, device="cpu")

    def forward(
        self, q: Float[Tensor, "B D N"], k: Float[Tensor, "B D N"], v: Float[Tensor, "B E N"]
    ) -> Float[Tensor, "B E N"]:
        """Attend from each position to those of similar hash; in v's type.

        Queries are hashed, and a key gets the code of the query at its position: NLSA searches for similar
        *queries*. Those have similar keys where q and k are parallel, as in NLSA and after `SharedEmbed`.
        """
        with torch.autocast(q.device.type, enabled=False):
            q, k = (u.to(torch.promote_types(u.dtype, torch.float32)) for u in (q, k))
            values = v.to(q.dtype)
            codes = hash_codes(q.detach(), self.rotations(*q.shape[1:]).to(q))
            rounds = [bucket_attention(q, k, values, code, chunk=self.chunk) for code in codes.unbind(1)]
            shares = torch.stack([each.log_total for each in rounds]).softmax(dim=0)
            parts = (share.unsqueeze(1) * each.y for share, each in zip(shares, rounds, strict=True))
            return reduce(torch.add, parts).to(v.dtype)
