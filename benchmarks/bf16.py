"""What bfloat16 costs in PSNR on a processor.

    python -m benchmarks.bf16 Set5 Set14 [--models enlcn-tiny enlcn-light] [--scales 4 3 2]

The folders are of pairs like Set5: PSNR-Y by our evaluation, of the bundled weights, in float32 and in
bfloat16. What it gains in time is in `benchmarks.engines`.
"""

import argparse
from pathlib import Path
from typing import Any

import torch

from benchmarks.engines import FORM
from benchmarks.report import publish
from benchmarks.scores import scores_of
from enlca.checkpoint.store import bundled, load
from enlca.network.layers import with_fast_convolutions
from enlca.runtime.device import in_half


def losses(name: str, scale: int, tests: list[Path]) -> list[dict[str, Any]]:
    """A row for each set of pictures."""
    network = with_fast_convolutions(load(name, scale=scale), torch.device("cpu"))
    full = scores_of(in_half(network, None), tests, scale)
    half = scores_of(in_half(network, torch.bfloat16), tests, scale)
    return [
        {
            "model": name,
            "scale": scale,
            "dataset": dataset,
            "psnr_fp32": round(full[dataset], 4),
            "psnr_bf16": round(half[dataset], 4),
            "psnr_lost": round(full[dataset] - half[dataset], 4),
            "aim": "at most 0.01",
        }
        for dataset in full
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=FORM)
    parser.add_argument("tests", type=Path, nargs="+")
    parser.add_argument("--models", nargs="+", default=["enlcn-tiny", "enlcn-light"], help="bundled weights")
    parser.add_argument("--scales", type=int, nargs="+", default=[4, 3, 2])
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    chosen = [item for item in bundled() if item.name in arguments.models and item.scale in arguments.scales]
    if not chosen:
        parser.error("there are no bundled weights of these models and scales; see enlca models")
    rows = [row for item in chosen for row in losses(item.name, item.scale, arguments.tests)]
    publish("bf16", *rows, threads=arguments.threads)


if __name__ == "__main__":
    main()
