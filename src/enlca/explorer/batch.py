"""Many pictures in one go: each is upscaled as `enlca upscale` does it, and one zip holds the results."""

import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from enlca.errors import TooManyPixels
from enlca.explorer.session import Job
from enlca.inference.batch import Settings, run
from enlca.inference.jobs import Job as Work
from enlca.inference.target_size import Size
from enlca.inference.upscaler import Upscaler

ZIP = "upscaled.zip"


class Zipped(NamedTuple):
    """A zip of results, the number of them, and a line for each picture that failed."""

    file: Path
    n_done: int
    failures: list[str]


def upscale_into_zip(
    files: Iterable[Path],
    upscaler: Upscaler,
    folder: Path,
    *,
    job: Job,
    report: Callable[[float, str], object],
    max_pixels: int,
) -> Zipped:
    """Upscale files into `folder`/ZIP as PNG; each result is deleted as soon as the zip holds it.

    Raises:
        Stopped: `job` was stopped.
        OSError: the disk is full.
    """
    sources = list(files)
    targets = [folder / name for name in _names(sources, upscaler.network.scale)]
    works = [Work(source, target) for source, target in zip(sources, targets, strict=True)]
    failures, n_done = [], 0

    def on_progress(what: str, done: int | float, total: int | float) -> None:
        job.check()
        report(done / max(total, 1), f"{done:.0f} of {len(works)} done")

    settings = Settings(max_pixels=max_pixels)
    results = run(
        works,
        lambda scale: upscaler.rows,
        size=Size(scale=Fraction(upscaler.network.scale)),
        scales=[upscaler.network.scale],
        settings=settings,
        progress=on_progress,
    )
    # PNG is compressed already.
    with zipfile.ZipFile(folder / ZIP, "w", zipfile.ZIP_STORED) as whole, closing(results):
        for source, target, outcome in zip(sources, targets, results, strict=True):
            job.check()
            if outcome.error is None:
                whole.write(target, target.name)
                target.unlink()
                n_done += 1
            elif isinstance(large := outcome.cause, TooManyPixels):
                size = f"{large.width} x {large.height}"
                failures.append(
                    f"{source.name}: {size} is more than the {max_pixels / 1e6:g} megapixels of a batch"
                )
            else:
                failures.append(outcome.error.replace(str(source), source.name))
    return Zipped(folder / ZIP, n_done, failures)


def _names(files: Iterable[Path], scale: int) -> Iterator[str]:
    """Yield a name for each result: of the stem, and, where that is taken, of the suffix and a number."""
    taken: set[str] = set()
    for file in files:
        kind = file.suffix.lower().removeprefix(".")
        candidates = [f"{file.stem}_x{scale}.png", f"{file.stem}_{kind}_x{scale}.png"]
        number = 2
        while (name := candidates.pop(0)).lower() in taken:
            candidates.append(f"{file.stem}_{kind}_{number}_x{scale}.png")
            number += 1
        taken.add(name.lower())
        yield name
