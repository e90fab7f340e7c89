"""The page of the bundled networks, from the cards in their files and the measured latencies."""

import csv
from pathlib import Path

from enlca.analysis.cost import count
from enlca.checkpoint.store import Bundled, bundled
from enlca.network.sr import SRConfig, SRNetwork
from pages.text import table

FRONTIER = Path(__file__).parents[2] / "benchmarks" / "results" / "frontier.csv"
# Sides of the LR picture that operations and memory are counted for.
SIDE = 256
INTRODUCTION = f"""\
# Model zoo

The weights that come with the package, for `--model` and `enlca.Upscaler`. This page is made from the cards
in their files, which `enlca info NAME` prints. Scores are PSNR / SSIM on luma by the
[protocol](../metrics.md); operations (a multiplication and an addition are two) and memory (activations,
float32) are those of an LR picture of {SIDE} x {SIDE}. Published weights of other methods, community files
and your own networks are taken as well: [any model](../models.md).

Licence of all of them: Apache-2.0, as the code. They were trained by this project; what on is listed below.
"""


def page() -> str:
    """Return the page, in Markdown."""
    items = bundled()
    titles = ["model", "scale", "parameters", "GFLOPs", "memory", "file"]
    datasets = sorted({name for item in items for name in item.card.scores})
    rows = [[*facts(item), *(score(item, name) for name in datasets)] for item in items]
    described = {item.name: item for item in items}
    return "\n".join(
        [
            INTRODUCTION,
            table([*titles, *datasets], rows),
            latency(),
            *(section(name, item) for name, item in described.items()),
        ]
    )


def facts(item: Bundled) -> list[str]:
    """Return what the first columns say."""
    config = item.card.network
    assert isinstance(config, SRConfig)
    cost = count(lambda: SRNetwork(config), (1, 3, SIDE, SIDE))
    size, memory = item.path.stat().st_size / 1e6, cost.activation_bytes / 2**20
    name = f"[`{item.name}`](#{item.name})"
    return [
        name,
        f"x{item.scale}",
        f"{cost.parameters:,}",
        f"{cost.flops / 1e9:.1f}",
        f"{memory:.0f} MiB",
        f"{size:.2f} MB",
    ]


def score(item: Bundled, dataset: str) -> str:
    """Return PSNR / SSIM on a data set."""
    mean = item.card.scores.get(dataset)
    if mean is None:
        return "not measured"
    return f"{mean['psnr_y']:.2f}" + (f" / {mean['ssim_y']:.4f}" if "ssim_y" in mean else "")


def latency() -> str:
    """Return the measured times at x4, for each number of threads."""
    with FRONTIER.open(encoding="utf-8", newline="") as file:
        measured = list(csv.DictReader(file))
    rows = [
        [f"`{row['model']}`", f"x{row['scale']}", row["threads_used"], row["milliseconds"], row["latency"]]
        for row in measured
    ]
    first = measured[0]
    made = (
        f"{first['size']} x {first['size']} LR pixels, {first['precision']}, {first['processor']}, PyTorch"
        f" {first['torch']}, {first['date']}: `python -m benchmarks.run frontier`. Other hardware:"
        " [benchmarks](benchmarks.md).\n"
    )
    titles = ["model", "scale", "threads", "milliseconds", "by `edsr-tiny`"]
    return "\n".join(["## Latency\n", table(titles, rows), made])


def section(name: str, item: Bundled) -> str:
    """Return how a network was trained, by the card of one of its files."""
    training = dict(item.card.training)
    sources = training.pop("sources", [])
    lines = [f"- {key.replace('_', ' ')}: {value}" for key, value in training.items()]
    config = item.card.network.to_dict()
    lines.append(f"- network: {', '.join(f'{key} {value}' for key, value in config.items())}")
    shown = [f"## {name}\n", f"As the card of x{item.scale} says:\n", "\n".join(lines) + "\n"]
    if sources:
        shown += ["Trained on:\n", "\n".join(f"- {source}" for source in sources) + "\n"]
    return "\n".join(shown)
