"""One picture from store to store, whatever engine runs it: get, upscale as `enlca upscale` does, put."""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from enlca.bulk.stores import exists, put, read_into
from enlca.image.rows import PictureRows
from enlca.inference.batch import DEFAULTS, Outcome, Settings, run
from enlca.inference.outputs import Job
from enlca.inference.target_size import Size
from enlca.runtime.files import partial_folder


@dataclass(frozen=True)
class Work:
    """What is done to each picture.

    Attributes:
        load: returns `Upscaler.rows` for a scale.
        size: of the results.
        scales: that `load` has networks for.
        suffix: of the results' format.
        settings: how pictures are read and written.
        replace: whether existing objects are replaced.
    """

    load: Callable[[int], Callable[..., PictureRows]]
    size: Size
    scales: Sequence[int]
    suffix: str = ".png"
    settings: Settings = field(default=DEFAULTS)
    replace: bool = False

    def target(self, key: str) -> str:
        """Return the key of a result: `a/b.jpg` becomes `a/b_jpg_x4.png`.

        The suffix of the original stays in the name, so that no two pictures have one result: with millions
        of keys that is cheaper than comparing all of them.
        """
        path = PurePosixPath(key)
        return str(path.with_name(f"{path.stem}_{path.suffix[1:]}_{self.size.name}{self.suffix}"))


def one(source: Any, key: str, target: Any, work: Work) -> Outcome:
    """Upscale one object of a store into another; what exists already is left alone, unless `work.replace`.

    A picture that cannot be upscaled gives an outcome with an error.

    Raises:
        ConnectionError: the way to a store failed, again and again.
        CheckpointError, DeviceError: the network cannot be loaded, whatever the picture.
    """
    name = work.target(key)
    with partial_folder(Path(tempfile.gettempdir())) as folder:
        # The formats of both are told by their content and by the suffix.
        given, made = Path(folder, "given"), Path(folder, f"made{work.suffix}")
        try:
            if not work.replace and exists(target, name):
                return Outcome(key, name, skipped=True)
            with given.open("wb") as file:
                read_into(source, key, file)
            [outcome] = run(
                [Job(given, made)], work.load, size=work.size, scales=work.scales, settings=work.settings
            )
            if outcome.error is not None:
                error = outcome.error.replace(str(given), key).replace(str(made), name)
                return replace(outcome, source=key, error=error)
            with made.open("rb") as file:
                written = put(target, name, file, replace=work.replace)
        except FileNotFoundError:
            return Outcome(key, error=f"{key}: no such object any more")
        except PermissionError as error:
            return Outcome(key, error=f"{key}: not permitted: {error.strerror}")
        if not written:
            # Another worker was faster; what it wrote is the same.
            return Outcome(key, name, skipped=True)
    return replace(outcome, source=key, target=name)


def reason_of(error: str, key: str) -> str:
    """Return why a picture failed, without its name and without details, to count alike failures."""
    line = error.removeprefix(f"{key}: ")
    with suppress(ValueError):
        line = line[: line.index(" (")]
    return line
