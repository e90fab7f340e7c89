"""Many files in one go: reading, computing and writing at once, and one result per file, whatever happens.

One thread reads what comes next and one writes what is done, while the network works in the caller's. What
waits is bounded, in numbers and, since results are large, in bytes.
"""

import errno
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np
import torch

from enlca.checkpoint.store import CheckpointError
from enlca.errors import EnlcaError
from enlca.image.files import WRITABLE, Picture, PictureError, read_image
from enlca.image.picture import MAX_PIXELS
from enlca.inference.plan import Failure, Job, JobError, plan
from enlca.inference.scratch import Scratch, sweep
from enlca.inference.target import Sizer, Way
from enlca.inference.upscaler import DeviceError, Upscaler
from enlca.inference.worker import Worker

__all__ = ["Failure", "Job", "JobError", "Outcome", "plan", "run"]

# Pictures that wait to be enlarged, results that wait to be written, and bytes of results beyond which the
# network waits, too.
AHEAD = 2
BEHIND = 2
BYTES_BEHIND = 1 << 28
# Seconds that an interrupted job may go on with the pictures that are enlarged already.
GRACE = 5.0


@dataclass(frozen=True)
class Outcome:
    """What became of one input; `error` is None if all went well.

    `seconds` counts reading, computing and writing; `remark` says where no network, or more than one, did it.
    """

    source: str
    target: str | None = None
    width: int | None = None
    height: int | None = None
    seconds: float | None = None
    error: str | None = None
    skipped: bool = False
    remark: str | None = None

    def to_dict(self) -> dict:
        """A JSON record."""
        return asdict(self)


def run(
    jobs: Sequence[Job],
    upscaler: Upscaler | Sizer,
    *,
    quality: int = 95,
    max_pixels: int = MAX_PIXELS,
    on_start: Callable[[Job], None] = lambda job: None,
) -> Generator[Outcome, None, None]:
    """Enlarge one after the other; a picture that fails does not stop the rest. Outcomes are in order.

    A picture whose header promises more than `max_pixels` is refused before it is decoded.

    Raises:
        CheckpointError, DeviceError: the network of a scale cannot be had; that is not the picture's fault.
    """
    sizer = upscaler if isinstance(upscaler, Sizer) else Sizer.of(upscaler)
    for folder in dict.fromkeys(job.target.parent for job in jobs):
        sweep(folder)
    behind: deque[tuple[Future[Outcome], int]] = deque()
    with _workers() as (reader, writer, scratch):
        for job, reading in _ahead(jobs, reader, max_pixels):
            if job.skip:
                behind.append((_done(Outcome(str(job.source), str(job.target), skipped=True)), 0))
            else:
                on_start(job)
                behind.append(_enlarged(job, reading, sizer, writer, scratch, quality))
            # Nothing of this picture is kept while the next one is at work.
            del reading
            while behind and (behind[0][0].done() or _too_much(behind)):
                yield behind.popleft()[0].result()
        while behind:
            yield behind.popleft()[0].result()


def _enlarged(
    job: Job, reading: Future, sizer: Sizer, writer: Worker, scratch: Scratch, quality: int
) -> tuple[Future[Outcome], int]:
    """One picture through the network and on to the writer; and how many bytes wait there."""
    try:
        picture, seconds = reading.result()
        started = time.perf_counter()
        way = sizer.way(picture)
        _check(job, picture, way)
        large = sizer(picture)
        seconds += time.perf_counter() - started
    except Exception as error:
        return _done(Outcome(str(job.source), error=_reason(job, error))), 0
    return writer.submit(_write, job, large, way, scratch, quality, seconds), large.pixels.nbytes


def _read(job: Job, max_pixels: int) -> tuple[Picture, float]:
    started = time.perf_counter()
    picture = read_image(job.source, max_bits=16, max_pixels=max_pixels)
    return picture, time.perf_counter() - started


def _write(job: Job, large: Picture, way: Way, scratch: Scratch, quality: int, seconds: float) -> Outcome:
    started = time.perf_counter()
    try:
        said = scratch.write(job.target, large, quality=quality)
    except Exception as error:
        return Outcome(str(job.source), error=_reason(job, error))
    height, width = large.pixels.shape[:2]
    seconds = round(seconds + time.perf_counter() - started, 3)
    remark = "; ".join(filter(None, (way.remark, *large.remarks, *said))) or None
    return Outcome(str(job.source), str(job.target), width, height, seconds, remark=remark)


def _check(job: Job, picture: Picture, way: Way) -> None:
    """Refuse, before any work is done for it, a picture that could not be written in the end."""
    form = WRITABLE[job.target.suffix.lower()]
    if form.longest_side and max(way.width, way.height) > form.longest_side:
        limit = f"{form.name} holds at most {form.longest_side} pixels a side"
        size = f"{way.width}x{way.height}"
        raise PictureError(f"{job.target}: {limit}, this picture would be {size}; write .png or .tif")
    alpha = picture.alpha
    if alpha is not None and not form.holds_alpha and alpha.min() < np.iinfo(alpha.dtype).max:
        raise PictureError(f"{job.target}: {form.name} cannot hold transparency; write .png or .webp")
    job.target.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(job.target.parent, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    if job.target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder; name a file")


def _reason(job: Job, error: Exception) -> str:
    """The line about a picture that failed; errors that are not its fault are raised again."""
    if isinstance(error, (CheckpointError, DeviceError)):
        raise error
    if isinstance(error, EnlcaError):
        return str(error)
    if isinstance(error, OSError):
        return f"{job.target}: {error.strerror or error}"
    if isinstance(error, UnicodeEncodeError):
        return f"{job.source}: its name is not Unicode; rename it"
    if _out_of_memory(error):
        return f"{job.source}: too large for the memory of this machine"
    raise error


def _out_of_memory(error: Exception) -> bool:
    """PyTorch has an exception of its own for a GPU, but only a text for a CPU."""
    own = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, own) or "can't allocate memory" in str(error)


@contextmanager
def _workers() -> Iterator[tuple[Worker, Worker, Scratch]]:
    """A reader, a writer and its place; whatever ends the work, nothing half-written is left by them."""
    reader, writer, scratch = Worker("reader"), Worker("writer"), Scratch()
    try:
        yield reader, writer, scratch
    finally:
        reader.stop()
        try:
            # All is done if all went well; else what is enlarged already may still be saved.
            writer.finish(GRACE)
        finally:
            scratch.abandon()
            reader.finish(0.0)


def _ahead(jobs: Sequence[Job], reader: Worker, max_pixels: int) -> Iterator[tuple[Job, Future]]:
    """Each job with its picture, which is read while those before it are at work."""
    waiting: deque[tuple[Job, Future]] = deque()
    for job in jobs:
        waiting.append((job, _done(None) if job.skip else reader.submit(_read, job, max_pixels)))
        if len(waiting) > AHEAD:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()


def _too_much(behind: deque) -> bool:
    """Whether the network has to wait for the writer."""
    return len(behind) > BEHIND or sum(size for _, size in behind) > BYTES_BEHIND


def _done(result: object) -> Future:
    future: Future = Future()
    future.set_result(result)
    return future
