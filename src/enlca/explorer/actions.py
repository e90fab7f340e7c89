"""The actions of the page, from what it sends to the HTML and files that it shows; without Gradio."""

import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import torch

from enlca.analysis.attribution import Attribution, lam
from enlca.analysis.correlation import View, view_of
from enlca.errors import NothingOpen, TooMuch
from enlca.explorer import html
from enlca.explorer.batch import Zipped, upscale_into_zip
from enlca.explorer.maps import N_QUICK, MapSettings, attention_maps
from enlca.explorer.models import Models, count_blocks, sr_network
from enlca.explorer.session import Job, OpenPicture, Upscaled, Visitor, Visitors
from enlca.explorer.uploads import read_upload
from enlca.image.picture import Picture, collect, rows_of, write_image
from enlca.image.resize import imresize
from enlca.inference.execute import padded
from enlca.inference.reach import pixels_needed
from enlca.inference.tiles import Region
from enlca.inference.upscaler import Upscaler
from enlca.runtime.concurrency import Progress
from enlca.runtime.device import as_text, used_memory

UPSCALING, ATTRIBUTING, BATCH = "upscaling", "attributing", "batch"
BICUBIC = "bicubic"
SAMPLE = Path(__file__).parent / "sample.png"
# How many times the pixels of the page's limit the pictures of a batch may have, which are only upscaled.
BATCH_PIXELS = 10
# Tensors of the network's width that are alive while q and k are computed. Measured with tiny, rounded up.
ALIVE = 6
# Fewer steps of LAM than in a paper, for speed; the map says how complete it is. Maps of 8 and of 32 steps
# have a cosine of 0.985 to 1. The steps are doubled once if a small picture's map is less complete than this.
LAM_STEPS, LAM_TOLERANCE, LAM_SMALL = 8, 0.05, 1 << 15

# Called with the share that is done, from 0 to 1, and a description.
Report = Callable[[float, str], object]


@contextmanager
def _freed_memory_returned() -> Iterator[None]:
    """Return freed memory to the system afterwards (40 ms), so that many requests do not fragment it."""
    try:
        yield
    finally:
        used_memory(torch.device("cpu"))


@dataclass(frozen=True)
class Choice:
    """The settings chosen on the page.

    Attributes:
        model, scale: a network of `Models`.
        block: index of a non-local block, from 0.
        amplification, n_features: of the attentions; None is the network's own.
        second: another network (name and scale) whose maps are shown, too.
    """

    model: str
    scale: int
    block: int = 0
    amplification: float | None = None
    n_features: int | None = None
    second: tuple[str, int] | None = None

    @property
    def networks(self) -> list[tuple[str, int]]:
        """The networks whose maps are shown."""
        return [(self.model, self.scale), *([self.second] if self.second else [])]


