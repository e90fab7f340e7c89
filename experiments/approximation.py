"""How far ENLA is from softmax attention: one kernel value, the output, and a trained network's scores.

    python -m experiments.approximation [--data ../shared/data/test] [--threads 1] [--out experiments/results]

Writes `approximation.csv` and `.md` and, with matplotlib, `.svg` and `.png`:

* kernel: phi(q)^T phi(k) of one pair beside exp(q.k), over redraws of F, and what Eq. 7 predicts;
* output: |ENLA - exact| / |exact| over k and m, on random unit vectors and on a trained network's q, k and v;
* score: PSNR of that network where its estimator is replaced, without training, by other features or by
  exact attention.

`--quick` shrinks everything, to see that it works.
"""

import argparse
import csv
import io
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from benchmarks.report import describe

from enlca.analysis.approximation import (
    attend_with,
    error_over,
    estimator_moments,
    output_error,
    with_estimator,
)
from enlca.attention.block import Embeddings, unit
from enlca.checkpoint.store import load
from enlca.evaluation.evaluate import Method, evaluate
from enlca.image.picture import read_image
from enlca.inference.adapters import upscale_rgb
from enlca.network.sr import SRNetwork
from enlca.runtime.files import write_atomically

HERE = Path(__file__).parent
MODEL, SCALE = "enlcn-tiny", 4
DATASETS = ("Set5", "Set14")
# 64 x 64 small pixels: as many positions as the random vectors have.
PICTURE = Path("Set5", "LR_x4", "img_003.png")
POSITIONS, CHANNELS = 4096, 64
AMPLIFICATIONS = (0.5, 1.0, 2.0, 4.0, 6.0)
FEATURES = (64, 128, 1024, 4096)
SCORED = (8, 16, 64, 256, 1024, 4096)
COSINES = (0.0, 0.5, 1.0)
KERNEL_FEATURES = 128
NAMES = {True: "orthogonal", False: "independent"}


class Row(NamedTuple):
    """One measurement, over `draws` of F: estimate / exp(q.k), a relative error, or PSNR-Y in dB.

    The median is that of the kernel's estimates.
    """

    part: str
    on: str
    attention: str
    k: float
    mean: float
    m: int | None = None
    draws: int = 1
    deviation: float | None = None
    median: float | None = None


def kernel(draws: int) -> Iterator[Row]:
    """Pairs of vectors of length sqrt(k), for each k and angle."""
    cells = [(k, cosine) for cosine in COSINES for k in AMPLIFICATIONS]
    q, keys = torch.zeros(2, CHANNELS, len(cells), dtype=torch.float64)
    for column, (k, cosine) in enumerate(cells):
        q[0, column] = k**0.5
        keys[:2, column] = k**0.5 * torch.tensor([cosine, (1 - cosine**2) ** 0.5])
    m, generator = KERNEL_FEATURES, torch.Generator().manual_seed(1)
    for orthogonal, name in NAMES.items():
        found = estimator_moments(
            q, keys, n_features=m, draws=draws, orthogonal=orthogonal, generator=generator
        )
        for column, (k, cosine) in enumerate(cells):
            mean, _, variance, _, median, eq7 = (float(moment[column]) for moment in found)
            on = f"cosine {cosine:g}"
            if name == "orthogonal":
                yield Row("kernel", on, "Eq. 7", k, 1.0, m, deviation=eq7**0.5)
            yield Row("kernel", on, name, k, mean, m, draws, variance**0.5, median)


def output(on: str, embeddings: Embeddings, draws: int, features: Sequence[int]) -> Iterator[Row]:
    """Errors of the output, and that of the plain mean of the values."""
    for k in AMPLIFICATIONS:
        q, keys = (unit(x, eps=1e-12, length=k**0.5) for x in embeddings[:2])
        error = output_error(q, keys, embeddings.v, projection=torch.zeros(1, q.shape[1]))
        yield Row("output", on, "mean of v", k, error)
    generator = torch.Generator().manual_seed(1)
    for k, m, orthogonal, mean, deviation in error_over(
        *embeddings, amplifications=AMPLIFICATIONS, n_features=features, draws=draws, generator=generator
    ):
        yield Row("output", on, NAMES[orthogonal], k, mean, m, draws, deviation)


def embeddings_of(network: SRNetwork, data: Path) -> Iterator[tuple[str, Embeddings]]:
    """q, k and v that know nothing of each other, and those of each attention block on one picture."""
    generator = torch.Generator().manual_seed(1)
    q, k, v = torch.randn(3, 1, CHANNELS, POSITIONS, generator=generator)
    yield "random unit vectors", Embeddings(q, k, v)
    lr = torch.from_numpy(read_image(data / PICTURE).rgb).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        seen = network.forward_with_embeddings(lr)[1]
    for number, embeddings in enumerate(seen, start=1):
        yield f"{MODEL} x{SCALE}, attention block {number} of {len(seen)}", embeddings


def variants(
    network: SRNetwork, draws: int, scored: Sequence[int]
) -> Iterator[tuple[str, int | None, list[SRNetwork]]]:
    """What takes the place of the network's attention: name, m, and a network for each draw."""
    yield "as trained", network.config.n_features, [network]
    yield "exact", None, [with_estimator(network, kind="exact")]
    alike, without = with_estimator(network), with_estimator(network)
    for block in alike.non_local_blocks:
        block.attend = attend_with(torch.zeros(1, network.config.embed_channels))
    for block in without.non_local_blocks:
        block.res_scale = 0.0
    yield "mean of v", None, [alike]
    yield "none", None, [without]
    for m in scored:
        yield "new features", m, [with_estimator(network, n_features=m, seed=seed) for seed in range(draws)]


