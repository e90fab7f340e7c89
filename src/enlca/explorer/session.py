"""The state of the page: networks, visitors with their pictures and jobs, and a bounded cache of views.

A *view* holds q and k of one block. Maps of any point are computed from it, and computing it is most of the
work, so views are cached. Their bytes are limited for each visitor and in total, as is the number of
visitors; the least recently used is dropped first.
"""

import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from enlca.analysis.correlation import View
from enlca.checkpoint import BASE, DEFAULT_MODEL, PHOTO
from enlca.checkpoint.mixing import mix
from enlca.checkpoint.store import bundled, scale_of
from enlca.errors import CheckpointError, NothingOpen, Stopped
from enlca.explorer.uploads import OwnFolder
from enlca.image.picture import Picture
from enlca.inference.pixel_source import RGBView
from enlca.inference.upscaler import Upscaler
from enlca.network.sr import SRConfig, SRNetwork

# Networks that stay loaded.
MAX_LOADED = 4
MAX_VISITORS = 40
BYTES_OF_ONE = 256 << 20
BYTES_IN_ALL = 1 << 30


class Models:
    """Names, the scales of each name, and the networks, which are loaded when they are needed.

    Args:
        files: checkpoints and repositories beside the bundled ones, called as they are given.

    Attributes:
        default: chosen at first: the first of the files, or DEFAULT_MODEL.

    Raises:
        CheckpointError: one of them is no checkpoint.
    """

    def __init__(self, files: Sequence[str | os.PathLike[str]] = ()):
        self._paths: dict[str, dict[int, str | Path]] = {}
        for item in bundled():
            self._paths.setdefault(item.name, {})[item.scale] = item.path
        self.default = DEFAULT_MODEL
        # With its suffix, so that no file has the name of bundled weights.
        for file in reversed(files):
            self.default = os.fspath(file)
            self._paths[self.default] = {scale_of(file)[0]: self.default}
        self._loaded: OrderedDict[tuple[str, int, float], Upscaler] = OrderedDict()
        self._guard = threading.Lock()

    @property
    def names(self) -> list[str]:
        """All names, the default first."""
        return [self.default, *(name for name in self._paths if name != self.default)]

    def scales(self, name: str) -> list[int]:
        """Return the scales with weights for a name. Raises CheckpointError: unknown name."""
        if name not in self._paths:
            raise CheckpointError(f"no model {name!r} here; choose from {', '.join(self.names)}")
        return sorted(self._paths[name])

    def has_strength(self, name: str, scale: int) -> bool:
        """Whether it is the model for photographs, whose weights can be mixed with those of BASE."""
        return name == PHOTO and scale in self._paths.get(PHOTO, {}) and scale in self._paths.get(BASE, {})

    def load(self, name: str, scale: int, strength: float = 1.0) -> Upscaler:
        """Return a network that streams where it can, so that it reports progress and can be stopped.

        `strength` from 0 to 1 mixes the model for photographs with BASE; other models have none.

        Raises:
            CheckpointError: no such model, or not for that scale.
        """
        if scale not in self.scales(name):
            raise CheckpointError(f"{name} has no weights for x{scale}")
        strength = round(min(max(strength, 0.0), 1.0), 2) if self.has_strength(name, scale) else 1.0
        key = name, scale, strength
        with self._guard:
            if key not in self._loaded:
                path = self._paths[name][scale]
                if strength < 1:
                    upscaler = Upscaler(mix(self._paths[BASE][scale], path, strength=strength, scale=scale))
                else:
                    upscaler = Upscaler(path)
                if upscaler.network.streamable:
                    upscaler.mode = "stream"
                upscaler.network.requires_grad_(False)
                self._loaded[key] = upscaler
            self._loaded.move_to_end(key)
            if len(self._loaded) > MAX_LOADED:
                self._loaded.popitem(last=False)
            return self._loaded[key]


def count_blocks(upscaler: Upscaler) -> int:
    """Return the number of non-local blocks of a network."""
    network = upscaler.network
    return len(network.non_local_blocks) if isinstance(network, SRNetwork) else 0


def sr_network(upscaler: Upscaler) -> SRNetwork:
    """Return the network of an upscaler whose attention is shown."""
    network = upscaler.network
    assert isinstance(network, SRNetwork)
    return network


def config_of(upscaler: Upscaler) -> SRConfig:
    """Return the settings of a network; of another method's, those of a network without attention."""
    network = upscaler.network
    return network.config if isinstance(network, SRNetwork) else SRConfig(scale=4, attention="none")


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
