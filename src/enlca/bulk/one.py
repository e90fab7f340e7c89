"""One picture from store to store, whatever engine runs it: get, upscale as `enlca upscale` does, put."""

import io
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

from enlca.bulk.addresses import place_of
from enlca.bulk.origins import Origin
from enlca.bulk.stores import exists, put
from enlca.errors import PictureError
from enlca.image.folders import split_suffix
from enlca.image.rows import PictureRows
from enlca.image.source import Source
from enlca.inference.batch import DEFAULTS, Settings, run
from enlca.inference.jobs import Job, Outcome, Sink
from enlca.inference.target_size import Size

# Bytes of a file's name, at most: file systems take 255, and obstore adds some while it writes.
LONGEST = 240


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
        folder, slash, name = place_of(key).rpartition("/")
        stem, suffix = split_suffix(name)
        end = f"_{suffix[1:]}_{self.size.name}{self.suffix}"
        if len((stem + end).encode()) > LONGEST:
            stem = f"{stem[:40]}_{sha256(name.encode()).hexdigest()[:16]}"
        return f"{folder}{slash}{stem}{end}"


def one(source: Origin, key: str, target: Any, work: Work) -> Outcome:
    """Upscale a picture into an object of a store; what exists already is left alone, unless `work.replace`.

    A picture that cannot be had or upscaled gives an outcome with an error.

    Raises:
        ConnectionError: the way to a store failed, again and again.
        CheckpointError, DeviceError: the network cannot be loaded, whatever the picture.
    """
    name = work.target(key)
    # The file has no name, so a worker that is killed leaves nothing.
    with tempfile.TemporaryFile() as given:
        try:
            if not work.replace and exists(target, name):
                return Outcome(key, name, skipped=True)
            source.read_into(key, given)
            given.seek(0)
            made = io.BytesIO()
            job = Job(Source.of(given, name=key), Sink(made, name))
            [outcome] = run([job], work.load, size=work.size, scales=work.scales, settings=work.settings)
            if outcome.error is not None:
                # What its format cannot hold is said of the result.
                reason = outcome.error.removeprefix(f"{key}: ").removeprefix(f"{name}: ")
                return replace(outcome, error=f"{key}: {reason}")
            if put(target, name, made.getvalue(), replace=work.replace):
                return outcome
        except FileNotFoundError:
            return Outcome(key, error=f"{key}: no such object any more")
        except PermissionError as error:
            return Outcome(key, error=f"{key}: not permitted: {error.strerror}")
        except PictureError as error:
            return Outcome(key, error=str(error))
    # Another worker was faster; what it wrote is the same.
    return Outcome(key, name, skipped=True)
