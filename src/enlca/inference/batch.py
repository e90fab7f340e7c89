"""Many files in one go: reading, computing and writing at the same time, and one result per file.

One thread reads ahead and one writes behind, band by band, while the network works in the caller's thread.
Queues are bounded, in number and in bytes.
"""

import errno
import functools
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from enlca.errors import (
    CheckpointError,
    DamagedPicture,
    DeviceError,
    EnlcaError,
    JobError,
    NotFinite,
    StoreError,
    TooLarge,
)
from enlca.image.encoding import WRITABLE, Format
from enlca.image.files import check_format, format_of, is_upscaled, open_image, write_rows
from enlca.image.rows import MAX_PIXELS, PictureRows
from enlca.image.source import Source
from enlca.inference.jobs import Job, Outcome, Sink
from enlca.inference.outputs import Jobs
from enlca.inference.pixel_source import materialize, queue_share
from enlca.inference.target_size import ResizePlan, Size, plan_resize, resize_bytes, upscale_to
from enlca.runtime.concurrency import Abandoned, Channel, Progress, Worker, no_progress
from enlca.runtime.device import is_out_of_memory, require_memory
from enlca.runtime.files import PartialFiles, sweep

# Pictures that are read ahead, and pictures that may wait to be written.
PREFETCH, MAX_PENDING_WRITES = 2, 2
# Output folders that are remembered as swept: in the order of a tree, those above the present one.
FOLDERS = 1024
# Seconds that an interrupted batch may go on writing pictures that are upscaled already.
GRACE = 5.0
# Bytes of a picture beyond which it is spooled to disk, and of results queued for the writer.
QUEUE_BYTES = 1 << 26
# Rows that libvips keeps of a picture that it encodes; measured: up to 1,750 of RGB.
ENCODER_ROWS = 2048


# Remarks.
SALVAGED = "damaged: what decodes of it was taken"
TWICE = "was a result of enlca upscale already"


@dataclass(frozen=True)
class Settings:
    """How pictures are read and written.

    Attributes:
        quality: 1 to 100, of JPEG, WebP and AVIF.
        max_pixels: a picture whose header says more is refused before it is decoded.
        frames: "first" or "all" pages of a file; "auto": all where the format stays as it is.
        max_memory: bytes that this process may use on the processor; see `Upscaler`.
        overwrite: whether files that exist are replaced that are no upscaled pictures of ours.
        salvage: whether what decodes of a damaged picture is taken.
    """

    quality: int = 95
    max_pixels: int = MAX_PIXELS
    frames: str = "auto"
    max_memory: int | None = None
    overwrite: bool = False
    salvage: bool = False

    @property
    def queue_bytes(self) -> int:
        """Bytes that a queued picture, and its result on the way to the writer, may take in memory."""
        return QUEUE_BYTES if self.max_memory is None else min(QUEUE_BYTES, queue_share(self.max_memory))

    def reserve(self, form: Format, picture: PictureRows, plan: ResizePlan) -> int:
        """Return the bytes needed beside the network while a picture becomes that of its plan."""
        row = picture.layers * picture.dtype.itemsize * plan.width
        pixels = plan.width * plan.height * picture.pages
        rows, factor = ENCODER_ROWS * row, plan.scale or 1
        before = factor * picture.width, factor * picture.height
        if before != (plan.width, plan.height):
            rows += resize_bytes(before, (plan.width, plan.height), layers=picture.layers)
        return rows + form.memory_per_pixel * pixels + (1 + PREFETCH) * self.queue_bytes


DEFAULTS = Settings()


class _LeftOut(Exception):
    """A picture that is not upscaled; the message says why."""


