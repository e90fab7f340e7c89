"""Pictures of a training set that are never drawn: a list of names in a text file."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from enlca.data.packed import PackedSet, Pictures
from enlca.errors import ConfigError


def read_names(path: Path) -> list[str]:
    """Return the names in a text file: one a line, as in `PackedSet.names`; a comment begins with " #".

    Raises:
        ConfigError: the file cannot be read.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise ConfigError(f"{path}: the list of pictures cannot be read ({reason})") from error
    names = (f" {line}".partition(" #")[0].strip() for line in lines)
    return [name for name in names if name]


def leave_out(packed: PackedSet, path: Path) -> PackedSet:
    """Return `packed` without the pictures that the list `path` names.

    Raises:
        ConfigError: the list cannot be read, names a picture that is not in `packed`, or leaves none.
    """
    names, there = dict.fromkeys(read_names(path)), set(packed.names)
    if missing := [name for name in names if name not in there]:
        more = f" (and {len(missing) - 3} more)" if len(missing) > 3 else ""
        raise ConfigError(
            f"data.leave_out: {len(missing)} of {len(names)} pictures of {path} are not in data.train:"
            f" {', '.join(missing[:3])}{more}; for other pictures set data.leave_out to null"
        )
    kept = [index for index, name in enumerate(packed.names) if name not in names]
    if not kept:
        raise ConfigError(f"data.leave_out: {path} names every picture of data.train")
    return replace(
        packed,
        names=[packed.names[index] for index in kept],
        shapes=[packed.shapes[index] for index in kept],
        lr=_Chosen(packed.lr, kept),
        hr=_Chosen(packed.hr, kept),
        teacher=None if packed.teacher is None else _Chosen(packed.teacher, kept),
    )


class _Chosen(Sequence):
    """Some of the pictures of a side; none is read or mapped before it is used."""

    def __init__(self, pictures: Pictures, indices: Sequence[int]):
        self.pictures, self.indices = pictures, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any) -> Any:
        return self.pictures[self.indices[index]]
