"""Many files in one go: what goes where, and one result per file, whatever happens to the others."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from enlca.errors import EnlcaError
from enlca.image.files import WRITABLE, PictureError, find_pictures, write_image
from enlca.inference.upscaler import Upscaler


class JobError(EnlcaError):
    """A set of inputs and outputs that cannot be meant."""


@dataclass(frozen=True)
class Job:
    """One picture to enlarge."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Outcome:
    """What became of one input; `error` is None if all went well."""

    source: str
    target: str | None = None
    width: int | None = None
    height: int | None = None
    seconds: float | None = None
    error: str | None = None

    def to_dict(self) -> dict:
        """A JSON record."""
        return asdict(self)


def plan(
    inputs: Sequence[Path], out: Path | None, *, scale: int, suffix: str = ".png"
) -> tuple[list[Job], list[Outcome]]:
    """Which file becomes which; inputs that cannot be used come back as failed outcomes.

    A folder stands for the pictures in it. `out` is a file (one input) or a folder; None puts
    `NAME_xSCALE.png` beside each input.

    Raises:
        JobError: if several inputs would go into one file, an input would be overwritten, or `out` is
            neither a folder nor a file that can be written.
    """
    sources, failed = [], []
    for path in inputs:
        try:
            sources += find_pictures(path) if os.path.isdir(path) else [path]
        except PictureError as error:
            failed.append(Outcome(str(path), error=str(error)))
    single_file = out is not None and not out.is_dir() and out.suffix.lower() in WRITABLE
    if single_file and (len(inputs) > 1 or inputs[0].is_dir()):
        raise JobError(f"-o {out} names one file, but there is more than one input; name a folder")
    if out is not None and not single_file and out.suffix and not out.is_dir():
        raise JobError(f"-o {out}: cannot write {out.suffix}; choose from {' '.join(WRITABLE)}, or a folder")
    if out is not None and not single_file and out.is_file():
        raise JobError(f"-o {out} is a file, not a folder; give it a suffix from {' '.join(WRITABLE)}")
    jobs: list[Job] = []
    writers: dict[Path, Path] = {}
    originals = {os.path.realpath(path) for path in sources}
    for source in dict.fromkeys(sources):
        target = out if single_file and out else (out or source.parent) / f"{source.stem}_x{scale}{suffix}"
        if target in writers:
            raise JobError(f"{writers[target]} and {source} would both be written to {target}; rename one")
        if os.path.realpath(target) in originals:
            raise JobError(f"{target} is an input and would be overwritten; choose another -o")
        writers[target] = source
        jobs.append(Job(source, target))
    return jobs, failed


def run(
    jobs: Sequence[Job],
    upscaler: Upscaler,
    *,
    quality: int = 95,
    on_start: Callable[[Job], None] = lambda job: None,
) -> Iterator[Outcome]:
    """Enlarge one after the other; a picture that fails does not stop the rest."""
    for job in jobs:
        on_start(job)
        started = time.perf_counter()
        try:
            job.target.parent.mkdir(parents=True, exist_ok=True)
            picture = upscaler(job.source)
            write_image(job.target, picture, quality=quality)
        except OSError as error:
            yield Outcome(str(job.source), error=f"{job.target}: {error.strerror or error}")
        except EnlcaError as error:
            yield Outcome(str(job.source), error=str(error))
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
            yield Outcome(str(job.source), error=f"{job.source}: too large for the memory of this machine")
        else:
            height, width = picture.pixels.shape[:2]
            seconds = round(time.perf_counter() - started, 3)
            yield Outcome(str(job.source), str(job.target), width, height, seconds)


def _out_of_memory(error: Exception) -> bool:
    """PyTorch has an exception of its own for a GPU, but only a text for a CPU."""
    own = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, own) or "can't allocate memory" in str(error)
