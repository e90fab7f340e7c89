"""What the weights for photographs are worth: tables, plots and strips of pictures.

    python -m experiments.photographs                                      # with the bundled weights
    python -m experiments.photographs --photo runs/photo_x4 --limit 2      # of a run, on two pictures
    python -m experiments.photographs --scale 2

Kodak24, degraded by the preset `web` with seed 7, by JPEG, by noise, and not at all; then ringing at
text and lines, and a strip of `--strength`. Differences are taken picture by picture, with Student's t
intervals of 95 %. Writes `photographs.csv` and `photographs.md` into --out, and `photo_gain_x4.svg`,
`photo_halos_x4.webp` and `photo_strength_x4.webp` into --images.
"""

import argparse
import csv
import io
import statistics
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from benchmarks.report import COLOURS, MARKERS, processor
from experiments.ablation import RESULTS, answer, grid
from experiments.contenders import (
    CLEAN,
    CONDITIONS,
    GENERAL,
    LIGHT,
    PHOTO,
    WEB,
    Contender,
    Scores,
    contenders,
    degraded,
    options,
)
from experiments.halos import Halo, measured
from experiments.strength import strip

from enlca.checkpoint.store import load_model
from enlca.data.pairs import find_originals, read_hr
from enlca.evaluation.evaluate import BICUBIC
from enlca.evaluation.intervals import Interval, paired_interval
from enlca.runtime.files import write_atomically
from experiments import drawing

# Of what must hold: dB over enlcn-light where pictures are degraded, and below it where they are not.
GAIN, LOSS = 0.5, 0.6
YES, NO = "holds", "**does not hold**"


class Row(NamedTuple):
    """A method on a degraded picture; SSIMULACRA2 on `EYE` only."""

    condition: str
    image: str
    model: str
    psnr_y: float
    ssimulacra2: float | None


EYE = (CLEAN, WEB)


def scored(them: Sequence[Contender], pictures: Sequence[Path], scores: Scores) -> list[Row]:
    """Score every method on every picture under every condition.

    Raises:
        EnlcaError: a picture cannot be used, or a package is missing.
    """
    rows = []
    for done, path in enumerate(pictures, 1):
        hr = read_hr(path, them[0].scale).rgb
        for condition, how in CONDITIONS.items():
            lr = degraded(hr, path.stem, how, scale=them[0].scale)
            rows += [
                Row(condition, path.stem, who.name, *scores.of(who, lr, hr, eye=condition in EYE))
                for who in them
            ]
        print(f"{done} of {len(pictures)} pictures", file=sys.stderr)
    return rows


def values(rows: Sequence[Row], condition: str, model: str, metric: str = "psnr_y") -> list[float]:
    """The scores of a method under a condition, in the order of the pictures."""
    return [getattr(row, metric) for row in rows if (row.condition, row.model) == (condition, model)]


def gain(rows: Sequence[Row], condition: str, model: str, over: str, metric: str = "psnr_y") -> Interval:
    """What a method has over another, picture by picture."""
    sides = (values(rows, condition, name, metric) for name in (model, over))
    return paired_interval([a - b for a, b in zip(*sides, strict=True)])


def beside(rows: Sequence[Row], condition: str, models: Sequence[str]) -> list[str]:
    """A table of both metrics, and what `photo` has over each other method."""
    head = [
        "method",
        "PSNR-Y",
        "SSIMULACRA2",
        "photo has over it, dB",
        "in SSIMULACRA2",
        "photo is better in",
    ]
    table = []
    for model in models:
        means = [
            statistics.mean(values(rows, condition, model, metric)) for metric in ("psnr_y", "ssimulacra2")
        ]
        cells = [model, f"{means[0]:.2f}", f"{means[1]:.1f}"]
        if model == PHOTO:
            table.append([*cells, "", "", ""])
            continue
        eye = gain(rows, condition, PHOTO, model, "ssimulacra2")
        ours, theirs = (values(rows, condition, name) for name in (PHOTO, model))
        better = sum(a > b for a, b in zip(ours, theirs, strict=True))
        shown = f"{eye.mean:+.1f} [{eye.low:+.1f}, {eye.high:+.1f}]"
        table.append([*cells, gain(rows, condition, PHOTO, model), shown, f"{better} of {len(ours)}"])
    return grid(head, table)


def gains(rows: Sequence[Row], models: Sequence[str]) -> list[str]:
    """A table of what each method has over bicubic, for each condition."""
    others = [model for model in models if model != BICUBIC]
    head = ["LR", "bicubic, dB", *(f"{model} over bicubic" for model in others), "photo's worst picture"]
    table = []
    for condition in CONDITIONS:
        base = values(rows, condition, BICUBIC)
        worst = min(a - b for a, b in zip(values(rows, condition, PHOTO), base, strict=True))
        cells = [gain(rows, condition, model, BICUBIC) for model in others]
        table.append([condition, f"{statistics.mean(base):.2f}", *cells, f"{worst:+.2f}"])
    return grid(head, table)


def plot(rows: Sequence[Row], models: Sequence[str], scale: int, path: Path) -> None:
    """Draw what each method has over bicubic, with intervals."""
    figure, axes = drawing.plt.subplots(figsize=(drawing.WIDTH, 2.8), layout="constrained")
    others = [model for model in models if model != BICUBIC]
    for number, model in enumerate(others):
        found = [gain(rows, condition, model, BICUBIC) for condition in CONDITIONS]
        x = np.arange(len(found)) + 0.12 * (number - (len(others) - 1) / 2)
        means = np.array([one.mean for one in found])
        margin = np.nan_to_num([one.high - one.mean for one in found], posinf=0)
        style = {"fmt": MARKERS[number], "color": COLOURS[number], "markersize": 4, "capsize": 2}
        axes.errorbar(x, means, yerr=margin, label=model, linewidth=1, **style)
    axes.axhline(0, color="#888888", linewidth=0.8)
    axes.set_xticks(range(len(CONDITIONS)), list(CONDITIONS))
    axes.set_ylabel("gain over bicubic, dB PSNR-Y")
    axes.set_title(f"Kodak24 x{scale}, {len(values(rows, CLEAN, BICUBIC))} pictures; bars: 95 %")
    axes.legend(frameon=False)
    drawing.save(figure, path)