def run(
    jobs: Sequence[Job],
    load: Callable[[int], Callable[..., PictureRows]],
    *,
    size: Size,
    scales: Sequence[int],
    settings: Settings = DEFAULTS,
    progress: Progress = no_progress,
) -> Generator[Outcome, None, None]:
    """Upscale one picture after the other, in order; a picture that fails does not stop the rest.

    Args:
        jobs: from `outputs.plan`.
        load: returns `Upscaler.rows` for a scale; called once for each scale that is needed.
        size: of the results.
        scales: that `load` has networks for.
        settings: how pictures are read and written.
        progress: gets the name of the current picture and the number of pictures done.

    Raises:
        CheckpointError, DeviceError: the network of a scale cannot be loaded, whatever the picture.
    """
    batch = _Batch(functools.cache(load), size, scales, settings)
    swept = functools.lru_cache(maxsize=FOLDERS)(sweep)
    pending: deque[Future[Outcome]] = deque()
    total = jobs.n_to_do if isinstance(jobs, Jobs) else sum(not job.skip for job in jobs)
    begun, name = 0, ""
    with batch.threads():
        for job, reading in batch.read_ahead(jobs):
            if isinstance(job.target, Path):
                swept(job.target.parent)
            if job.skip:
                pending.append(_done(Outcome(str(job.source), str(job.target), skipped=True)))
            else:
                name = job.source.name
                report = _part_of(progress, name, begun, total)
                report("", 0, 1)
                pending.append(batch.upscale(job, reading, report))
                begun += 1
            # Release this picture before the next one is computed.
            del reading
            while pending and (pending[0].done() or len(pending) > MAX_PENDING_WRITES):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    if total:
        progress(name, total, total)


def _part_of(progress: Progress, name: str, begun: int, total: int) -> Progress:
    """Return the progress of one picture as a part of the progress of all."""
    return lambda what, done, of: progress(name, begun + done / of, total)


