"""Time of each kind of correlation map, and peak memory.

    python -m benchmarks.run correlation_maps [--sides 128 256 512] [--threads 2] [--runs 5]

For an LR image of each size: the view of the last attention block (all stages before it run), and the maps of
one query in it. "first map" is the latency of the explorer: view and exact map. Each size is measured in a
subprocess with the command's memory settings; its peak includes Python and PyTorch (side 0: nothing else).
Checked first: on a few pixels each map is the dense computation's row to 1e-6.
Aims at 512 x 512: 2 s and 1 GiB.
"""

import argparse
import json
import statistics
import sys
import time

import torch

from benchmarks.child import run
from benchmarks.report import publish
from benchmarks.upscale_command import smooth_picture
from enlca.analysis.correlation import (
    View,
    exact_weights,
    own_weights,
    redraw_spread,
    sparse_weights,
    view_of,
)
from enlca.attention.features import positive_features
from enlca.attention.linear import LinearAttend
from enlca.attention.lsh import LSHAttend
from enlca.checkpoint.store import load
from enlca.network.sr import SRNetwork
from enlca.runtime.allocator import keep_freed_memory

TOLERANCE = 1e-6
DRAWS = 8


def last_view(network: SRNetwork, side: int) -> View:
    picture = torch.from_numpy(smooth_picture(side)).permute(2, 0, 1)[None].float() / 255
    return view_of(network, picture, block=len(network.non_local_blocks) - 1)


def check(model: str) -> None:
    """Refuse to time what is not the dense computation's row."""
    view = last_view(load(model), 31)
    assert isinstance(view.attend, LinearAttend)
    at = 17 * 31 + 5
    q, k, f = view.q.double(), view.k.double(), view.attend.projection.double()
    dense = (q.mT @ k).softmax(dim=1)[at]
    kernel = positive_features(q[None], f)[0].mT @ positive_features(k[None], f)[0]
    pairs = ((exact_weights(view, at), dense), (own_weights(view, at), kernel[at] / kernel[at].sum()))
    for mine, reference in pairs:
        if (mine - reference).abs().max() > TOLERANCE:
            raise RuntimeError("a map differs from the dense computation: nothing to report")


def measure(model: str, side: int, runs: int) -> dict[str, float]:
    """Medians of seconds, in this process."""
    keep_freed_memory()
    network = load(model)
    maps = {
        "exact": lambda view, at: exact_weights(view, at),
        "enla": lambda view, at: own_weights(view, at),
        "without_k": lambda view, at: exact_weights(view.amplified(1 / network.config.amplification), at),
        "nlsa": lambda view, at: sparse_weights(view, at, LSHAttend()),
        "spread": lambda view, at: redraw_spread(
            view,
            at,
            n_features=network.config.n_features,
            draws=DRAWS,
            generator=torch.Generator().manual_seed(0),
        ),
    }
    found: dict[str, list[float]] = {name: [] for name in ("view", *maps)}
    for _ in range(runs):
        started = time.perf_counter()
        view = last_view(network, side)
        found["view"].append(time.perf_counter() - started)
        for name, draw in maps.items():
            started = time.perf_counter()
            draw(view, side * side // 2)
            found[name].append(time.perf_counter() - started)
    return {name: round(statistics.median(seconds), 4) for name, seconds in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sides", type=int, nargs="+", default=[128, 256, 512])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--model", default="enlcn-tiny")
    parser.add_argument("--side", type=int, help="measure this one alone, and print JSON")
    arguments = parser.parse_args()
    if arguments.side is not None:
        torch.set_num_threads(arguments.threads)
        found = measure(arguments.model, arguments.side, arguments.runs) if arguments.side else {}
        print(json.dumps(found))
        return
    check(arguments.model)
    rows = []
    words = ["--model", arguments.model, "--runs", str(arguments.runs), "--threads", str(arguments.threads)]
    for side in (*arguments.sides, 0):
        command = [sys.executable, "-m", "benchmarks.correlation_maps", "--side", str(side), *words]
        done = run(command, threads=arguments.threads)
        seconds = json.loads(done.out)
        first = {"first_map": round(seconds["view"] + seconds["exact"], 4)} if side else {}
        rows.append(
            {"model": arguments.model, "side": side, **seconds, **first, "peak_mib": round(done.peak_mib)}
        )
    names = dict.fromkeys(name for row in rows for name in row)
    publish(
        "correlation_maps",
        *({name: row.get(name, "") for name in names} for row in rows),
        threads=arguments.threads,
    )


if __name__ == "__main__":
    main()
