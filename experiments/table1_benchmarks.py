"""Table 1: the paper's scores beside what has been measured; a row is either the one or the other.

    python -m experiments.table1_benchmarks [RESULT.json ...] [--out table1.md]

Measured are the weights in the package (scores in their cards) and each RESULT.json that `enlca evaluate
--json` wrote, of any checkpoint. What has not been measured is "not run".
"""

import argparse
import json
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

from enlca.checkpoint.store import bundled, write_atomically

HERE = Path(__file__).parent
# The data sets of Table 1, and how many pictures they have.
SIZES = {"Set5": 5, "Set14": 14, "B100": 100, "Urban100": 100, "Manga109": 109}
ALIASES = {"BSD100": "B100", "BSDS100": "B100"}
NOT_RUN = "not run"


class Measured(NamedTuple):
    """Scores of one model at one scale, and where they come from."""

    model: str
    scale: int
    source: str
    scores: dict[str, dict]


def from_cards() -> list[Measured]:
    """The weights in the package."""
    return [Measured(item.name, item.scale, "card", item.card.scores) for item in bundled()]


def from_result(path: Path) -> Measured:
    """A file of `enlca evaluate --json`.

    Raises:
        ValueError: for a file that is something else.
    """
    try:
        body = json.loads(path.read_text())
        protocol, datasets = body["protocol"], body["datasets"]
        ensemble = ", x8 ensemble" if protocol.get("ensemble") else ""
        source = f"{path.name}; {protocol['name']}, LR {protocol['lr_source']}{ensemble}"
        return Measured(Path(body["model"]["name"]).stem, protocol["scale"], source, dict(datasets))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a result of `enlca evaluate --json` ({error!r})") from error


def page(expected: dict, measured: list[Measured]) -> str:
    """All scales that the paper has or that were measured."""
    printed = {int(scale.removeprefix("x")): columns for scale, columns in expected["table1"].items()}
    scales = sorted({*printed, *(one.scale for one in measured)})
    parts = ["# Table 1: PSNR / SSIM on luma"]
    for scale in scales:
        here = [one for one in measured if one.scale == scale]
        parts.append(f"## x{scale}\n\n" + _table(printed.get(scale, {}), here))
    parts.append(
        "Made by `python -m experiments.table1_benchmarks`. Paper: `experiments/expected.toml`. Measured: by"
        " the protocol\nof `enlca evaluate`; the paper does not state its own, and the authors' code"
        " evaluates quadrants."
    )
    return "\n\n".join(parts) + "\n"


def _table(printed: dict, measured: list[Measured]) -> str:
    lines = [f"| method | source | {' | '.join(SIZES)} |", "|---" * (len(SIZES) + 2) + "|"]
    methods = dict.fromkeys(method for column in printed.values() for method in column)
    for method in methods:
        cells = [_cell(printed[name].get(method), "psnr", "ssim") or "-" for name in SIZES]
        lines.append(f"| {method} | paper | {' | '.join(cells)} |")
    if printed and not any(one.model.lower() == "enlcn" for one in measured):
        measured = [*measured, Measured("enlcn", 0, "no weights", {})]
    for one in measured:
        scores = {ALIASES.get(name, name): mean for name, mean in one.scores.items()}
        cells = [_measured_cell(scores.get(name), size) for name, size in SIZES.items()]
        lines.append(f"| {one.model} | measured ({one.source}) | {' | '.join(cells)} |")
    return "\n".join(lines)


def _measured_cell(mean: dict | None, size: int) -> str:
    cell = _cell(mean, "psnr_y", "ssim_y")
    if mean is None or cell is None:
        return NOT_RUN
    n = mean.get("n", size)
    return cell if n == size else f"{cell} ({n} of {size} pictures)"


def _cell(mean: dict | None, psnr: str, ssim: str) -> str | None:
    """Both numbers as the literature prints them; a card may lack SSIM."""
    if mean is None or psnr not in mean:
        return None
    return f"{float(mean[psnr]):.2f} / " + (f"{float(mean[ssim]):.4f}" if ssim in mean else "-")


def main() -> int:
    """Read the command line."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("results", type=Path, nargs="*", metavar="RESULT.json")
    parser.add_argument("--out", type=Path, help="write here instead of printing")
    arguments = parser.parse_args()
    try:
        measured = [*from_cards(), *map(from_result, arguments.results)]
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    text = page(tomllib.loads((HERE / "expected.toml").read_text()), measured)
    if arguments.out:
        write_atomically(arguments.out, text.encode())
    else:
        print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