class Explorer:
    """All actions; `identity` is that of an open page."""

    def __init__(self, models: Models, visitors: Visitors, *, max_megapixels: float):
        self.models = models
        self.visitors = visitors
        self.max_megapixels = max_megapixels

    def open(self, identity: str, path: Path) -> OpenPicture:
        """Read an uploaded picture into memory. Raises PictureError."""
        visitor = self.visitors.of(identity)
        opened = OpenPicture(path.name, read_upload(path, max_megapixels=self.max_megapixels))
        visitor.open(opened)
        self.visitors.views.drop(visitor)
        return opened

    def open_sample(self, identity: str) -> OpenPicture:
        """Open the picture that comes with the page."""
        return self.open(identity, SAMPLE)

    def quick_maps(self, identity: str, choice: Choice, *, point: tuple[int, int] | None = None) -> str:
        """Return the quick maps of a row and column for all chosen networks; None is the last point.

        Raises:
            NothingOpen, CheckpointError, TooMuch.
        """
        visitor = self.visitors.of(identity)
        visitor.point_at(*(point or visitor.point))
        visitor.map_requests += 1
        return self._panels(visitor, choice, most=N_QUICK)

    def all_maps(self, identity: str, choice: Choice) -> str | None:
        """Return all maps of the point; None if the visitor has asked for others meanwhile.

        Raises:
            NothingOpen, CheckpointError, TooMuch.
        """
        visitor = self.visitors.of(identity)
        requests = visitor.map_requests
        panels = self._panels(visitor, choice, most=None)
        return panels if visitor.map_requests == requests else None

    @_freed_memory_returned()
    def _panels(self, visitor: Visitor, choice: Choice, *, most: int | None) -> str:
        opened, (row, column) = visitor.picture(), visitor.point
        settings = MapSettings(choice.amplification, choice.n_features, visitor.redraw)
        panels = []
        for name, scale in choice.networks:
            upscaler = self.models.load(name, scale)
            if n_blocks := count_blocks(upscaler):
                block = min(choice.block, n_blocks - 1)
                view = self._view(visitor, opened, upscaler, (name, scale, block))
                found = attention_maps(view, sr_network(upscaler).config, row, column, settings)
                title = f"{name} ×{scale}, block {block + 1} of {n_blocks}"
                panels.append(html.panel(title, islice(found, most), row, column))
        if not panels:
            return html.hint(f"{choice.model} has no attention: it sees the neighbourhood only.")
        return html.legend(f"row {row}, column {column}") + "".join(panels)

    def _view(
        self, visitor: Visitor, opened: OpenPicture, upscaler: Upscaler, key: tuple[str, int, int]
    ) -> View:
        """Return q and k of the block that is last in `key`."""

        def make() -> View:
            self._check_memory(upscaler, opened, ALIVE * sr_network(upscaler).config.channels)
            return view_of(sr_network(upscaler), opened.lr(upscaler.device), block=key[-1])

        return self.visitors.views.get(visitor, key, make)

    def upscale(self, identity: str, model: str, scale: int, report: Report) -> Upscaled:
        """Upscale the picture by one model; see `upscale_by`."""
        return self.upscale_by(identity, [model], scale, report)[model]

    @_freed_memory_returned()
    def upscale_by(
        self, identity: str, models: Sequence[str], scale: int, report: Report, *, strength: float = 1.0
    ) -> dict[str, Upscaled]:
        """Upscale the picture by each model and write the files; those of the last time are deleted.

        Raises:
            NothingOpen, CheckpointError, Stopped; TooLarge: see `Upscaler`.
        """
        visitor = self.visitors.of(identity)
        opened, job = visitor.picture(), visitor.jobs.setdefault(UPSCALING, Job())
        job.check()
        folder, results = _new_folder(visitor), {}
        for number, model in enumerate(models):

            def on_progress(what: str, done: int | float, total: int | float, number: int = number) -> None:
                job.check()
                share = (number + done / total) / len(models)
                report(share, f"{share:.0%} upscaled")

            on_progress("", 0, 1)
            upscaler = self.models.load(model, scale, strength)
            own = folder / str(number)
            own.mkdir()
            part = f"_{Path(model).stem}" if len(models) > 1 else ""
            results[model] = _write_upscaled(upscaler, opened, own, on_progress, part=part)
        visitor.results = results
        return results

    def pair(self, identity: str, left: str, right: str) -> tuple[Path, Path, Path]:
        """Return the pictures for both sides of the slider, and the file of the right one to download.

        Raises:
            NothingOpen: the results have gone.
        """
        results = self.visitors.of(identity).results
        if right not in results or left not in (BICUBIC, *results):
            raise NothingOpen("These results have gone: press Upscale once more.")
        before = results[right].before if left == BICUBIC else results[left].after
        return before, results[right].after, results[right].file

    @_freed_memory_returned()
    def upscale_many(
        self, identity: str, files: Sequence[Path], model: str, scale: int, report: Report
    ) -> Zipped:
        """Upscale files that were uploaded into one zip; the files of the last time are deleted.

        Raises:
            CheckpointError, Stopped.
        """
        visitor = self.visitors.of(identity)
        job = visitor.jobs.setdefault(BATCH, Job())
        job.check()
        most = int(BATCH_PIXELS * 1e6 * self.max_megapixels)
        upscaler, folder = self.models.load(model, scale), _new_folder(visitor)
        return upscale_into_zip(files, upscaler, folder, job=job, report=report, max_pixels=most)

    @_freed_memory_returned()
    def attribute(self, identity: str, choice: Choice, side: int, report: Report) -> str:
        """Compute LAM of the square of `side` LR pixels around the visitor's point, for all chosen networks.

        Raises:
            NothingOpen, CheckpointError, Stopped, TooMuch.
        """
        visitor = self.visitors.of(identity)
        opened, job = visitor.picture(), visitor.jobs.setdefault(ATTRIBUTING, Job())
        figures = []
        for name, scale in choice.networks:
            job.check()
            upscaler = self.models.load(name, scale)

            def on_step(done: int, total: int, name: str = name) -> None:
                job.check()
                report(done / total, f"{name}: step {done} of {total}")

            found = self._attribution(upscaler, opened, visitor.point, side, on_step)
            figures.append(html.attribution(f"{name} ×{scale}", found, *visitor.point))
        return html.side_by_side(figures)

    def _attribution(
        self,
        upscaler: Upscaler,
        opened: OpenPicture,
        point: tuple[int, int],
        side: int,
        on_step: Callable[[int, int], None],
    ) -> Attribution:
        scale = upscaler.scale
        self._check_memory(upscaler, opened, upscaler.network.measure_elements(gradient=True))
        lr = opened.lr(upscaler.device)
        side = min(side, *lr.shape[2:])
        # As `place` in page.js, so that the square is where the page draws it.
        top, left = (
            min(max(at - side // 2, 0), length - side) for at, length in zip(point, lr.shape[2:], strict=True)
        )
        square = {"top": scale * top, "left": scale * left, "side": scale * side}
        own, whole = Region(top, left, top + side, left + side), Region(0, 0, *lr.shape[2:])
        within = pixels_needed(upscaler.network, own, whole)
        most = 2 * LAM_STEPS if lr.shape[2] * lr.shape[3] <= LAM_SMALL else LAM_STEPS
        settings = {"steps": LAM_STEPS, "most_steps": most, "tolerance": LAM_TOLERANCE}
        return lam(padded(upscaler.network), lr, **square, within=within, on_step=on_step, **settings)

    def _check_memory(self, upscaler: Upscaler, opened: OpenPicture, elements: int) -> None:
        """Refuse a picture that exceeds the memory budget with so many float32 elements for each pixel."""
        width, height = opened.picture.size
        used, limit = upscaler.memory_budget()
        needed = elements * torch.float32.itemsize * width * height
        if needed > limit - used:
            room = f"needs {as_text(needed)}, and {as_text(max(0, limit - used))} may be used"
            raise TooMuch(f"{opened.name}: this picture {room}; crop it to what matters")


def _new_folder(visitor: Visitor) -> Path:
    """Delete a visitor's files and make a new folder for others."""
    visitor.results = {}
    for folder in visitor.folder.iterdir():
        shutil.rmtree(folder, ignore_errors=True)
    # A new one each time, so that browsers do not take the last result from their cache.
    folder = visitor.folder / secrets.token_hex(4)
    folder.mkdir()
    return folder


def _write_upscaled(
    upscaler: Upscaler, opened: OpenPicture, folder: Path, progress: Progress, *, part: str = ""
) -> Upscaled:
    """Upscale a picture into files of `folder`; `progress` may raise to stop it. `part` is of the name."""
    picture, notes = opened.picture, []
    sr = collect(upscaler.rows(rows_of(picture), progress=progress, note=notes.append))
    file = folder / f"{Path(opened.name).stem}{part}_x{upscaler.scale}.png"
    notes += write_image(file, sr)
    before, after = folder / "before.png", file
    bicubic = imresize(html.flatten(picture).pixels, Fraction(upscaler.scale))
    write_image(before, Picture(bicubic, icc=picture.icc))
    if sr.alpha is not None:
        after = folder / "after.png"
        write_image(after, html.flatten(sr))
    return Upscaled(file, before, after, sr.size, (*sr.remarks, *notes))
