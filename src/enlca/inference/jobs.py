"""Many files in one go: reading, computing and writing at once, and one result per file, whatever happens.

One thread reads what comes next and one writes what is done, band by band, while the network works in the
caller's. What waits is bounded, in numbers and in bytes.
"""

import errno
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace

from enlca.errors import CheckpointError, DeviceError, EnlcaError, JobError, NotFinite, TooLarge
from enlca.image.encoding import Format
from enlca.image.files import check_format, format_of, open_image, write_rows
from enlca.image.rows import PictureRows
from enlca.inference.outcome import AHEAD, Outcome, Settings
from enlca.inference.plan import Failure, Job, plan
from enlca.inference.raster import held
from enlca.inference.target import Sizer
from enlca.inference.upscaler import Upscaler
from enlca.runtime.concurrency import Abandoned, Channel, Worker
from enlca.runtime.device import is_out_of_memory
from enlca.runtime.files import PartialFiles, sweep

__all__ = ["Failure", "Job", "JobError", "Outcome", "plan", "run"]

# Pictures that may wait to be written.
BEHIND = 2
# Seconds that an interrupted job may go on with the pictures that are enlarged already.
GRACE = 5.0
DEFAULTS = Settings()


def run(
    jobs: Sequence[Job],
    upscaler: Upscaler | Sizer,
    *,
    settings: Settings = DEFAULTS,
    on_start: Callable[[Job], None] = lambda job: None,
    on_share: Callable[[float], None] = lambda share: None,
) -> Generator[Outcome, None, None]:
    """Enlarge one after the other; a picture that fails does not stop the rest. Outcomes are in order.

    `on_start` hears of each picture that is begun, and `on_share` how much of it is done.

    Raises:
        CheckpointError, DeviceError: the network of a scale cannot be had; that is not the picture's fault.
    """
    sizer = upscaler if isinstance(upscaler, Sizer) else Sizer.of(upscaler)
    for folder in dict.fromkeys(job.target.parent for job in jobs):
        sweep(folder)
    behind: deque[Future[Outcome]] = deque()
    with _workers() as (reader, writer, partial):
        for job, reading in _ahead(jobs, reader, settings):
            if job.skip:
                behind.append(_done(Outcome(str(job.source), str(job.target), skipped=True)))
            else:
                on_start(job)
                behind.append(_enlarged(job, reading, sizer, writer, partial, settings, on_share))
            # Nothing of this picture is kept while the next one is at work.
            del reading
            while behind and (behind[0].done() or len(behind) > BEHIND):
                yield behind.popleft().result()
        while behind:
            yield behind.popleft().result()


def _enlarged(
    job: Job,
    reading: Future[tuple[PictureRows, float]],
    sizer: Sizer,
    writer: Worker,
    partial: PartialFiles,
    settings: Settings,
    on_share: Callable[[float], None],
) -> Future[Outcome]:
    """One picture through the network, while the writer takes the bands that are done."""
    notes: list[str] = []
    channel = Channel(settings.waiting_bytes)
    try:
        picture, seconds = reading.result()
        started = time.perf_counter() - seconds
        way = sizer.way(*picture.size)
        notes += [way.remark] if way.remark else []
        form = _check(job, picture, way.width, way.height)
        reserve = settings.reserve(form, picture, way.width, way.height)
        large = sizer(picture, reserve=reserve, report=on_share, note=notes.append)
    except Exception as error:
        return _done(Outcome(str(job.source), error=_reason(job, error)))
    passed_on = replace(large, bands=channel)
    writing = writer.submit(_write, job, passed_on, channel, partial, settings, started, notes)
    try:
        for band in large.bands:
            channel.put(band)
        channel.close()
    except Abandoned:
        pass
    except Exception as error:
        channel.close(error)
        return _done(Outcome(str(job.source), error=_reason(job, error)))
    except BaseException as error:
        channel.close(error)
        raise
    return writing


def _read(job: Job, settings: Settings) -> tuple[PictureRows, float]:
    started = time.perf_counter()
    frames = settings.frames
    if frames == "auto":
        pages = job.target.suffix.lower() in (".tif", ".tiff") and format_of(job.source) == "tiff"
        frames = "all" if pages else "first"
    picture = open_image(job.source, max_bits=16, max_pixels=settings.max_pixels, frames=frames)
    return held(picture, limit=settings.waiting_bytes), time.perf_counter() - started


def _write(
    job: Job,
    large: PictureRows,
    channel: Channel,
    partial: PartialFiles,
    settings: Settings,
    started: float,
    notes: list[str],
) -> Outcome:
    try:
        said = write_rows(job.target, large, quality=settings.quality, partial=partial)
    except Exception as error:
        return Outcome(str(job.source), error=_reason(job, error))
    finally:
        channel.abandon()
    seconds = round(time.perf_counter() - started, 3)
    remark = "; ".join((*notes, *large.remarks, *said)) or None
    return Outcome(str(job.source), str(job.target), *large.size, seconds, remark=remark)


def _check(job: Job, picture: PictureRows, width: int, height: int) -> Format:
    """Refuse, before any work is done for it, a picture that could not be written in the end."""
    form = check_format(job.target, width, height, opaque=picture.opaque, pages=picture.pages)
    job.target.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(job.target.parent, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    if job.target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder; name a file")
    return form


def _reason(job: Job, error: Exception) -> str:
    """The line about a picture that failed; errors that are not its fault are raised again."""
    if isinstance(error, (CheckpointError, DeviceError)):
        raise error
    if isinstance(error, (TooLarge, NotFinite)):
        return f"{job.source}: {error}"
    if isinstance(error, EnlcaError):
        return str(error)
    if isinstance(error, OSError):
        return f"{job.target}: {error.strerror or error}"
    if isinstance(error, UnicodeEncodeError):
        return f"{job.source}: its name is not Unicode; rename it"
    if is_out_of_memory(error):
        return f"{job.source}: too large for the memory of this machine"
    raise error


@contextmanager
def _workers() -> Iterator[tuple[Worker, Worker, PartialFiles]]:
    """A reader, a writer and its place; whatever ends the work, nothing half-written is left by them."""
    reader, writer, partial = Worker("reader"), Worker("writer"), PartialFiles()
    try:
        yield reader, writer, partial
    finally:
        reader.stop()
        try:
            # All is done if all went well; else what is enlarged already may still be saved.
            writer.finish(GRACE)
        finally:
            partial.abandon()
            reader.finish(0.0)


def _ahead(jobs: Sequence[Job], reader: Worker, settings: Settings) -> Iterator[tuple[Job, Future]]:
    """Each job with its picture, which is read while those before it are at work."""
    waiting: deque[tuple[Job, Future]] = deque()
    for job in jobs:
        waiting.append((job, _done(None) if job.skip else reader.submit(_read, job, settings)))
        if len(waiting) > AHEAD:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()


def _done(result: object) -> Future:
    future: Future = Future()
    future.set_result(result)
    return future