class _Batch:
    """What the three threads of one `run` share."""

    def __init__(
        self,
        load: Callable[[int], Callable[..., PictureRows]],
        size: Size,
        scales: Sequence[int],
        settings: Settings,
    ):
        self.load, self.size, self.scales, self.settings = load, size, scales, settings
        self.reader, self.writer, self.partial = Worker("reader"), Worker("writer"), PartialFiles()

    @contextmanager
    def threads(self) -> Iterator[None]:
        """Stop both threads at the end; however it ends, no unfinished file is left."""
        try:
            yield
        finally:
            self.reader.stop()
            try:
                # Everything is written if all went well; else pictures that are upscaled may still be saved.
                self.writer.finish(GRACE)
            finally:
                self.partial.abandon()
                self.reader.finish(0.0)

    def read_ahead(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Future]]:
        """Yield each job with its picture, which is read while the jobs before it are computed."""
        queue: deque[tuple[Job, Future]] = deque()
        for job in jobs:
            queue.append((job, _done(None) if job.skip else self.reader.submit(self._read, job)))
            if len(queue) > PREFETCH:
                yield queue.popleft()
        while queue:
            yield queue.popleft()

    def _read(self, job: Job) -> tuple[PictureRows, float]:
        started = time.perf_counter()
        if isinstance(job.target, Path) and not self.settings.overwrite:
            _check_existing(job.target)
        picture = self._open(job)
        own = WRITABLE.get(Path(job.source.name).suffix.lower())
        if job.again and (picture.upscaled or (own and not own.holds_mark)):
            raise _LeftOut("a result of an earlier run beside its original: left out")
        # One whose decoder needs much is not decoded while another picture is computed.
        if picture.decoder_bytes <= self.settings.queue_bytes:
            picture = self._decoded(job, picture)
        return picture, time.perf_counter() - started

    def _open(self, job: Job, *, salvage: bool = False) -> PictureRows:
        settings, frames, source = self.settings, self.settings.frames, Source.of(job.source)
        form = WRITABLE.get(job.target.suffix.lower())
        if frames == "auto":
            frames = "all" if form and form.name.lower() == format_of(source) else "first"
        return open_image(source, max_bits=16, max_pixels=settings.max_pixels, frames=frames, salvage=salvage)

    def _decoded(self, job: Job, picture: PictureRows) -> PictureRows:
        """Decode a picture; of a damaged one what decodes, if that is asked for. Raises PictureError."""
        settings = {"limit": self.settings.queue_bytes, "max_memory": self.settings.max_memory}
        try:
            return materialize(picture, **settings)
        except DamagedPicture:
            if not self.settings.salvage:
                raise
        return materialize(self._open(job, salvage=True).with_remarks(SALVAGED), **settings)

    def upscale(
        self, job: Job, reading: Future[tuple[PictureRows, float]], progress: Progress
    ) -> Future[Outcome]:
        """Compute one picture while the writer takes the bands that are done."""
        notes: list[str] = []
        channel = Channel(self.settings.queue_bytes)
        try:
            picture, seconds = reading.result()
            started = time.perf_counter() - seconds
            plan = plan_resize(self.size, self.scales, *picture.size)
            notes += [plan.remark] if plan.remark else []
            notes += [TWICE] if picture.upscaled else []
            form = _check(job, picture, plan)
            picture = self._decoded(job, picture)
            reserve = self.settings.reserve(form, picture, plan)
            if plan.scale is None:
                # With a network, its strategy is chosen by what is left.
                hint, limit = "ask for fewer pixels", self.settings.max_memory
                require_memory(reserve, "to resize and encode it", max_memory=limit, hint=hint)
            made = upscale_to(picture, plan, self.load, reserve=reserve, progress=progress, note=notes.append)
        except _LeftOut as reason:
            return _done(Outcome(str(job.source), skipped=True, remark=str(reason)))
        except Exception as error:
            return _done(Outcome(str(job.source), error=_reason(job, error), cause=error))
        queued = replace(made, bands=channel)
        writing = self.writer.submit(self._write, job, queued, channel, started, notes)
        try:
            for band in made.bands:
                channel.put(band)
            channel.close()
        except Abandoned:
            pass
        except Exception as error:
            channel.close(error)
            return _done(Outcome(str(job.source), error=_reason(job, error), cause=error))
        except BaseException as error:
            channel.close(error)
            raise
        return writing

    def _write(
        self, job: Job, made: PictureRows, channel: Channel, started: float, notes: list[str]
    ) -> Outcome:
        try:
            remarks = _store(job.target, made, self.settings.quality, self.partial)
        except Exception as error:
            return Outcome(str(job.source), error=_reason(job, error), cause=error)
        finally:
            channel.abandon()
        seconds = round(time.perf_counter() - started, 3)
        remark = "; ".join((*notes, *made.remarks, *remarks)) or None
        return Outcome(str(job.source), str(job.target), *made.size, seconds, remark=remark)


def _check_existing(target: Path) -> None:
    """Refuse to replace a file that is no result of an earlier run. Raises JobError."""
    if target.is_file() and not is_upscaled(target):
        what = "exists, and is no picture that enlca upscale wrote"
        raise JobError(f"{target}: {what}; --overwrite replaces it, --skip-existing keeps it")


def _check(job: Job, picture: PictureRows, plan: ResizePlan) -> Format:
    """Refuse a picture that could not be written in the end, before any work is done for it."""
    name = Path(str(job.target))
    about = {"opaque": picture.opaque, "pages": picture.pages, "animated": bool(picture.delays)}
    form = check_format(name, plan.width, plan.height, **about)
    if isinstance(job.target, Sink):
        return form
    job.target.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(job.target.parent, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    if job.target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder; name a file")
    return form


def _store(target: Path | Sink, made: PictureRows, quality: int, partial: PartialFiles) -> tuple[str, ...]:
    if isinstance(target, Sink):
        return write_rows(target.file, made, quality=quality, name=target.name)
    return write_rows(target, made, quality=quality, partial=partial)


def _reason(job: Job, error: Exception) -> str:
    """Return the line about a picture that failed; re-raise errors that do not concern the picture."""
    if isinstance(error, (CheckpointError, DeviceError)):
        raise error
    if isinstance(error, (TooLarge, NotFinite, StoreError)):
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


def _done(result: object) -> Future:
    future: Future = Future()
    future.set_result(result)
    return future
