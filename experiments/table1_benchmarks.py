"""Table 1: the paper's scores, and beneath each method what was measured of it and how far it is verified.

    python -m experiments.table1_benchmarks [RESULT.json ...] [--peers DIR] [--test DIR ...] [--out table1.md]

A row is the paper's or measured, never both. Measured are the weights in the package (scores in their cards),
each RESULT.json of `enlca evaluate --json-file`, and what the folder of published files (`--peers`) holds:
pictures, and weights, which are run on the benchmark folders (`--test`). The rest is "not run".

Verified is our network of a method "by weights" (the published ones, scored here), "by published pictures"
(the authors' results, scored here; our network is not in them), or "by parameter count and layout only".
"""

import argparse
import json
import sys
import tomllib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

from enlca.checkpoint.store import bundled
from enlca.errors import EnlcaError
from enlca.evaluation.evaluate import Evaluation, evaluate, method_called
from enlca.evaluation.given import GivenPictures
from enlca.network.zoo import NETWORKS
from enlca.peers import PEERS
from enlca.runtime.files import write_atomically

HERE = Path(__file__).parent
DATA = HERE.parents[1] / "shared" / "data"
# The data sets of Table 1, and how many pictures they have.
SIZES = {"Set5": 5, "Set14": 14, "B100": 100, "Urban100": 100, "Manga109": 109}
ALIASES = {"BSD100": "B100", "BSDS100": "B100"}
NOT_RUN = "not run"
WEIGHTS, PICTURES, LAYOUT = "by weights", "by published pictures", "by parameter count and layout only"
# NLSN's published layout is not read here.
COUNT = "by parameter count only"
SUFFIXES = (".mat", ".bin", ".pt", ".pth", ".safetensors")
# Their authors never rounded LR to 8 bits (LapSRN's and SRMD's test scripts).
FLOAT_LR = ("LapSRN", "SRMDNF")


class Measured(NamedTuple):
    """Scores of one model at one scale, and where they come from.

    `method` is its name in Table 1, or None; `verified`, how far these scores verify our network of it.
    """

    model: str
    scale: int
    source: str
    scores: dict[str, dict]
    method: str | None = None
    verified: str = ""


def from_cards() -> list[Measured]:
    """The weights in the package."""
    return [Measured(item.name, item.scale, "card", item.card.scores) for item in bundled()]