def scores(network: SRNetwork, data: Path, draws: int, scored: Sequence[int]) -> Iterator[Row]:
    """PSNR-Y of each variant on each data set."""
    folders, k = [data / name for name in DATASETS], network.config.amplification
    for name, m, networks in variants(network, draws, scored):
        found: dict[str, list[float]] = {dataset: [] for dataset in DATASETS}
        for one in networks:
            result = evaluate(Method(name, lambda rgb, one=one: upscale_rgb(one, rgb)), folders, scale=SCALE)
            if result.failures:
                raise SystemExit("\n".join(result.failures))
            for dataset, mean in result.report.datasets().items():
                found[dataset].append(float(mean["psnr_y"]))
        for dataset, values in found.items():
            deviation = statistics.stdev(values) if len(values) > 1 else None
            yield Row("score", dataset, name, k, statistics.fmean(values), m, len(values), deviation)


PAGE = """# How far ENLA is from softmax attention

Made by `{command}`. {model} x{scale} as the package brings it: c = 16, k = 6, m = 64.

## One kernel value

phi(q)^T phi(k) / exp(q.k) for q = k of length sqrt(k), 64 channels, m = {m}: the deviation over redraws of F
and, in parentheses, the median (ideally 0 and 1). Where the deviation is far below Eq. 7, the rare features
that make up the variance were never drawn.

{kernel}

## The output

|ENLA - exact| / |exact| over all positions and channels: mean and deviation over redraws of F. 4,096
positions; random: 64 channels, values of a normal law. "mean of v": an attention that weighs all positions
alike.

{outputs}

## The score of a trained network

PSNR-Y of {model} x{scale} by the protocol of `enlca evaluate`, where nothing but the estimator is replaced,
without training: mean and deviation over redraws of F. "mean of v": all positions weigh alike. "none":
attention is left out.

{scores}

Redraws: {draws}. Measured on: {machine}.
"""


def page(rows: list[Row], command: str, machine: dict[str, Any]) -> str:
    """All tables."""
    places = dict.fromkeys(row.on for row in rows if row.part == "output")
    errors = {on: pivot(chosen(rows, on=on), "k", _k, _attention, _spread) for on in places}
    pair = chosen(rows, on="cosine 1")
    return PAGE.format(
        command=command,
        model=MODEL,
        scale=SCALE,
        m=KERNEL_FEATURES,
        kernel=pivot(pair, "k", _k, lambda row: row.attention, _deviation_and_median),
        outputs="\n\n".join(f"{on}:\n\n{table}" for on, table in errors.items()),
        scores=pivot(chosen(rows, part="score"), "attention", _attention, lambda row: row.on, _spread),
        draws=", ".join(f"{part} {draws}" for part, draws in {row.part: row.draws for row in rows}.items()),
        machine=", ".join(f"{name} {value}" for name, value in machine.items()),
    )


def chosen(rows: Sequence[Row], **wanted: Any) -> list[Row]:
    """The rows with these values."""
    return [row for row in rows if all(getattr(row, field) == value for field, value in wanted.items())]


def pivot(
    rows: Sequence[Row],
    title: str,
    line: Callable[[Row], str],
    column: Callable[[Row], str],
    cell: Callable[[Row], str],
) -> str:
    """A table whose lines and columns come in the order of `rows`; `title` stands above the lines' names."""
    cells = {(line(row), column(row)): cell(row) for row in rows}
    lines, columns = (dict.fromkeys(names) for names in zip(*cells, strict=True))
    table = [[title, *columns], ["---"] * (len(columns) + 1)]
    table += [[name, *(cells[name, other] for other in columns)] for name in lines]
    return "\n".join(f"| {' | '.join(words)} |" for words in table)


def _k(row: Row) -> str:
    return f"{row.k:g}"


def _attention(row: Row) -> str:
    return f"{row.attention}, m = {row.m}" if row.m else row.attention


def _spread(row: Row) -> str:
    return f"{row.mean:.3f}" + (f" ± {row.deviation:.3f}" if row.deviation is not None else "")


def _deviation_and_median(row: Row) -> str:
    return f"{row.deviation:.3g}" + (f" ({row.median:.3g})" if row.median is not None else "")


def main() -> int:
    """Read the command line."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data" / "test")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    draws, few = (2, 2) if arguments.quick else (8, None)
    network = load(MODEL, scale=SCALE)
    rows = list(kernel(50 if arguments.quick else 1000))
    for on, embeddings in embeddings_of(network, arguments.data):
        rows += output(on, embeddings, draws, FEATURES[:few])
    rows += scores(network, arguments.data, draws, SCORED[:few])
    machine = describe(arguments.threads)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*Row._fields, *machine])
    writer.writerows([*row, *machine.values()] for row in rows)
    report = page(rows, " ".join(["python -m experiments.approximation", *sys.argv[1:]]), machine)
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_atomically(arguments.out / "approximation.csv", text.getvalue().encode())
    write_atomically(arguments.out / "approximation.md", report.encode())
    print(report, end="")
    try:
        # Needs matplotlib, and this module's rows.
        from experiments.approximation_figure import figure

        figure(rows, arguments.out)
    except ModuleNotFoundError as error:
        print(f"no figure: {error}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
