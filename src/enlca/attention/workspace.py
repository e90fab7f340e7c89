"""Reusable buffers, and how `chunked.py` splits the positions of a feature map into chunks.

On a CPU each chunk has one part per thread, stacked along the batch dimension: every thread runs all products
of its part on data that is already in its own cache.

Letters:  B batch   G images, or parts of one image   D embedding channels   M random features   N positions
         n positions of a chunk, or of one of its parts
"""

import math
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from enlca.attention.features import LARGEST_COORDINATE

# Positions in one product, at most. Memory then does not grow with the image, and a sum over 10^6 positions
# in one product would lose three digits in float32. Not a power of two: rows of 4096 or 2048 numbers map to
# the same few cache lines.
CHUNK = 4000
# Features of a chunk per CPU thread, at most (1 MB): they stay in its cache.
CPU_FEATURES = 256_000
# Fewer positions than this per thread cost more in synchronisation than they gain.
MIN_PART = 256
# Rows that fill whole cache lines: products and sums of other rows take 5 % longer.
ALIGNMENT = 16


class _ThreadBuffers(threading.local):
    """Buffers of each thread, some megabytes: memory allocated per call would be cleared per call."""

    def __init__(self):
        self.by_dtype: dict[torch.dtype, dict[str, Tensor]] = defaultdict(dict)


_THREAD_BUFFERS = _ThreadBuffers()


class Buffers:
    """Memory that one result after the other is written to: this thread's on a CPU, else one's own.

    Args:
        like: a tensor on the device of the buffers.
        dtype: their type.

    Attributes:
        on_host: whether values of `like` may be read on the host. On a GPU that would synchronise, and
            subclasses of Tensor (fake tensors, functional tensors) may have no values.
    """

    def __init__(self, like: Tensor, dtype: torch.dtype):
        self.dtype = dtype
        self.device = like.device
        self.on_host = like.device.type == "cpu" and type(like) is Tensor
        # By name, flat.
        self._memory = _THREAD_BUFFERS.by_dtype[dtype] if self.on_host else {}

    def __call__(self, name: str, *shape: int) -> Tensor:
        """Return the buffer `name` in this shape, uninitialised; earlier views of it become invalid."""
        size = math.prod(shape)
        if name not in self._memory or self._memory[name].numel() < size:
            # A tensor made in inference mode could not be written to outside of it.
            with torch.inference_mode(False):
                self._memory[name] = torch.empty(size, dtype=self.dtype, device=self.device)
        return self._memory[name][:size].view(shape)


