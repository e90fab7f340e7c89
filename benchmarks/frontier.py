"""PSNR against latency: what each bundled model gives for its milliseconds.

    python -m benchmarks.frontier [--scale 4] [--size 128] [--threads 2 1] [--rounds 15] [--quick]

Every bundled model of a scale upscales one picture of `size` x `size` in turn, in float32 and, where
`--precision auto` takes another precision, in that, laid out as `Upscaler` does it. The unit of `latency` is
edsr-tiny in float32 by as many threads: the median over rounds of the ratio within a round. PSNR-Y is that of
the models' cards, measured on these very files (Kodak24 chose the checkpoints; Set5 and Set14 did not).

Published methods are hollow points at the edge of the plot: their printed numbers, no latency of ours.
"""

import argparse
from typing import Any

import torch

from benchmarks.report import COLOURS, MARKERS, axes_side_by_side, publish, show
from benchmarks.rounds import Company, median_ratio, milliseconds, seconds_of
from enlca.checkpoint.store import Bundled, bundled, load
from enlca.inference.transforms import Forward
from enlca.network.layers import with_fast_convolutions
from enlca.runtime.allocator import keep_freed_memory
from enlca.runtime.device import choose_precision, in_half

FORM = argparse.RawDescriptionHelpFormatter
UNIT = ("edsr-tiny", "fp32")
SETS = ("Set5", "Set14", "Kodak24")
# As their papers print them: IMDN (Hui et al. 2019), RLFN (Kong et al. 2022), BSRN (Li et al. 2022).
PUBLISHED = {
    2: {"IMDN": {"Set5": 38.00, "Set14": 33.63}, "RLFN": {"Set5": 38.07, "Set14": 33.72}},
    3: {"IMDN": {"Set5": 34.36, "Set14": 30.32}},
    4: {
        "IMDN": {"Set5": 32.21, "Set14": 28.58},
        "RLFN": {"Set5": 32.24, "Set14": 28.62},
        "BSRN": {"Set5": 32.35, "Set14": 28.73},
    },
}


def works(models: list[Bundled]) -> dict[tuple[str, str], Forward]:
    """Each model and precision as what upscales a batch."""
    device = torch.device("cpu")
    half = choose_precision("auto", device)
    precisions = {"fp32": None} if half is None else {"fp32": None, "auto (bf16)": half}
    networks = {
        item.name: with_fast_convolutions(load(item.name, scale=item.scale), device) for item in models
    }
    return {
        (name, precision): in_half(network, dtype)
        for precision, dtype in precisions.items()
        for name, network in networks.items()
    }


def measure(models: list[Bundled], *, size: int, threads: int, rounds: int) -> list[dict[str, Any]]:
    """A row for each model and precision, in one run."""
    torch.set_num_threads(threads)
    lr = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    timed = {
        f"{name}/{precision}": (lambda forward=forward: forward(lr))
        for (name, precision), forward in works(models).items()
    }
    with Company() as company:
        seconds = seconds_of(timed, rounds)
    cards = {item.name: item.card for item in models}
    rows = []
    for key, values in seconds.items():
        name, _, precision = key.partition("/")
        card = cards[name]
        unit = seconds.get("/".join(UNIT))
        rows.append(
            {
                "model": name,
                "scale": card.network.scale,
                "precision": precision,
                "parameters": sum(
                    weight.numel() for weight in load(name, scale=card.network.scale).parameters()
                ),
                "latency": "not measured" if unit is None else median_ratio(values, unit),
                "milliseconds": milliseconds(values),
                **{
                    f"psnr_y_{name}": card.scores.get(name, {}).get("psnr_y", "not measured") for name in SETS
                },
                "threads_used": threads,
                "size": size,
                "others": company.share,
                "rounds": rounds,
            }
        )
    return rows


def draw(rows: list[dict[str, Any]], scale: int, threads: int) -> None:
    """The frontier on Set5 and Set14, float32, as `results/frontier.png`."""
    chosen = [row for row in rows if row["precision"] == "fp32" and row["threads_used"] == threads]
    edge = 1.35 * max(row["latency"] for row in chosen)
    with axes_side_by_side("frontier") as axes:
        for axis, dataset in zip(axes, SETS[:2], strict=True):
            for number, row in enumerate(chosen):
                place = (row["latency"], row[f"psnr_y_{dataset}"])
                axis.plot(*place, MARKERS[number], color=COLOURS[number], label=row["model"], markersize=8)
            colours = dict(zip(PUBLISHED[scale], reversed(COLOURS), strict=False))
            for number, (method, scores) in enumerate(PUBLISHED[scale].items()):
                axis.plot(
                    edge,
                    scores[dataset],
                    MARKERS[number],
                    color=colours[method],
                    fillstyle="none",
                    markersize=8,
                )
            # One below the other: some of the methods are closer than a line of text.
            low, high = axis.get_ylim()
            level = low
            for method, scores in sorted(PUBLISHED[scale].items(), key=lambda item: item[1][dataset]):
                level = max(scores[dataset], level + 0.03 * (high - low))
                axis.annotate(
                    f"{method}   ", (edge, level), ha="right", va="center", fontsize=8, color=colours[method]
                )
            axis.set_xlabel(f"latency, edsr-tiny = 1 ({threads} threads; hollow: not timed)")
            axis.set_ylabel(f"PSNR-Y on {dataset}, dB (x{scale})")
            axis.grid(alpha=0.3)
        axes[0].legend(frameon=False, loc="lower right")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=FORM)
    parser.add_argument("--scale", type=int, default=4, choices=sorted(PUBLISHED))
    parser.add_argument("--size", type=int, default=128, help="LR pixels a side")
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="see that it works; write nothing")
    arguments = parser.parse_args()
    keep_freed_memory()
    models = [item for item in bundled() if item.scale == arguments.scale]
    size, rounds = (24, 1) if arguments.quick else (arguments.size, arguments.rounds)
    rows = [
        row
        for threads in arguments.threads
        for row in measure(models, size=size, threads=threads, rounds=rounds)
    ]
    if arguments.quick:
        show(*rows)
        return
    publish(
        "frontier" if arguments.scale == 4 else f"frontier_x{arguments.scale}",
        *rows,
        threads=max(arguments.threads),
    )
    if arguments.scale == 4:
        draw(rows, arguments.scale, max(arguments.threads))


if __name__ == "__main__":
    main()
