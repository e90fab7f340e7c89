"""How `blocks.py` walks over positions: block by block, in memory that is used again and again.

On a processor every block has a part for each thread, as a batch has images: what a thread has in its own
cache it goes on with, from the first product to the last.

Letters:  B batch   G images, or parts of one   D embedding channels   M random features   N positions
         n those of a block, or of one of its parts
"""

import math
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from enlca.attention.features import LARGEST_COORDINATE

# At most this many positions in one product: the memory of attention does not grow with the picture; and a
# matrix product that sums 10^6 positions in one go loses three digits in float32. Not a power of two: rows of
# 4096 or 2048 numbers would all fall on the same few lines of a processor's cache.
BLOCK = 4000
# On a processor at most so many features at a time for each thread (1 MB): they stay in its caches.
CPU_FEATURES = 256_000
# Fewer positions than these are not worth a thread of their own.
SMALLEST_PART = 256
# Rows of a whole number of cache lines: products and sums of others take a twentieth longer.
ALIGNED = 16


class _Kept(threading.local):
    """Each thread's memory for blocks, some megabytes: a call's own would be new, and cleared, each time."""

    def __init__(self):
        self.rooms: dict[torch.dtype, dict[str, Tensor]] = defaultdict(dict)


_KEPT = _Kept()