class Workspace:
    """The chunks of one pass over the positions of `u`, and the buffers that all chunks and calls share.

    Attributes:
        buffer: memory by name; see `Buffers`.
    """

    def __init__(self, u: Float[Tensor, "B D N"], n_features: int, dtype: torch.dtype):
        n, threads, largest = u.shape[-1], 1, CHUNK
        if u.device.type == "cpu":
            threads = max(1, min(torch.get_num_threads(), CHUNK // MIN_PART, n // MIN_PART))
            largest = min(CHUNK, max(MIN_PART, CPU_FEATURES // n_features))
        # As many images at once as fit one chunk, equally many per thread; large images one at a time.
        images = largest * threads // max(1, n)
        self.images_per_chunk = max(1, images - images % threads)
        self.parts = threads if self.images_per_chunk == 1 else 1
        # Chunks of equal size: a small last one costs as many calls as a full one.
        count = self.parts * max(1, -(-n // (self.parts * largest)))
        self.size = -(-n // (ALIGNMENT * count)) * ALIGNMENT
        self.dtype = dtype
        self.u = u
        self.buffer = Buffers(u, dtype)

    def images(self, *tensors: Float[Tensor, "B *_"]) -> Iterator[tuple[Tensor, ...]]:
        """Split each tensor along the batch: the images that are processed together."""
        if len(self.u) <= self.images_per_chunk:
            return iter([tensors])
        return zip(*(tensor.split(self.images_per_chunk) for tensor in tensors), strict=True)

    def chunks(self, *tensors: Float[Tensor, "B _ N"]) -> Iterator[tuple[Float[Tensor, "G _ n"], ...]]:
        """Split each tensor along the positions; no chunks if there are no positions."""
        return zip(*map(self._split, tensors), strict=True)

    def _split(self, u: Float[Tensor, "B C N"]) -> Sequence[Float[Tensor, "G C n"]]:
        if self.parts == 1:
            return u.split(self.size, dim=-1) if u.shape[-1] else ()
        # Chunks of equal parts first; then the rest in smaller parts; then what cannot be divided any more.
        chunks: list[Tensor] = []
        image, start, size = u.squeeze(0), 0, self.size
        while size > 0:
            count = (image.shape[-1] - start) // (size * self.parts)
            span = image.narrow(-1, start, count * self.parts * size)
            chunks += span.unflatten(-1, (count, self.parts, size)).permute(1, 2, 0, 3).unbind()
            start += count * self.parts * size
            size = (image.shape[-1] - start) // self.parts
        return [*chunks, u[..., start:]] if start < image.shape[-1] else chunks

    def partial_sums(self, like: Float[Tensor, "B *_"]) -> Float[Tensor, "_ *_"]:
        """Return zeros for one sum per part of a chunk: adding up the parts once, at the end, is cheaper."""
        return like.new_zeros(self.parts * len(like), *like.shape[1:])

    def staging(self, into: Float[Tensor, "G X n"]) -> Float[Tensor, "G X n"]:
        """Return `into` if products can be written there without a copy, else a buffer of its shape."""
        channels_last = has_channels_last(into)
        rows = into.mT if channels_last else into
        if into.dtype == self.dtype and (len(into) == 1 or rows.is_contiguous()):
            return into
        staging = self.buffer("staging", *rows.shape)
        return staging.mT if channels_last else staging

    def multiply_into(
        self, into: Float[Tensor, "G X n"], a: Float[Tensor, "G X Y"], b: Float[Tensor, "G Y n"]
    ) -> None:
        """Write a @ b to `into`, in its type."""
        product = multiply(a, b, out=self.staging(into))
        if product is not into:
            into.copy_(product)

    def clamped(self, u: Float[Tensor, "G D n"]) -> Float[Tensor, "G D n"]:
        """Return `u` with coordinates so small that their squares are finite, in the workspace's type."""
        return u.to(self.dtype).clamp(-LARGEST_COORDINATE, LARGEST_COORDINATE)

    def log_features(
        self, f: Float[Tensor, "M D"], u: Float[Tensor, "G D n"], *, squares: bool = True
    ) -> Float[Tensor, "G M n"]:
        """Return F u - |u|^2 / 2, or F u without `squares`, in the buffer "features"."""
        # The product first: it loads u into the cache while it computes.
        log_phi = self.buffer("features", len(u), len(f), u.shape[-1])
        torch.bmm(f.expand(len(u), -1, -1), u, out=log_phi)
        if squares:
            square = torch.mul(u, u, out=self.buffer("squares", *u.shape))
            log_phi.sub_(square.sum(dim=1, keepdim=True), alpha=0.5)
        return log_phi

    def query_weights(
        self,
        queries: Float[Tensor, "G D n"],
        log_total: Float[Tensor, "#G 1 M"],
        f: Float[Tensor, "M D"],
        floor: float,
    ) -> tuple[Float[Tensor, "G n M"], Float[Tensor, "G n M"]]:
        """Return each query's weights, which sum to one, and the share of them that depends on the query.

        The rest is the floor's; without a floor both are the same tensor. One of them is in the buffer
        "features".
        """
        b, _, n = queries.shape
        out = self.buffer("features", b, n, len(f))
        logits = torch.baddbmm(log_total, queries.mT, f.mT.expand(b, -1, -1), out=out)
        if floor <= 0:
            weights = softmax_(logits)
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
    """Return whether the channels of a position are adjacent in memory."""
    # A compiler's symbolic sizes give a symbolic bool.
    return bool(u.stride(1) == 1 and u.shape[1] > 1)


def empty_output(q: Float[Tensor, "B D N"], mean: Float[Tensor, "B M E"]) -> Float[Tensor, "B E N"]:
    """Allocate attention's output for the queries `q`, in their type and memory layout."""
    b, n, e = q.shape[0], q.shape[2], mean.shape[2]
    return q.new_empty(b, n, e).mT if has_channels_last(q) else q.new_empty(b, e, n)


def multiply(
    a: Float[Tensor, "G X Y"], b: Float[Tensor, "G Y n"], *, out: Float[Tensor, "G X n"]
) -> Float[Tensor, "G X n"]:
    """Write a @ b to `out`, as (b^T a^T)^T where its channels are last: PyTorch copies results otherwise."""
    if has_channels_last(out):
        torch.bmm(b.mT, a.mT, out=out.mT)
        return out
    return torch.bmm(a, b, out=out)


def add_product_(sums: Float[Tensor, "_ X Y"], a: Float[Tensor, "G X n"], b: Float[Tensor, "G n Y"]) -> None:
    """Add a @ b to the first G of `sums`, by an operation that PyTorch's FLOP counter knows."""
    first = sums[: len(a)]
    torch.baddbmm(first, a, b, out=first)


def sum_parts(u: Float[Tensor, "_ *_"], images: int) -> Float[Tensor, "B *_"]:
    """Add up the sums over the parts of an image; return `u` itself if it holds one sum per image."""
    return u if len(u) == images else u.sum(dim=0, keepdim=True)


def softmax_(logits: Tensor) -> Tensor:
    """Softmax over the last dimension; in place on a CPU, where every number is read before it is written."""
    return torch.softmax(logits, dim=-1, out=logits if logits.device.type == "cpu" else None)
