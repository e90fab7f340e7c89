"""What attention adds to a whole network on a processor, and how near a network comes to its convolutions.

    python -m benchmarks.inference [--models enlcn-tiny enlcn-light enlcn] [--threads 2 1] [--quick]

Each network at x4, laid out as `Upscaler` does it, and in the same rounds the same network with its attention
left out, and each of its convolutions by itself on an input of its own size. Checked before anything is
reported: without attention is what the network computes when attention counts for nothing (`res_scale` 0).

    attention_share      1 - without attention / whole
    of_convolutions      all convolutions by themselves / whole: 1 is a network that costs nothing else
"""

import argparse
import copy
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.report import publish, show
from benchmarks.rounds import SCALE, Company, median_ratio, milliseconds, network_called, seconds_of
from enlca.attention.block import NonLocalBlock
from enlca.network.layers import with_fast_convolutions
from enlca.network.sr import SRNetwork
from enlca.runtime.allocator import keep_freed_memory

# Pixels of a side, and rounds: the paper's network takes seconds.
SIZES = {"enlcn-tiny": 128, "enlcn-light": 128, "enlcn": 64}


class Nothing(NonLocalBlock):
    """Attention left out."""

    def __init__(self):
        nn.Module.__init__(self)

    def forward_with_embeddings(self, x: Tensor) -> Any:
        return x, None


def without_attention(network: SRNetwork) -> SRNetwork:
    bare = copy.deepcopy(network)
    for number, stage in enumerate(bare.body):
        if isinstance(stage, NonLocalBlock):
            bare.body[number] = Nothing()
    return bare


def check(network: SRNetwork, bare: SRNetwork) -> None:
    """Raises RuntimeError: the networks differ in more than attention."""
    silent = copy.deepcopy(network)
    for stage in silent.body:
        if isinstance(stage, NonLocalBlock):
            stage.res_scale = 0.0
    lr = torch.rand(1, 3, 23, 29)
    with torch.inference_mode():
        if not torch.equal(silent(lr), bare(lr)) or torch.equal(network(lr), bare(lr)):
            raise RuntimeError("without attention is not the network without attention: nothing to report")


def convolutions(network: SRNetwork, lr: Tensor) -> Callable[[], None]:
    """All convolutions of a forward pass, one after the other, each on numbers of its own."""
    inputs: Counter[tuple[nn.Module, torch.Size]] = Counter()
    handles = [
        module.register_forward_pre_hook(
            lambda module, arguments: inputs.update([(module, arguments[0].shape)])
        )
        for module in network.modules()
        if isinstance(module, nn.Conv2d)
    ]
    with torch.inference_mode():
        network(lr)
    for handle in handles:
        handle.remove()
    numbers = {shape: torch.randn(shape).contiguous(memory_format=torch.channels_last) for _, shape in inputs}

    @torch.inference_mode()
    def work() -> None:
        for (module, shape), times in inputs.items():
            for _ in range(times):
                module(numbers[shape])

    return work


def measure(name: str, threads: int, rounds: int, size: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    network = with_fast_convolutions(network_called(name), torch.device("cpu"))
    bare = without_attention(network)
    check(network, bare)
    lr = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    forward, bare_forward = (torch.inference_mode()(module.forward) for module in (network, bare))
    works = {
        "whole": lambda: forward(lr),
        "bare": lambda: bare_forward(lr),
        "convolutions": convolutions(network, lr),
    }
    with Company() as company:
        seconds = seconds_of(works, rounds)
    whole = milliseconds(seconds["whole"])
    return {
        "model": name,
        "scale": SCALE,
        "height": size,
        "width": size,
        "threads_used": threads,
        "attention_share": round(1 - median_ratio(seconds["bare"], seconds["whole"]), 3),
        "of_convolutions": median_ratio(seconds["convolutions"], seconds["whole"]),
        "milliseconds": whole,
        "pictures_per_second": round(1000 / whole, 2),
        "output_megapixels_per_second": round(SCALE**2 * math.prod(lr.shape[2:]) / whole / 1000, 2),
        "others": company.share,
        "rounds": rounds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=sorted(SIZES), default=list(SIZES))
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="see that it works; write nothing")
    arguments = parser.parse_args()
    # As in the command.
    keep_freed_memory()
    rows = [
        measure(
            name,
            threads,
            1 if arguments.quick else max(3, arguments.rounds // (3 if name == "enlcn" else 1)),
            24 if arguments.quick else SIZES[name],
        )
        for name in arguments.models
        for threads in arguments.threads
    ]
    if arguments.quick:
        show(*rows)
    else:
        publish("inference", *rows, threads=max(arguments.threads))


if __name__ == "__main__":
    main()
