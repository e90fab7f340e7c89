"""`Repeats`: pictures whose detail repeats within them, where attention can show what it is worth.

    python -m experiments.repeats --train DIR [--out runs]              # OUT/Repeats/HR, from the list
    python -m experiments.repeats --train DIR --rank                    # how the list was made: candidates,
    python -m experiments.repeats --train DIR --choose NAME NAME ...    # and those chosen by looking at them

`experiments/repeats.txt` names 24 of the project's training pictures; the recipes leave them out
(`data.leave_out`), so that they are a benchmark folder. They were ranked by how well the detail of a place is
predicted from elsewhere in the same picture (`results/repeats_gains.csv`; 20 minutes of one core), and chosen
by eye among the best: blurred, flat and noisy pictures, trails of stars and lone edges were passed over.
Other tiles of the same photographs stay in the training set, for all methods alike.

The prediction is non-local: detail is what bicubic lacks, HR - bicubic(LR), a vector of S^2 values of luma
for each LR pixel, and is predicted by a softmax over the normalised 7 x 7 windows of all other places of LR.
The gain is the share of its energy that this explains: 1 - |r - r_hat|^2 / |r|^2.

Letters:  h, w height and width of LR   H, W of HR   S scale   N = h w   Q queries
"""

import argparse
import csv
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from experiments.ablation import HERE, RESULTS, answer
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate, pixel_unshuffle, unfold

from enlca.data.left_out import read_names
from enlca.data.packed import PackedSet, open_training_set
from enlca.errors import EnlcaError, PictureError
from enlca.image.picture import Picture, read_image, write_image
from enlca.runtime.files import write_atomically

NAME = "Repeats"
LIST = HERE / "repeats.txt"
GAINS = RESULTS / "repeats_gains.csv"
SCALE = 4
CHOSEN, OF_ONE_ORIGINAL = 24, 2
# Below this mean energy of the detail a picture is flat or blurred: there is little to restore.
ENERGY, GAIN = 0.02, 0.17
QUERIES, SIDE, SHARPNESS = 1536, 7, 60.0
LUMA = (0.299, 0.587, 0.114)


class Gain(NamedTuple):
    """How well the detail of a picture is predicted from elsewhere in it.

    Attributes:
        gain: of all queries together; negative where nothing repeats.
        positive: mean over queries of the gain where it is positive.
        energy: mean energy of the detail at an LR pixel.
    """

    gain: float
    positive: float
    energy: float


