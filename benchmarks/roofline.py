"""ENLA's Triton kernels against the limits of a GPU, and against PyTorch's own operations.

    python -m benchmarks.roofline [--tiles] [--quick]

Two limits are measured first: bytes per second of a large copy (read and written), and operations per second
of a large product in bfloat16. They give two lower bounds of the time of each work: its bytes (q, k and v in,
the result out, each once; with gradients, those and the upstream in, and three gradients out) over the first,
and its products (with gradients three times as many, as features are recomputed) over the second. "by_copy"
and "by_products" are its time over either bound; the larger bound is the one that applies. "in a graph" is a
CUDA graph (`torch.cuda.graph`) of the forward pass: otherwise the time of a small feature map is that of
Python. Times are medians (`triton.testing.do_bench`, which clears the cache).

Both kernels must agree first, in value and gradients. Writes `results/roofline.csv`. `--tiles` tries other
tiles of the kernels instead, at N = 316 x 316, and prints them, the fastest last. `--quick` is a smoke test
with small sizes that writes nothing; with TRITON_INTERPRET=1 it runs without a GPU.
"""

import argparse
import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from benchmarks.report import publish, show
from enlca.attention import ops
from enlca.attention.features import orthogonal_gaussian

SIDES = (10, 100, 316, 1000)
# Channels of q and k, random features, channels of v: the benchmark's everywhere, and the paper's network.
SHAPES = ((64, 128, 64), (64, 128, 256))
# Relative to the largest number, as in tests/attention/triton_cases.py, for sums over more positions.
AGREE = {torch.float32: 1e-5, torch.bfloat16: 2**-6}
Work = Callable[[], Any]


class Ceilings(NamedTuple):
    """Measured limits of the device."""

    bytes_per_second: float
    products_per_second: float


class Case(NamedTuple):
    """One size to measure."""

    dtype: torch.dtype
    n: int
    d: int
    m: int
    e: int

    def inputs(self, device: str) -> tuple[Tensor, Tensor, Tensor]:
        generator = torch.Generator(device).manual_seed(1)
        q, k, v = (
            torch.randn(1, channels, self.n, generator=generator, device=device)
            for channels in (self.d, self.d, self.e)
        )
        for u in (q, k):
            u.mul_(6.0**0.5 / u.norm(dim=1, keepdim=True))
        return q.to(self.dtype), k.to(self.dtype), v.to(self.dtype)

    def moved(self, *, gradients: bool) -> int:
        """Return the bytes of all inputs and results."""
        channels = 6 * self.d + 5 * self.e if gradients else 2 * self.d + 2 * self.e
        return channels * self.n * self.dtype.itemsize

    def operations(self, *, gradients: bool) -> int:
        """Return the operations of the matrix products: four forward, eight backward."""
        return (12 if gradients else 4) * self.n * self.m * (self.d + self.e)


def attention(case: Case, device: str, kernel: str) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    f = orthogonal_gaussian(case.m, case.d, generator=torch.Generator().manual_seed(2)).to(device)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        image = ops.summarise(k, v, f, floor=0.0, kernel=kernel)
        return ops.read(q, *image, f, floor=0.0, kernel=kernel)

    return attend


def forward(case: Case, device: str, kernel: str) -> Work:
    attend, given = attention(case, device, kernel), case.inputs(device)
    return torch.inference_mode()(lambda: attend(*given))


def both(case: Case, device: str, kernel: str) -> Work:
    attend, given = attention(case, device, kernel), [u.requires_grad_() for u in case.inputs(device)]
    upstream = torch.linspace(-1, 1, given[-1].numel(), device=device).view_as(given[-1]).to(case.dtype)
    return lambda: torch.autograd.grad(attend(*given), given, upstream)


def seconds(work: Work, device: str, *, graph: bool = False) -> float:
    """Measure the median of many runs; of three under the interpreter."""
    if device == "cuda":
        from triton import testing  # pyright: ignore[reportMissingImports]

        bench = testing.do_bench_cudagraph if graph else testing.do_bench
        return 1e-3 * cast(float, bench(work, return_mode="median"))
    found = []
    for _ in range(3):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def ceilings(device: str, quick: bool) -> Ceilings:
    """Measure both limits, by a copy larger than caches and a product that fills all multiprocessors."""
    megabytes, side = (1, 64) if quick else (1024, 8192)
    source = torch.randn(megabytes << 18, device=device)
    target = torch.empty_like(source)
    copy = 2 * source.nbytes / seconds(lambda: target.copy_(source), device)
    a, b = torch.randn(2, side, side, device=device, dtype=torch.bfloat16)
    return Ceilings(copy, 2 * side**3 / seconds(lambda: a @ b, device))