def ringing(halos: Sequence[Halo], models: Sequence[str]) -> list[str]:
    """A table of the mean halo, and of what one pixel in 100 exceeds."""
    cases = dict.fromkeys((halo.chart, halo.condition) for halo in halos)
    found = {halo[:3]: f"{halo.mean:.2f} / {halo.strong:.1f}" for halo in halos}
    table = [[*case, *(found[*case, model] for model in models)] for case in cases]
    return grid(["chart", "LR", *models], table)


def verdicts(rows: Sequence[Row], halos: Sequence[Halo]) -> list[str]:
    """What must hold, and whether it does."""
    web, clean = (gain(rows, condition, PHOTO, LIGHT) for condition in (WEB, CLEAN))
    eye = gain(rows, WEB, PHOTO, LIGHT, "ssimulacra2")
    means = {condition: gain(rows, condition, PHOTO, BICUBIC).mean for condition in CONDITIONS}
    lowest = min(means, key=lambda condition: means[condition])
    bicubic = {halo[:2]: halo for halo in halos if halo.model == BICUBIC}
    more = max(halo.mean - bicubic[halo[:2]].mean for halo in halos if halo.model == PHOTO)
    claims = [
        (f"`web`: at least {GAIN} dB over {LIGHT}", f"{web} dB", web.mean >= GAIN),
        (f"`web`: SSIMULACRA2 above that of {LIGHT}", str(eye), eye.low > 0),
        (f"clean: at most {LOSS} dB below {LIGHT}", f"{clean} dB", clean.mean >= -LOSS),
        ("nothing worse than bicubic", f"least {means[lowest]:+.2f} dB, {lowest}", means[lowest] >= 0),
        ("no halos beyond bicubic's", f"mean halo at most {more:+.2f} levels above", more <= 0),
    ]
    return grid(["what must hold", "measured", ""], [[*one[:2], YES if one[2] else NO] for one in claims])


def run(arguments: argparse.Namespace) -> None:
    """Score, draw, write."""
    them = contenders(arguments, arguments.scale)
    models = [who.name for who in them]
    pictures = find_originals(arguments.data / "validation" / "Kodak24", arguments.scale)[: arguments.limit]
    rows = scored(them, pictures, Scores(arguments.kept))
    halos, sheet = measured(them)
    strengths = strip(arguments.light, arguments.photo, arguments.scale)
    out, images, scale = folder_of(arguments), arguments.images, arguments.scale
    for folder in (out, images):
        folder.mkdir(parents=True, exist_ok=True)
    plot(rows, models, scale, images / f"photo_gain_x{scale}.svg")
    sheet.save(images / f"photo_halos_x{scale}.webp", quality=85, method=6)
    strengths.save(images / f"photo_strength_x{scale}.webp", quality=85, method=6)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([Row._fields, *rows])
    write_atomically(out / "photographs.csv", text.getvalue().encode())
    page = report(rows, halos, models, arguments)
    write_atomically(out / "photographs.md", page.encode())
    print(page)


def report(
    rows: Sequence[Row], halos: Sequence[Halo], models: Sequence[str], arguments: argparse.Namespace
) -> str:
    """Return the page."""
    scale = arguments.scale
    card = load_model(arguments.photo, arguments.scale).card
    steps = card.training.get("steps", "?") if card else "?"
    command = "python -m experiments.photographs" + f" --scale {scale}" * (scale != 4)
    facts = [f"`{command}`", processor(), f"PyTorch {torch.__version__}"]
    n = len(values(rows, CLEAN, BICUBIC))
    left_out = (
        [] if GENERAL in models else ["", f"{GENERAL} {'was not at hand' if scale == 4 else 'is of x4'}."]
    )
    body = [
        "# Weights for photographs",
        "",
        f"`photo` x{scale} after {steps} steps, on {n} of 24 pictures of Kodak24."
        f" Made by {', '.join(facts)}, {date.today().isoformat()}.",
        *left_out,
        "",
        *verdicts(rows, halos),
        "",
        "## Degraded with `web`, seed 7",
        "",
        *beside(rows, WEB, models),
        "",
        "## Clean (MATLAB's bicubic)",
        "",
        *beside(rows, CLEAN, models),
        "",
        "## Over bicubic, dB PSNR-Y [95 %]",
        "",
        *gains(rows, models),
        "",
        "JPEG with halved chroma, noise in colour, of LR made by MATLAB's bicubic. ![gains]"
        f"(../../../docs/images/photo_gain_x{scale}.svg)",
        "",
        "## Halos at text and lines, levels of luma: mean / one pixel in 100 has more",
        "",
        *ringing(halos, models),
        "",
        "By how much paper is brighter than paper beside ink (`experiments/halos.py`): blur has none.",
    ]
    return "\n".join(body) + "\n"


def folder_of(arguments: argparse.Namespace) -> Path:
    """Where tables go."""
    return arguments.out or RESULTS / f"photo_x{arguments.scale}"


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = options(__doc__)
    made.add_argument("--scale", type=int, choices=(2, 4), default=4, help="of the weights")
    made.add_argument("--out", type=Path, metavar="DIR", help=f"for tables (default: {RESULTS}/photo_xSCALE)")
    return made


if __name__ == "__main__":
    sys.exit(answer(run, parser()))
