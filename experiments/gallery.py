"""The page `docs/gallery.md`: methods beside each other on pictures with free licences, each pixel one pixel.

    python -m experiments.gallery                                 # with the bundled weights
    python -m experiments.gallery --photo runs/photo_x4 --limit 12 --page gallery.md --images images

`experiments/gallery.toml` lists the candidates. Those with an original are ranked by how much SSIMULACRA2
`photo` has over the best of the other methods, each on the whole picture; shown are the first four, the last
four, and four drawn from the rest. Those without an original follow, all of them.
"""

import argparse
import sys
import tomllib
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from experiments.ablation import HERE, answer, grid
from experiments.contenders import (
    PHOTO,
    SEED,
    Contender,
    Score,
    Scores,
    contenders,
    degraded,
    options,
)
from experiments.panels import grid as sheet
from jaxtyping import UInt8

from enlca.checkpoint.store import load_model
from enlca.data.pairs import read_hr
from enlca.data.recipes import Degradation
from enlca.errors import PictureError
from enlca.image.picture import read_image
from enlca.runtime.files import write_atomically

LIST = HERE / "gallery.toml"
SCALE = 4
# Of a crop, in pixels of SR; LR pixels around one where there is no original, as far as networks look.
SIDE, AROUND = 192, 40
EACH = 4
FOLDERS = {"scikit-image": ("skimage", "data"), "matplotlib": ("matplotlib", "mpl-data/sample_data")}
GROUPS = {
    "best": "Where `photo` does best",
    "worst": "Where `photo` does worst",
    "random": "Drawn from the rest",
}


class Candidate(NamedTuple):
    """A picture of the list; see there."""

    name: str
    path: str
    source: str
    licence: str
    at: tuple[int, int]
    preset: str | None = None

    def file(self, data: Path) -> Path:
        """Return where it is. Raises PictureError: in a package that is not installed."""
        package, _, inside = self.path.rpartition(":")
        if not package:
            return data / inside
        module, folder = FOLDERS[package]
        spec = find_spec(module)
        if spec is None or spec.origin is None:
            raise PictureError(f"{self.name}: {package} is not installed")
        return Path(spec.origin).parent / folder / inside


Crops = list[tuple[str, UInt8[np.ndarray, "_ _ 3"]]]


def candidates() -> list[Candidate]:
    """Those of the list."""
    entries = tomllib.loads(LIST.read_text())["picture"]
    return [Candidate(**entry | {"at": tuple(entry["at"])}) for entry in entries]


def pair(one: Candidate, data: Path) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "H W 3"]]:
    """Return LR and HR of a candidate with an original."""
    assert one.preset is not None
    hr = read_hr(one.file(data), SCALE).rgb
    return degraded(hr, one.name, Degradation(preset=one.preset), scale=SCALE), hr


def lead(scores: Mapping[str, Score]) -> float:
    """Return how much SSIMULACRA2 `photo` has over the best of the others."""
    eye = {name: score.ssimulacra2 or 0.0 for name, score in scores.items()}
    return eye.pop(PHOTO) - max(eye.values())


def with_original(one: Candidate, them: Sequence[Contender], data: Path) -> Crops:
    """Return the same place by every method, and of the original."""
    lr, hr = pair(one, data)
    left, top = one.at
    part = (slice(top, top + SIDE), slice(left, left + SIDE))
    return [*((who.name, who.upscale(lr)[part]) for who in them), ("original", hr[part])]


def as_it_comes(one: Candidate, them: Sequence[Contender], data: Path) -> Crops:
    """Return a place by every method, upscaled with what is around it."""
    pixels = read_image(one.file(data)).rgb
    left, top = one.at
    first, side = (max(0, top - AROUND), max(0, left - AROUND)), SIDE // SCALE
    around = pixels[first[0] : top + side + AROUND, first[1] : left + side + AROUND]
    y, x = SCALE * (top - first[0]), SCALE * (left - first[1])
    part = (slice(y, y + SIDE), slice(x, x + SIDE))
    return [(who.name, who.upscale(around)[part]) for who in them]