def check(device: str, n: int) -> None:
    """Check that both kernels compute the same, before they are timed.

    Raises:
        RuntimeError: if the kernels and PyTorch's operations differ by more than rounding.
    """
    for dtype, (d, m, e) in itertools.product(AGREE, SHAPES):
        case = Case(dtype, n, d, m, e)
        for what in (forward, both):
            mine, theirs = (what(case, device, kernel)() for kernel in ("triton", "torch"))
            pairs = zip(mine, theirs, strict=True) if what is both else [(mine, theirs)]
            for a, b in pairs:
                error = float((a.float() - b.float()).abs().max() / b.float().abs().max())
                if not error <= AGREE[dtype]:
                    raise RuntimeError(f"{case}, {what.__name__}: kernels are off by {error:.1e}")


def rows(device: str, quick: bool) -> Iterator[dict[str, Any]]:
    ceiling = ceilings(device, quick)
    name = torch.cuda.get_device_name() if device == "cuda" else "interpreter"
    directions = [("forward", forward, False), ("both", both, False)]
    if device == "cuda":
        directions.append(("forward, in a graph", forward, True))
    for dtype, shape, side in itertools.product(AGREE, SHAPES, SIDES[:1] if quick else SIDES[1:]):
        case = Case(dtype, side**2, *shape)
        for (direction, work, graph), kernel in itertools.product(directions, ("triton", "torch")):
            taken = seconds(work(case, device, kernel), device, graph=graph)
            gradients = work is both
            copy = case.moved(gradients=gradients) / ceiling.bytes_per_second
            products = case.operations(gradients=gradients) / ceiling.products_per_second
            yield {
                "kernel": kernel,
                "type": str(dtype).removeprefix("torch."),
                **dict(zip("nDME", case[1:], strict=True)),
                "direction": direction,
                "milliseconds": round(1e3 * taken, 4),
                "by_copy": round(taken / copy, 2),
                "by_products": round(taken / products, 2),
                "gpu": name,
                "copy_gb_per_second": round(ceiling.bytes_per_second / 1e9),
                "products_tflop_per_second": round(ceiling.products_per_second / 1e12, 1),
            }


def tiles(device: str, quick: bool) -> list[dict[str, Any]]:
    """Time forward, and forward and backward, with every tile that fits the device; the fastest last."""
    from enlca.attention.triton import launch

    sizes = ((32, 64), (32,), (4,), (64,)) if quick else ((32, 64, 128), (16, 32, 64), (4, 8), (64, 128, 256))
    found = []
    for dtype, shape in itertools.product(AGREE, SHAPES):
        case = Case(dtype, 100 if quick else 316**2, *shape)
        for m, n, warps, parts in itertools.product(*sizes):
            launch.FEW = launch.MANY = launch.MANY_IN_GRADIENTS = launch.Tile(m, n, warps)
            launch.PARTS = parts
            for direction, work in (("forward", forward), ("both", both)):
                try:
                    taken = seconds(work(case, device, "triton"), device)
                except Exception as error:  # a tile too large for the device: Triton's own kind of error
                    print(f"{case}, {launch.FEW}: {type(error).__name__}", file=sys.stderr)
                    continue
                found.append((str(dtype), shape, direction, taken, launch.FEW, parts))
    return [
        {"type": kind, "D, M, E": shape, "direction": direction, "tile": tuple(tile), "parts": parts,
         "milliseconds": round(1e3 * taken, 4)}
        for kind, shape, direction, taken, tile, parts in sorted(found, key=lambda one: (*one[:3], -one[3]))
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiles", action="store_true")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    device, quick = "cuda" if torch.cuda.is_available() else "cpu", arguments.quick
    if device == "cpu" and not (quick and os.environ.get("TRITON_INTERPRET") == "1"):
        raise SystemExit("roofline: needs a CUDA device (TRITON_INTERPRET=1 and --quick show that it works)")
    check(device, 139 if quick else 4801)
    if arguments.tiles:
        show(*tiles(device, quick))
    elif quick:
        show(*rows(device, quick))
    else:
        publish("roofline", *rows(device, quick), threads=torch.get_num_threads())


if __name__ == "__main__":
    main()
