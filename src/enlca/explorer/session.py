"""What visitors have open: pictures, work that can be stopped, and views that are kept within bounds.

A *view* (q and k of one block) is what a click is answered from; making it is most of the work, so the last
ones are kept. Bytes are counted per visitor and in all, visitors are counted, and what was not used for the
longest time goes first.
"""

import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from enlca.analysis.correlation import View
from enlca.errors import NothingOpen, Stopped
from enlca.explorer.uploads import OwnFolder
from enlca.image.picture import Picture
from enlca.inference.pixel_source import RGBView

VISITORS = 40
BYTES_OF_ONE = 256 << 20
BYTES_IN_ALL = 1 << 30


@dataclass(frozen=True, eq=False)
class Opened:
    """A picture that somebody dropped."""

    name: str
    picture: Picture

    def lr(self, device: torch.device) -> Float[Tensor, "1 3 H W"]:
        """What a network sees of it, in [0, 1]; over white where it is transparent."""
        background = None if self.picture.alpha is None else 1.0
        rgb = RGBView(self.picture.layers, background)[slice(None), slice(None)]
        return torch.tensor(rgb, device=device).permute(2, 0, 1)[None].contiguous()


class Work:
    """Something that takes long, and can be stopped from another thread."""

    def __init__(self) -> None:
        self._stop = threading.Event()

    def stop(self) -> None:
        """Let the next `check` end it."""
        self._stop.set()

    def check(self) -> None:
        """Raises Stopped."""
        if self._stop.is_set():
            raise Stopped("Stopped.")


@dataclass(eq=False)
class Visitor:
    """One open page.

    Attributes:
        own: the folder of the files that the visitor may fetch.
        opened: the picture; None before there is one.
        point: row and column of the pixel that was clicked on.
        redraw: see `looking.Settings`.
        looks: how often the visitor has asked for other maps.
        work: what was begun last of each kind.
    """

    own: OwnFolder
    opened: Opened | None = None
    point: tuple[int, int] = (0, 0)
    redraw: int = 0
    looks: int = 0
    work: dict[str, Work] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """For the files that the visitor may fetch."""
        return self.own.path

    def open(self, opened: Opened) -> None:
        """Another picture; what was begun with the one before ends."""
        self.stop()
        width, height = opened.picture.size
        self.opened, self.point, self.redraw = opened, (height // 2, width // 2), 0
        self.looks += 1

    def point_at(self, row: int, column: int) -> tuple[int, int]:
        """Choose the pixel of the picture that is nearest. Raises NothingOpen."""
        width, height = self.picture().picture.size
        self.point = (min(max(row, 0), height - 1), min(max(column, 0), width - 1))
        return self.point

    def begin(self, kind: str) -> None:
        """Something that takes long is wanted, in the place of what was begun of this kind before."""
        self.stop(kind)
        self.work[kind] = Work()

    def stop(self, *kinds: str) -> None:
        """End what was begun, of some kinds or all."""
        for kind in kinds or tuple(self.work):
            if kind in self.work:
                self.work[kind].stop()

    def picture(self) -> Opened:
        """Raises NothingOpen."""
        if self.opened is None:
            raise NothingOpen(
                "No picture is open here: drop one. Those of pages that idle long are put away."
            )
        return self.opened

    def leave(self) -> None:
        """End the work and remove the files."""
        self.stop()
        self.opened = None
        self.own.remove()


class Visitors:
    """Everybody who has the page open, by the identity that their page has.

    Args:
        folder: receives a folder of each visitor.
        most: visitors beyond which the one who was idle for the longest time is forgotten.
    """

    def __init__(self, folder: Path, *, most: int = VISITORS):
        self.folder = folder
        self.most = most
        self.views = Shelf()
        self._known: OrderedDict[str, Visitor] = OrderedDict()
        self._guard = threading.Lock()

    def __len__(self) -> int:
        return len(self._known)

    def of(self, identity: str) -> Visitor:
        """The visitor, who may be new."""
        with self._guard:
            if identity not in self._known:
                # Results are fetched by their path alone: it must be beyond guessing.
                own = OwnFolder(self.folder, prefix=f"{secrets.token_hex(16)}-")
                self._known[identity] = Visitor(own)
            self._known.move_to_end(identity)
            visitor = self._known[identity]
            idle = list(self._known)[: -self.most]
        for one in idle:
            self.forget(one)
        return visitor

    def may_fetch(self, path: str) -> bool:
        """Whether a path is that of a file in a visitor's folder, without any detour."""
        folders = {visitor.folder for visitor in list(self._known.values())}
        if "\0" in path or os.path.normpath(path) != path or folders.isdisjoint(Path(path).parents):
            return False
        return os.path.realpath(path) == path and os.path.isfile(path)

    def forget(self, identity: str) -> None:
        """Nothing of a visitor is kept; unknown ones are none."""
        with self._guard:
            visitor = self._known.pop(identity, None)
        if visitor is not None:
            visitor.leave()
            self.views.drop(visitor)

    def close(self) -> None:
        """Forget everybody."""
        for identity in list(self._known):
            self.forget(identity)


class Shelf:
    """The views that were used last.

    Args:
        of_one: bytes that the views of one visitor may take; one that is larger is not kept at all.
        in_all: bytes that all of them may take.
    """

    def __init__(self, *, of_one: int = BYTES_OF_ONE, in_all: int = BYTES_IN_ALL):
        self.of_one = of_one
        self.in_all = in_all
        self._views: OrderedDict[tuple[object, object], View] = OrderedDict()
        self._guard = threading.Lock()

    @property
    def nbytes(self) -> int:
        """What all views take."""
        return sum(map(_bytes_of, self._views.values()))

    def get(self, owner: Visitor, key: object, make: Callable[[], View]) -> View:
        """The view that the visitor has under that key, made if it is not there."""
        with self._guard:
            if (owner, key) in self._views:
                self._views.move_to_end((owner, key))
                return self._views[owner, key]
        view = make()
        with self._guard:
            if _bytes_of(view) <= self.of_one and owner.opened is not None:
                self._views[owner, key] = view
                self._shrink(lambda entry: entry[0] is owner, self.of_one)
                self._shrink(lambda entry: True, self.in_all)
        return view

    def drop(self, owner: Visitor) -> None:
        """Forget all views of a visitor."""
        with self._guard:
            for entry in [entry for entry in self._views if entry[0] is owner]:
                del self._views[entry]

    def _shrink(self, counts: Callable[[tuple[object, object]], bool], limit: int) -> None:
        """Drop the oldest of those that count until they fit."""
        entries = [entry for entry in self._views if counts(entry)]
        total = sum(_bytes_of(self._views[entry]) for entry in entries)
        for entry in entries:
            if total <= limit:
                return
            total -= _bytes_of(self._views.pop(entry))


def _bytes_of(view: View) -> int:
    return view.q.nbytes + view.k.nbytes