def from_result(path: Path) -> list[Measured]:
    """The models in a file of `enlca evaluate --json-file`.

    Raises:
        ValueError: for a file that is something else.
    """
    try:
        body = json.loads(path.read_text())
        return [
            Measured(
                _model(one),
                one["protocol"]["scale"],
                f"{path.name}; {_protocol(one['protocol'])}",
                dict(one["datasets"]),
            )
            for one in body.get("results", [body])
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a result of `enlca evaluate --json-file` ({error!r})") from error


def _model(result: dict) -> str:
    images = result.get("images")
    return images[0]["model"] if images else Path(result["model"]["name"]).stem


def _protocol(protocol: dict) -> str:
    ensemble = ", x8 ensemble" if protocol.get("ensemble") else ""
    unrounded = ", not rounded" if protocol.get("lr_type") == "float" else ""
    return f"{protocol['name']}, LR {protocol['lr_source']}{unrounded}{ensemble}"


def from_weights(folder: Path, tests: Sequence[Path]) -> Iterator[Measured]:
    """Published weights, in `METHOD/*x2.*` and the like: each run on the benchmark folders.

    Raises:
        EnlcaError: weights that do not fit, or a picture that cannot be scored.
    """
    for path in sorted(folder.glob("*/*")):
        peer = PEERS.get(path.parent.name.lower())
        scales = [scale for scale in (2, 3, 4) if path.stem.endswith(f"x{scale}")]
        if peer is None or path.suffix not in SUFFIXES or not scales:
            continue
        for lr in ("uint8", "float") if peer.name in FLOAT_LR else ("uint8",):
            method = method_called(str(path), scale=scales[0], device="cpu")
            done = evaluate(method, tests, scale=scales[0], lr=lr)
            source = f"{path.name}; {_protocol(done.report.protocol.to_dict())}"
            yield Measured(peer.name, scales[0], source, _scores(done), peer.name, WEIGHTS)


def from_pictures(folder: Path) -> Iterator[Measured]:
    """Published pictures of Set5, in `METHOD/xS/NAME_METHOD_xS.png`, with `HR` among the methods.

    Raises:
        EnlcaError: a picture that cannot be scored.
    """
    for path in sorted(folder.glob("*/x[234]")):
        if path.parent.name == "HR":
            continue
        scale = int(path.name[1])
        done = evaluate(GivenPictures.of(path), [folder / "HR" / path.name], scale=scale)
        [mean] = _scores(done).values()
        method = next((peer.name for peer in PEERS.values() if peer.name == path.parent.name), None)
        yield Measured(path.parent.name, scale, "the authors' pictures", {"Set5": mean}, method, PICTURES)


def _scores(done: Evaluation) -> dict[str, dict]:
    if done.failures:
        raise EnlcaError("; ".join(done.failures))
    return dict(done.report.datasets())


def page(expected: dict, measured: Sequence[Measured]) -> str:
    """All scales that the paper has or that were measured."""
    printed = {int(scale.removeprefix("x")): columns for scale, columns in expected["table1"].items()}
    scales = sorted({*printed, *(one.scale for one in measured)})
    parts = ["# Table 1: PSNR / SSIM on luma"]
    for scale in scales:
        here = [one for one in measured if one.scale == scale]
        parts.append(f"## x{scale}\n\n" + _table(printed.get(scale, {}), here, scale))
    parts.append(
        "Made by `python -m experiments.table1_benchmarks`. Paper: `experiments/expected.toml`. Measured: by"
        " the protocol\nof `enlca evaluate`; the paper does not state its own, and the authors' code"
        " evaluates quadrants. LR that was\nnot rounded: [comparing.md](../../docs/comparing.md).\n\n"
        "How far our network of a method is verified (and its parameters). *By weights*: with the published"
        " ones it gives the\nscores below its row. *By published pictures*: its authors' pictures score as"
        " they print, so the protocol is theirs;\nour network of it agrees in parameter count and layout. *By"
        " parameter count and layout only*: its published weights\nwere not at hand."
    )
    return "\n\n".join(parts) + "\n"


def _table(printed: dict, measured: list[Measured], scale: int) -> str:
    lines = [f"| method | source | {' | '.join(SIZES)} | verified |", "|---" * (len(SIZES) + 3) + "|"]
    methods = dict.fromkeys(method for column in printed.values() for method in column)
    for method in methods:
        found = [one for one in measured if one.method == method]
        cells = [_cell(printed[name].get(method), "psnr", "ssim") or "-" for name in SIZES]
        lines.append(f"| {method} | paper | {' | '.join(cells)} | {verified(method, scale, found)} |")
        lines += map(_measured_row, found)
    rest = [one for one in measured if one.method not in methods]
    if printed and not any(one.model.lower() == "enlcn" for one in measured):
        rest.append(Measured("enlcn", 0, "no weights", {}))
    return "\n".join([*lines, *map(_measured_row, rest)])


def _measured_row(one: Measured) -> str:
    scores = {ALIASES.get(name, name): mean for name, mean in one.scores.items()}
    cells = [_measured_cell(scores.get(name), size) for name, size in SIZES.items()]
    return f"| {one.model} | measured ({one.source}) | {' | '.join(cells)} | |"


def verified(method: str, scale: int, measured: Sequence[Measured]) -> str:
    """How far our network of a method is verified at a scale, and its parameters."""
    how = next((one.verified for one in measured if one.verified), COUNT if method == "NLSN" else LAYOUT)
    return f"{how} ({parameters_of(method, scale):,})"


@cache
def parameters_of(method: str, scale: int) -> int:
    """The parameters of our network of a method."""
    build = PEERS[method.lower()].build if method.lower() in PEERS else NETWORKS[method.lower()]
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build(scale=scale).parameters())


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
    parser.add_argument("--peers", type=Path, default=DATA / "peers", metavar="DIR", help="published files")
    sets = [DATA / "test" / "Set5", DATA / "test" / "Set14"]
    parser.add_argument("--test", type=Path, nargs="+", default=sets, metavar="DIR", help="for the weights")
    parser.add_argument("--out", type=Path, help="write here instead of printing")
    arguments = parser.parse_args()
    try:
        measured = [*from_cards(), *(one for path in arguments.results for one in from_result(path))]
        measured += from_weights(arguments.peers, arguments.test)
        measured += from_pictures(arguments.peers / "published")
    except (ValueError, EnlcaError) as error:
        print(error, file=sys.stderr)
        return 2
    if not arguments.peers.is_dir():
        print(f"no published files at {arguments.peers}: see --peers", file=sys.stderr)
    text = page(tomllib.loads((HERE / "expected.toml").read_text()), measured)
    if arguments.out:
        write_atomically(arguments.out, text.encode())
    else:
        print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
