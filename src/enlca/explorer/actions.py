"""What a visitor can do, from what the page sends to what it shows; nothing here knows Gradio."""

import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from enlca.analysis.attribution import Attribution, lam
from enlca.analysis.correlation import View, view_of
from enlca.errors import TooMuch
from enlca.explorer import cards
from enlca.explorer.enlarging import Enlarged, enlarge
from enlca.explorer.looking import QUICK, Settings, look
from enlca.explorer.models import Models, count_blocks, sr_network
from enlca.explorer.session import Opened, Visitor, Visitors, Work
from enlca.explorer.uploads import read_upload
from enlca.inference.upscaler import Upscaler
from enlca.runtime.device import as_text, used_memory

ENLARGING, ATTRIBUTING = "enlarging", "attributing"
# Tensors of the network's width that are alive while q and k are computed. Measured with tiny, rounded up.
ALIVE = 6

# A page is not a paper: fewer steps, and it says how complete the map is.
PATIENCE = {"steps": 32, "most_steps": 64, "tolerance": 0.02}

# Hears how much is done, from 0 to 1, and in words.
Report = Callable[[float, str], object]


@contextmanager
def _tidied() -> Iterator[None]:
    """Give freed memory back afterwards (40 ms): where many ask one after the other, gaps would pile up."""
    try:
        yield
    finally:
        used_memory(torch.device("cpu"))


@dataclass(frozen=True)
class Choice:
    """What is chosen on the page.

    Attributes:
        model, scale: a network of `Models`.
        block: of its non-local blocks, counted from 0.
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
        """Those whose maps are shown."""
        return [(self.model, self.scale), *([self.second] if self.second else [])]


class Explorer:
    """All actions; `identity` is that of an open page."""

    def __init__(self, models: Models, visitors: Visitors, *, max_megapixels: float):
        self.models = models
        self.visitors = visitors
        self.max_megapixels = max_megapixels

    def open(self, identity: str, path: Path) -> Opened:
        """Read a picture that was dropped; its file is not needed any more. Raises PictureError."""
        visitor = self.visitors.of(identity)
        opened = Opened(path.name, read_upload(path, max_megapixels=self.max_megapixels))
        visitor.open(opened)
        self.visitors.views.drop(visitor)
        return opened

    def look(self, identity: str, choice: Choice, *, point: tuple[int, int] | None = None) -> str:
        """The quick maps of a row and column, of all chosen networks; without `point`, of the one before.

        Raises:
            NothingOpen, CheckpointError, TooMuch.
        """
        visitor = self.visitors.of(identity)
        visitor.point_at(*(point or visitor.point))
        visitor.looks += 1
        return self._panels(visitor, choice, most=QUICK)

    def complete(self, identity: str, choice: Choice) -> str | None:
        """All maps of the point; None if the visitor has looked again meanwhile. Raises as `look`."""
        visitor = self.visitors.of(identity)
        looks = visitor.looks
        panels = self._panels(visitor, choice, most=None)
        return panels if visitor.looks == looks else None

    @_tidied()
    def _panels(self, visitor: Visitor, choice: Choice, *, most: int | None) -> str:
        opened, (row, column) = visitor.picture(), visitor.point
        settings = Settings(choice.amplification, choice.n_features, visitor.redraw)
        panels = []
        for name, scale in choice.networks:
            upscaler = self.models.load(name, scale)
            if n_blocks := count_blocks(upscaler):
                block = min(choice.block, n_blocks - 1)
                view = self._view(visitor, opened, upscaler, (name, scale, block))
                found = look(view, sr_network(upscaler).config, row, column, settings)
                title = f"{name} ×{scale}, block {block + 1} of {n_blocks}"
                panels.append(cards.panel(title, islice(found, most), row, column))
        if not panels:
            return cards.hint(f"{choice.model} has no attention: it looks at the neighbourhood only.")
        return cards.legend(f"row {row}, column {column}") + "".join(panels)

    def _view(self, visitor: Visitor, opened: Opened, upscaler: Upscaler, key: tuple[str, int, int]) -> View:
        """Of the block that is last in `key`."""

        def make() -> View:
            self._check_room(upscaler, opened, ALIVE * sr_network(upscaler).config.channels)
            return view_of(sr_network(upscaler), opened.lr(upscaler.device), block=key[-1])

        return self.visitors.views.get(visitor, key, make)

    @_tidied()
    def enlarge(self, identity: str, model: str, scale: int, report: Report) -> Enlarged:
        """The enlarged picture, and bicubic's.

        Raises:
            NothingOpen, CheckpointError, Stopped; TooLarge: see `Upscaler`.
        """
        visitor = self.visitors.of(identity)
        opened, work = visitor.picture(), visitor.work.setdefault(ENLARGING, Work())

        def on_progress(what: str, done: int | float, total: int | float) -> None:
            work.check()
            report(done / total, f"{done / total:.0%} upscaled")

        on_progress("", 0, 1)
        upscaler = self.models.load(model, scale)
        # Another folder each time, so that browsers take no old picture for the new one.
        for folder in visitor.folder.iterdir():
            shutil.rmtree(folder, ignore_errors=True)
        folder = visitor.folder / secrets.token_hex(4)
        folder.mkdir()
        return enlarge(upscaler, opened.picture, folder, Path(opened.name).stem, progress=on_progress)

    @_tidied()
    def attribute(self, identity: str, choice: Choice, side: int, report: Report) -> str:
        """LAM of the square of `side` small pixels around the visitor's point, for all chosen networks.

        Raises:
            NothingOpen, CheckpointError, Stopped, TooMuch.
        """
        visitor = self.visitors.of(identity)
        opened, work = visitor.picture(), visitor.work.setdefault(ATTRIBUTING, Work())
        figures = []
        for name, scale in choice.networks:
            work.check()
            upscaler = self.models.load(name, scale)

            def on_step(done: int, total: int, name: str = name) -> None:
                work.check()
                report(done / total, f"{name}: step {done} of {total}")

            found = self._attribution(upscaler, opened, visitor.point, side, on_step)
            figures.append(cards.attribution(f"{name} ×{scale}", found, *visitor.point))
        return cards.side_by_side(figures)

    def _attribution(
        self,
        upscaler: Upscaler,
        opened: Opened,
        point: tuple[int, int],
        side: int,
        on_step: Callable[[int, int], None],
    ) -> Attribution:
        scale = upscaler.scale
        self._check_room(upscaler, opened, upscaler.network.measure_elements(gradient=True))
        lr = opened.lr(upscaler.device)
        side = min(side, *lr.shape[2:])
        # The same as `place` in page.js, so that the square is where the page draws it.
        top, left = (
            min(max(at - side // 2, 0), length - side) for at, length in zip(point, lr.shape[2:], strict=True)
        )
        square = {"top": scale * top, "left": scale * left, "side": scale * side}
        return lam(upscaler.network, lr, **square, on_step=on_step, **PATIENCE)

    def _check_room(self, upscaler: Upscaler, opened: Opened, numbers: int) -> None:
        """Refuse a picture that takes too much memory at so many numbers for each pixel."""
        width, height = opened.picture.size
        used, limit = upscaler.memory_budget()
        needed = numbers * torch.float32.itemsize * width * height
        if needed > limit - used:
            room = f"needs {as_text(needed)}, and {as_text(max(0, limit - used))} may be used"
            raise TooMuch(f"{opened.name}: this picture {room}; crop it to what matters")