class Room:
    """A walk over the positions of `u`, and its memory: one for all blocks and all calls of a thread."""

    def __init__(self, u: Float[Tensor, "B D N"], n_features: int, dtype: torch.dtype):
        n, threads, most = u.shape[-1], 1, BLOCK
        if u.device.type == "cpu":
            threads = max(1, min(torch.get_num_threads(), BLOCK // SMALLEST_PART, n // SMALLEST_PART))
            most = min(BLOCK, max(SMALLEST_PART, CPU_FEATURES // n_features))
        # As many images at a time as fit one block, equally many for each thread; one where they are large.
        together = most * threads // max(1, n)
        self.together = max(1, together - together % threads)
        self.parts = threads if self.together == 1 else 1
        # Parts of one size: a small one at the end costs as many calls as a full one.
        count = self.parts * max(1, -(-n // (self.parts * most)))
        self.size = -(-n // (ALIGNED * count)) * ALIGNED
        self.dtype = dtype
        self.u = u
        # Whether numbers can be looked at: a GPU would have to be waited for, and tensors that only count
        # operations have none, nor memory that others could use.
        self.readable = u.device.type == "cpu" and type(u) is Tensor
        self.rooms = _KEPT.rooms[dtype] if self.readable else {}

    def images(self, *tensors: Float[Tensor, "B *_"]) -> Iterator[tuple[Tensor, ...]]:
        """Parts of the batch."""
        if len(self.u) <= self.together:
            return iter([tensors])
        return zip(*(tensor.split(self.together) for tensor in tensors), strict=True)

    def blocks(self, *tensors: Float[Tensor, "B _ N"]) -> Iterator[tuple[Float[Tensor, "G _ n"], ...]]:
        """Blocks of positions: of all images, or in parts of one; none if there are no positions."""
        return zip(*map(self._blocks, tensors), strict=True)

    def _blocks(self, u: Float[Tensor, "B C N"]) -> Sequence[Float[Tensor, "G C n"]]:
        if self.parts == 1:
            return u.split(self.size, dim=-1) if u.shape[-1] else ()
        # Equal blocks first, all at once; then what is left, in smaller parts; then what no longer has parts.
        found: list[Tensor] = []
        one, start, size = u.squeeze(0), 0, self.size
        while size > 0:
            count = (one.shape[-1] - start) // (size * self.parts)
            some = one.narrow(-1, start, count * self.parts * size)
            found += some.unflatten(-1, (count, self.parts, size)).permute(1, 2, 0, 3).unbind()
            start += count * self.parts * size
            size = (one.shape[-1] - start) // self.parts
        return [*found, u[..., start:]] if start < one.shape[-1] else found

    def view(self, name: str, *shape: int) -> Tensor:
        """The room called `name` in this shape; what was there before is lost."""
        numbers = math.prod(shape)
        if name not in self.rooms or self.rooms[name].numel() < numbers:
            # A tensor of inference mode could not be written to outside of it.
            with torch.inference_mode(False):
                self.rooms[name] = torch.empty(numbers, dtype=self.dtype, device=self.u.device)
        return self.rooms[name][:numbers].view(shape)

    def sums(self, of: Float[Tensor, "B *_"]) -> Float[Tensor, "_ *_"]:
        """Zeros to add to in each block, for each part of an image: fewer operations than one sum for all."""
        return of.new_zeros(self.parts * len(of), *of.shape[1:])

    def staging(self, into: Float[Tensor, "G X n"]) -> Float[Tensor, "G X n"]:
        """`into`, if `multiply` writes to it without a detour: several have to lie side by side."""
        channels_last = has_channels_last(into)
        rows = into.mT if channels_last else into
        if into.dtype == self.dtype and (len(into) == 1 or rows.is_contiguous()):
            return into
        staging = self.view("staging", *rows.shape)
        return staging.mT if channels_last else staging

    def product(
        self, a: Float[Tensor, "G X Y"], b: Float[Tensor, "G Y n"], *, into: Float[Tensor, "G X n"]
    ) -> None:
        """a @ b, written where it belongs, at once or after a detour."""
        made = multiply(a, b, out=self.staging(into))
        if made is not into:
            into.copy_(made)

    def limited(self, u: Float[Tensor, "G D n"]) -> Float[Tensor, "G D n"]:
        """`u`, with every coordinate small enough for its square to be finite."""
        return u.to(self.dtype).clamp(-LARGEST_COORDINATE, LARGEST_COORDINATE)

    def log_phi(
        self, f: Float[Tensor, "M D"], u: Float[Tensor, "G D n"], *, squares: bool = True
    ) -> Float[Tensor, "G M n"]:
        """F u, less |u|^2 / 2 if `squares` says so, in the room of features."""
        # The product first: it fetches u while it computes, and leaves it in the cache.
        log_phi = self.view("phi", len(u), len(f), u.shape[-1])
        torch.bmm(f.expand(len(u), -1, -1), u, out=log_phi)
        if squares:
            square = torch.mul(u, u, out=self.view("squares", *u.shape))
            log_phi.sub_(square.sum(dim=1, keepdim=True), alpha=0.5)
        return log_phi

    def query_weights(
        self,
        queries: Float[Tensor, "G D n"],
        log_total: Float[Tensor, "#G 1 M"],
        f: Float[Tensor, "M D"],
        floor: float,
    ) -> tuple[Float[Tensor, "G n M"], Float[Tensor, "G n M"]]:
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


def has_channels_last(u: Float[Tensor, "B C N"]) -> bool:
    """Whether the channels of a position lie side by side in memory."""
    # Not a bool yet, where sizes are a compiler's symbols.
    return bool(u.stride(1) == 1 and u.shape[1] > 1)


def empty_output(q: Float[Tensor, "B D N"], mean: Float[Tensor, "B M E"]) -> Float[Tensor, "B E N"]:
    """Memory for what the queries see of a summary, in their type and laid out as they are."""
    b, n, e = q.shape[0], q.shape[2], mean.shape[2]
    return q.new_empty(b, n, e).mT if has_channels_last(q) else q.new_empty(b, e, n)


def multiply(
    a: Float[Tensor, "G X Y"], b: Float[Tensor, "G Y n"], *, out: Float[Tensor, "G X n"]
) -> Float[Tensor, "G X n"]:
    """a @ b in `out`; as (b^T a^T)^T where its channels are last: PyTorch writes to rows without a detour."""
    if has_channels_last(out):
        torch.bmm(b.mT, a.mT, out=out.mT)
        return out
    return torch.bmm(a, b, out=out)


def per_image(u: Float[Tensor, "_ *_"], images: int) -> Float[Tensor, "B *_"]:
    """Sums over the parts of an image; `u` itself, where it has one number for each image."""
    return u if len(u) == images else u.sum(dim=0, keepdim=True)


def add_product(sums: Float[Tensor, "_ X Y"], a: Float[Tensor, "G X n"], b: Float[Tensor, "G n Y"]) -> None:
    """sums += a @ b in the first G of them; by an operation that PyTorch's FLOP counter knows."""
    here = sums[: len(a)]
    torch.baddbmm(here, a, b, out=here)


def softmax(logits: Tensor) -> Tensor:
    """Over the last dimension; on a processor in place, where each number is read before it is written."""
    return torch.softmax(logits, dim=-1, out=logits if logits.device.type == "cpu" else None)