def chosen(ranked: Sequence[str], *, seed: int = SEED, each: int = EACH) -> dict[str, list[str]]:
    """Return the first, the last, and a draw from the rest, of names in falling order."""
    best = list(ranked[:each])
    worst = list(ranked[each:][::-1][:each])
    rest = [name for name in ranked if name not in {*best, *worst}]
    drawn = np.random.default_rng(seed).permutation(len(rest))[:each]
    return {"best": best, "worst": worst, "random": [rest[number] for number in sorted(drawn)]}


def row(one: Candidate, crops: Crops, scores: Mapping[str, Score], file: Path) -> list[str]:
    """Write a strip of crops; return the lines of the page about it."""
    sheet(crops, columns=len(crops)).save(file, quality=78, method=6)
    how = f"degraded with `{one.preset}`" if one.preset else "as it comes"
    numbers = [f"{name} {score.psnr_y:.2f} dB / {score.ssimulacra2:.1f}" for name, score in scores.items()]
    means = f" PSNR-Y / SSIMULACRA2: {', '.join(numbers)}." if numbers else ""
    shown = ", ".join(title for title, _ in crops)
    return [
        f"![{one.name}: {shown}](images/{file.parent.name}/{file.name})",
        "",
        f"**{one.name}**, {how}.{means} *{one.source}; {one.licence}.*",
        "",
    ]


def run(arguments: argparse.Namespace) -> None:
    """Score all candidates, choose, write strips and page."""
    them, kept = contenders(arguments, SCALE), Scores(arguments.kept)
    listed = candidates()
    ranked = {one.name: one for one in listed if one.preset}
    scores = {}
    for name in list(ranked)[: arguments.limit]:
        lr, hr = pair(ranked[name], arguments.data)
        scores[name] = {who.name: kept.of(who, lr, hr, eye=True) for who in them}
        print(f"{name}: {lead(scores[name]):+.1f}", file=sys.stderr)
    names = sorted(scores, key=lambda name: -lead(scores[name]))
    folder = arguments.images / "gallery"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.webp"):
        old.unlink()
    card = load_model(arguments.photo, SCALE).card
    steps = card.training.get("steps", "?") if card else "?"
    lines = [HEAD.format(n=len(names), scale=SCALE, seed=SEED, steps=steps), ""]
    for group, members in chosen(names).items():
        lines += [f"## {GROUPS[group]}", ""]
        for number, name in enumerate(members, 1):
            crops = with_original(ranked[name], them, arguments.data)
            lines += row(ranked[name], crops, scores[name], folder / f"{group}_{number}.webp")
    lines += ["## As they come", "", "Files that nothing was done to, so that there is no original.", ""]
    for number, one in enumerate((one for one in listed if not one.preset), 1):
        lines += row(one, as_it_comes(one, them, arguments.data), {}, folder / f"as_it_comes_{number}.webp")
    head = ["SSIMULACRA2", "photo over the best other", *(who.name for who in them)]
    cells = [[f"{scores[name][who.name].ssimulacra2:.1f}" for who in them] for name in names]
    table = [[name, f"{lead(scores[name]):+.1f}", *mine] for name, mine in zip(names, cells, strict=True)]
    lines += ["## All candidates with an original", "", *grid(head, table)]
    write_atomically(arguments.page, ("\n".join(lines) + "\n").encode())


HEAD = """# Gallery: photographs

Bicubic, `enlcn-light`, `photo` and Real-ESRGAN's realesr-general-x4v3 (Wang et al. 2021), x{scale}, each
pixel one pixel, beside the original. Made by `python -m experiments.gallery` with the weights of `photo`
after {steps} steps.

The {n} candidates with an original were degraded with a preset of [photographs.md](photographs.md), seed
{seed}, and ranked by how much SSIMULACRA2 `photo` has over the best of the other three: the first four, the
last four, and four drawn from the rest. The list was written before any of them was upscaled. Pictures of
codec-corpus, budgie-backgrounds and City100 are among those that `photo` and `enlcn-light` were trained on
(degraded otherwise, a few patches of each); those of scikit-image and matplotlib are not."""


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = options(__doc__)
    made.add_argument("--page", type=Path, default=Path("docs/gallery.md"), metavar="FILE", help="the page")
    return made


if __name__ == "__main__":
    sys.exit(answer(run, parser()))
