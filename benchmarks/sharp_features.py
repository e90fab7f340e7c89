"""Error and time of features fitted to the picture, against the paper's positive features.

    python -m benchmarks.run sharp_features [--model NAME] [--scale 4] [--data DIR] [--draws 20] [--quick]

* error: |ENLA - exact| / |exact| of the output, for q, k and v of every attention block of a trained network
  on the middle of each picture (64 x 64 LR pixels), with k as trained and k = 24; means over pictures and
  draws of F, and the mean over pictures of the deviation of single draws;
* time: forward, and forward and backward, at 100 x 100 positions with 64 and with 16 channels, as processor
  time of one thread, which other programs hardly change. Rounds run all kinds one after the other; times are
  medians, ratios medians of the ratios within a round.

Writes `sharp_features_MODEL_error.csv`, `sharp_features_MODEL_aims.csv` and `sharp_features_time.csv`.
`--quick` is a smoke test with few pictures, draws and sizes, and writes nothing.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.report import publish, show
from enlca.analysis.approximation import attend_with, draw
from enlca.attention.block import KINDS_OF_FEATURES, Embeddings, linear_attend, unit
from enlca.attention.exact import ExactAttend
from enlca.checkpoint.store import load_with_card
from enlca.data.pairs import find_pairs, load_pair
from enlca.network.sr import SRNetwork

DATA = Path(__file__).parents[2] / "shared" / "data" / "validation" / "Kodak24"
SIDE = 64
FEATURES = (32, 64, 128, 256, 512)
SHARP_K = 24.0
ROUNDS = 41
Rows = list[dict[str, Any]]


def crops(data: Path, scale: int, pictures: int | None) -> Iterator[torch.Tensor]:
    """Yield the middle of each LR picture, in [0, 1]."""
    for pair in find_pairs(data, scale)[:pictures]:
        lr = torch.from_numpy(load_pair(pair, scale)[0]).permute(2, 0, 1)[None].float() / 255
        top, left = (max(0, (size - SIDE) // 2) for size in lr.shape[-2:])
        yield lr[..., top : top + SIDE, left : left + SIDE]


def errors_of(embeddings: Embeddings, m: int, seeds: range) -> dict[str, list[float]]:
    """Return the relative error of each kind of features for each draw; all kinds share the draws."""
    exact = ExactAttend()(*embeddings)
    found: dict[str, list[float]] = {kind: [] for kind in KINDS_OF_FEATURES}
    for seed in seeds:
        f = draw(m, embeddings.q.shape[1], orthogonal=True, generator=torch.Generator().manual_seed(seed))
        for kind, errors in found.items():
            y = attend_with(f, features=kind)(*embeddings)
            errors.append(float((y - exact).norm() / exact.norm()))
    return found


@torch.inference_mode()
def measure_errors(
    network: SRNetwork, lrs: list[torch.Tensor], draws: int, features: tuple[int, ...]
) -> Rows:
    own = network.config.amplification
    rows: Rows = []
    seen = [network.forward_with_embeddings(lr)[1] for lr in lrs]
    for k in sorted({own, SHARP_K}):
        for block in range(len(network.non_local_blocks)):
            for m in features:
                found = []
                for q, keys, v in (blocks[block] for blocks in seen):
                    q, keys = (unit(u, eps=1e-12, length=k**0.5) for u in (q, keys))
                    found.append(errors_of(Embeddings(q, keys, v), m, range(draws)))
                for kind in KINDS_OF_FEATURES:
                    means = [statistics.fmean(errors[kind]) for errors in found]
                    spreads = [statistics.stdev(errors[kind]) for errors in found]
                    rows.append(
                        {
                            "k": k,
                            "block": block,
                            "m": m,
                            "features": kind,
                            "error": round(statistics.fmean(means), 4),
                            "deviation": round(statistics.fmean(spreads), 4),
                            "pictures": len(found),
                            "draws": draws,
                        }
                    )
    return rows


def aims(rows: Rows) -> Rows:
    """Return, for each k and block, the error of sharp features at m = 32 by that of positive ones at 128."""
    error = {(row["k"], row["block"], row["m"], row["features"]): row["error"] for row in rows}
    return [
        {
            "what": "error, sharp at m = 32 / positive at m = 128",
            "k": k,
            "block": block,
            "aim": "at most 0.5",
            "found": round(error[k, block, 32, "sharp"] / error[k, block, 128, "positive"], 3),
        }
        for k, block in sorted({(row["k"], row["block"]) for row in rows})
    ]


def works_of(channels: int, m: int, n: int) -> dict[str, dict[str, Callable[[], Any]]]:
    generator = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(1, channels, n, generator=generator) for _ in range(3))
    given = [*(unit(u, eps=1e-12, length=6**0.5) for u in (q, k)), v]
    leaves = [u.clone().requires_grad_() for u in given]
    upstream = torch.randn(1, channels, n, generator=generator)
    works: dict[str, dict[str, Callable[[], Any]]] = {"forward": {}, "both": {}}
    for kind in KINDS_OF_FEATURES:
        attend = linear_attend(channels, n_features=m, features=kind, generator=generator)

        def forward(attend: torch.nn.Module = attend) -> None:
            with torch.no_grad():
                attend(*given)

        def both(attend: torch.nn.Module = attend) -> None:
            torch.autograd.grad(attend(*leaves), leaves, upstream)

        works["forward"][kind], works["both"][kind] = forward, both
    return works


def measure_times(m: int, n: int, rounds: int) -> Rows:
    rows: Rows = []
    for channels in (64, 16):
        for direction, works in works_of(channels, m, n).items():
            seconds: dict[str, list[float]] = {kind: [] for kind in works}
            for work in works.values():
                work()
            for _ in range(rounds):
                for kind, work in works.items():
                    started = time.thread_time()
                    work()
                    seconds[kind].append(time.thread_time() - started)
            for kind, values in seconds.items():
                ratios = (a / b for a, b in zip(values, seconds["positive"], strict=True))
                rows.append(
                    {
                        "channels": channels,
                        "n": n,
                        "m": m,
                        "direction": direction,
                        "features": kind,
                        "milliseconds": round(1e3 * statistics.median(values), 2),
                        "by_positive": round(statistics.median(ratios), 3),
                        "aim": "at most 1.3" if kind == "sharp" else "",
                        "rounds": rounds,
                    }
                )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="enlcn-tiny")
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--data", type=Path, default=DATA, help="a folder of HR pictures")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    # `thread_time` counts one thread.
    torch.set_num_threads(1)
    network = load_with_card(arguments.model, arguments.scale)[0].eval()
    if arguments.quick:
        rows = measure_errors(network, list(crops(arguments.data, arguments.scale, 2)), 2, (32, 128))
        show(*rows, *aims(rows), *measure_times(32, 400, 3))
        return
    publish("sharp_features_time", *measure_times(128, 10_000, ROUNDS), threads=1)
    lrs = list(crops(arguments.data, arguments.scale, None))
    rows = measure_errors(network, lrs, arguments.draws, FEATURES)
    name = f"sharp_features_{Path(arguments.model).stem}"
    publish(f"{name}_error", *rows, threads=1)
    publish(f"{name}_aims", *aims(rows), threads=1)


if __name__ == "__main__":
    main()