def predicted(lr: Float[Tensor, "3 h w"], hr: Float[Tensor, "3 H W"]) -> Gain:
    """Predict the detail at places that are drawn by its energy, each from the rest of the picture."""
    luma = torch.tensor(LUMA).view(1, 3, 1, 1)
    lr, hr = lr[None], hr[None]
    scale = hr.shape[-1] // lr.shape[-1]
    up = interpolate(lr, scale_factor=float(scale), mode="bicubic", align_corners=False)
    residual = pixel_unshuffle(((hr - up) * luma).sum(1, keepdim=True), scale)[0].flatten(1)
    windows = unfold((lr * luma).sum(1, keepdim=True), SIDE, padding=SIDE // 2)[0]
    hann = torch.hann_window(SIDE + 2)[1:-1]
    weight = (hann[:, None] * hann).flatten()[:, None]
    windows = (windows - (windows * weight).sum(0) / weight.sum()) * weight.sqrt()
    contrast = windows.norm(dim=0).clamp_min(1e-3)
    keys = windows / contrast
    energy = residual.square().sum(0)
    generator = torch.Generator().manual_seed(0)
    queries = torch.multinomial(energy + 1e-12, QUERIES, replacement=True, generator=generator)
    place = torch.stack(torch.meshgrid(*map(torch.arange, lr.shape[-2:]), indexing="ij")).flatten(1)
    # The nearest windows overlap with the query's and share its edges.
    near = ((place[:, queries, None] - place[:, None]).abs() <= SIDE // 2).all(0)
    scores = SHARPNESS * (keys[:, queries].mT @ keys)
    weights = scores.masked_fill_(near, -1e9).softmax(dim=-1)
    # Detail grows with contrast: a pale copy of an edge has a pale residual.
    made = (weights @ (residual / contrast).mT) * contrast[queries][:, None]
    true = residual[:, queries].mT
    error, whole = (true - made).square().sum(1), true.square().sum(1)
    each = 1 - (error / whole.clamp_min(1e-12)).clamp_max(2)
    return Gain(float(1 - error.sum() / whole.sum()), float(each.clamp_min(0).mean()), float(energy.mean()))


def ranked_already(path: Path) -> dict[str, Gain]:
    """The gains in a CSV file."""
    with open(path, newline="") as file:
        return {row["name"]: Gain(*(float(row[key]) for key in Gain._fields)) for row in csv.DictReader(file)}


def ranked(packed: PackedSet, path: Path) -> dict[str, Gain]:
    """The gain of every picture, from the CSV file `path`, which receives those that are not in it yet."""
    if not path.exists():
        write_atomically(path, f"name,{','.join(Gain._fields)}\n".encode())
    known = ranked_already(path)
    for done, name in enumerate(packed.names, 1):
        if name not in known:
            sides = (torch.from_numpy(side[done - 1].copy()) for side in (packed.lr, packed.hr))
            gain = predicted(*(side.permute(2, 0, 1).float() / 255 for side in sides))
            known[name] = Gain(*(round(value, 5) for value in gain))
            with open(path, "a", newline="") as file:
                csv.writer(file, lineterminator="\n").writerow([name, *known[name]])
            print(f"\r{done}/{len(packed)}", end="", file=sys.stderr, flush=True)
    return {name: known[name] for name in packed.names}


class Source(NamedTuple):
    """Where a training picture comes from, by the manifest of its folder."""

    original: str
    source: str
    repository: str
    licence: str


def sources(folder: Path) -> dict[str, Source]:
    """The sources of a folder's pictures, from its `manifest.csv`.

    Raises:
        PictureError: there is no manifest.
    """
    try:
        with open(folder / "manifest.csv", newline="") as file:
            return {
                row["file"]: Source(*(row[key] for key in Source._fields)) for row in csv.DictReader(file)
            }
    except (OSError, KeyError) as error:
        raise PictureError(f"{folder}: no manifest.csv that says where the pictures come from") from error


def candidates(gains: Mapping[str, Gain]) -> list[str]:
    """The pictures with enough gain and enough detail, the highest gain first."""
    names = [name for name, found in gains.items() if found.gain >= GAIN and found.energy >= ENERGY]
    return sorted(names, key=lambda name: -gains[name].gain)


def checked(names: Sequence[str], gains: Mapping[str, Gain], known: Mapping[str, Source]) -> list[str]:
    """A choice, the highest gain first.

    Raises:
        EnlcaError: it has another number of pictures, too many of one original, or one that is no candidate.
    """
    if others := set(names) - set(candidates(gains)):
        raise EnlcaError(f"{min(others)} is no candidate; --rank lists them")
    if len(set(names)) != CHOSEN:
        raise EnlcaError(f"{NAME} has {CHOSEN} pictures, {len(set(names))} are named")
    original, count = Counter(known[name].original for name in set(names)).most_common(1)[0]
    if count > OF_ONE_ORIGINAL:
        raise EnlcaError(f"{count} pictures are of {original}, at most {OF_ONE_ORIGINAL} may be")
    return sorted(set(names), key=lambda name: -gains[name].gain)


def write_folder(names: Iterable[str], train: Path, out: Path) -> Path:
    """Write the pictures as PNG to `out/Repeats/HR`, which holds nothing else afterwards."""
    folder = out / NAME / "HR"
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    for name in names:
        write_image(folder / f"{Path(name).stem}.png", Picture(read_image(train / name).pixels))
    return folder


def listing(names: Sequence[str], gains: Mapping[str, Gain], known: Mapping[str, Source]) -> str:
    """The list as a file that `data.leave_out` reads: names, and where they come from as comments."""
    lines = [
        f"# {NAME}: training pictures whose detail repeats within them, tested on and never trained on.",
        "# Made by `python -m experiments.repeats --choose`.",
        "# A name in data.train, then its gain | licence | repository | original",
    ]
    for name in names:
        facts = (f"{gains[name].gain:.3f}", known[name].licence, known[name].repository, known[name].original)
        lines.append(f"{name}  # {' | '.join(facts)}")
    return "\n".join([*lines, ""])


def run(arguments: argparse.Namespace) -> None:
    """Rank, choose, or write the folder."""
    if arguments.rank or arguments.choose:
        known = sources(arguments.train)
        gains = ranked(open_training_set(arguments.train, scale=SCALE), arguments.gains)
        if arguments.rank:
            for name in candidates(gains):
                print(f"{name}  {gains[name].gain:.3f}  {gains[name].energy:.3f}  {known[name].original}")
            return
        names = checked(arguments.choose, gains, known)
        write_atomically(arguments.list, listing(names, gains, known).encode())
    print(write_folder(read_names(arguments.list), arguments.train, arguments.out))


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    line = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    line.add_argument("--train", type=Path, required=True, metavar="DIR", help="pictures and manifest.csv")
    line.add_argument(
        "--out", type=Path, default=Path("runs"), metavar="DIR", help=f"where {NAME} goes (default: runs)"
    )
    line.add_argument("--list", type=Path, default=LIST, metavar="FILE", help="the names")
    line.add_argument("--rank", action="store_true", help="list the candidates, and write no folder")
    line.add_argument("--choose", nargs="+", metavar="NAME", help="candidates that become the list")
    line.add_argument("--gains", type=Path, default=GAINS, metavar="FILE", help="what is ranked already")
    return line


if __name__ == "__main__":
    sys.exit(answer(run, parser()))
