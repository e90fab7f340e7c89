"""The state of the page: visitors with their pictures and jobs, and a bounded cache of views.

A *view* holds q and k of one block. Maps of any point are computed from it, and computing it is most of the
work, so views are cached. Their bytes are limited for each visitor and in total, as is the number of
visitors; the least recently used is dropped first.
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

MAX_VISITORS = 40
BYTES_OF_ONE = 256 << 20
BYTES_IN_ALL = 1 << 30


@dataclass(frozen=True, eq=False)
class OpenPicture:
    """A picture that a visitor dropped on the page, and its file name."""

    name: str
    picture: Picture

    def lr(self, device: torch.device) -> Float[Tensor, "1 3 H W"]:
        """Return the network's input in [0, 1]; over white where the picture is transparent."""
        background = None if self.picture.alpha is None else 1.0
        rgb = RGBView(self.picture.layers, background)[slice(None), slice(None)]
        return torch.tensor(rgb, device=device).permute(2, 0, 1)[None].contiguous()


class Job:
    """A long computation that another thread can stop."""

    def __init__(self) -> None:
        self._stop = threading.Event()

    def stop(self) -> None:
        """Make the next `check` raise."""
        self._stop.set()

    def check(self) -> None:
        """Raise Stopped if `stop` was called."""
        if self._stop.is_set():
            raise Stopped("Stopped.")


@dataclass(frozen=True)
class Upscaled:
    """The files of an upscaled picture.

    Attributes:
        file: the result as a PNG, with colour profile and metadata of the original.
        before, after: bicubic and the result for display, without transparency.
        size: width and height of the result.
        remarks: what reading, upscaling or writing changed.
    """

    file: Path
    before: Path
    after: Path
    size: tuple[int, int]
    remarks: tuple[str, ...]


@dataclass(eq=False)
class Visitor:
    """One open page.

    Attributes:
        own: the folder of the files that the visitor may fetch.
        opened: the picture; None before there is one.
        point: row and column of the pixel that was clicked on last.
        redraw: see `maps.MapSettings`.
        map_requests: how often the visitor has asked for other maps.
        jobs: the last job of each kind.
        results: the upscaled pictures by model.
    """

    own: OwnFolder
    opened: OpenPicture | None = None
    point: tuple[int, int] = (0, 0)
    redraw: int = 0
    map_requests: int = 0
    jobs: dict[str, Job] = field(default_factory=dict)
    results: dict[str, Upscaled] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Path of the folder of the files that the visitor may fetch."""
        return self.own.path

    def open(self, opened: OpenPicture) -> None:
        """Replace the picture and stop the jobs of the one before."""
        self.stop()
        width, height = opened.picture.size
        self.opened, self.point, self.redraw, self.results = opened, (height // 2, width // 2), 0, {}
        self.map_requests += 1

    def point_at(self, row: int, column: int) -> tuple[int, int]:
        """Set the point, moved into the picture, and return it. Raises NothingOpen."""
        width, height = self.picture().picture.size
        self.point = (min(max(row, 0), height - 1), min(max(column, 0), width - 1))
        return self.point

    def begin(self, kind: str) -> None:
        """Create a job; the one of this kind before it is stopped."""
        self.stop(kind)
        self.jobs[kind] = Job()

    def stop(self, *kinds: str) -> None:
        """Stop the jobs of these kinds; without any, all jobs."""
        for kind in kinds or tuple(self.jobs):
            if kind in self.jobs:
                self.jobs[kind].stop()

    def picture(self) -> OpenPicture:
        """Return the picture. Raises NothingOpen."""
        if self.opened is None:
            raise NothingOpen(
                "There is no picture here: drop one. If you had one, it was deleted while this page was "
                "idle; drop it once more, nothing else is lost."
            )
        return self.opened

    def leave(self) -> None:
        """Stop the jobs and remove the files."""
        self.stop()
        self.opened = None
        self.own.remove()


class Visitors:
    """All open pages, by the identity that each one sends.

    Args:
        folder: parent of the visitors' folders.
        most: number of visitors beyond which the least recently active one is forgotten.
    """

    def __init__(self, folder: Path, *, most: int = MAX_VISITORS):
        self.folder = folder
        self.most = most
        self.views = ViewCache()
        self._known: OrderedDict[str, Visitor] = OrderedDict()
        self._guard = threading.Lock()

    def __len__(self) -> int:
        return len(self._known)

    def of(self, identity: str) -> Visitor:
        """Return the visitor of an identity, new or known."""
        with self._guard:
            if identity not in self._known:
                # Results are fetched by their path alone, so it must not be guessable.
                own = OwnFolder(self.folder, prefix=f"{secrets.token_hex(16)}-")
                self._known[identity] = Visitor(own)
            self._known.move_to_end(identity)
            visitor = self._known[identity]
            idle = list(self._known)[: -self.most]
        for one in idle:
            self.forget(one)
        return visitor

    def may_fetch(self, path: str) -> bool:
        """Return whether a path is that of a file in a visitor's folder, without `..` or links."""
        folders = {visitor.folder for visitor in list(self._known.values())}
        if "\0" in path or os.path.normpath(path) != path or folders.isdisjoint(Path(path).parents):
            return False
        return os.path.realpath(path) == path and os.path.isfile(path)

    def forget(self, identity: str) -> None:
        """Delete all data of a visitor; an unknown identity is ignored."""
        with self._guard:
            visitor = self._known.pop(identity, None)
        if visitor is not None:
            visitor.leave()
            self.views.drop(visitor)

    def close(self) -> None:
        """Forget all visitors."""
        for identity in list(self._known):
            self.forget(identity)


class ViewCache:
    """The least recently used cache of views.

    Args:
        of_one: limit in bytes for the views of one visitor; a larger view is not cached.
        in_all: limit in bytes for all views.
    """

    def __init__(self, *, of_one: int = BYTES_OF_ONE, in_all: int = BYTES_IN_ALL):
        self.of_one = of_one
        self.in_all = in_all
        self._views: OrderedDict[tuple[object, object], View] = OrderedDict()
        self._guard = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes of all views."""
        return sum(map(_bytes_of, self._views.values()))

    def get(self, owner: Visitor, key: object, make: Callable[[], View]) -> View:
        """Return the visitor's view with this key; call `make` if it is not cached."""
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
        """Remove all views of a visitor."""
        with self._guard:
            for entry in [entry for entry in self._views if entry[0] is owner]:
                del self._views[entry]

    def _shrink(self, counts: Callable[[tuple[object, object]], bool], limit: int) -> None:
        """Remove the least recently used of the entries that count until they fit."""
        entries = [entry for entry in self._views if counts(entry)]
        total = sum(_bytes_of(self._views[entry]) for entry in entries)
        for entry in entries:
            if total <= limit:
                return
            total -= _bytes_of(self._views.pop(entry))


def _bytes_of(view: View) -> int:
    return view.q.nbytes + view.k.nbytes
