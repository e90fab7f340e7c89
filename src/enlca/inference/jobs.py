"""What is to be done with one picture and what came of it; files that are none."""

import os
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from enlca.image.source import File, Source

# Files that are named where there are others than pictures; the rest of them is only counted.
NAMED = 20


@dataclass(frozen=True)
class Sink:
    """A binary file object that gets a result once it is complete; the suffix of `name` says its format."""

    file: File
    name: str

    def __str__(self) -> str:
        return self.name

    @property
    def suffix(self) -> str:
        """As that of a path."""
        return Path(self.name).suffix


@dataclass(frozen=True)
class Job:
    """One picture to upscale.

    Attributes:
        source, target: paths, or bytes at hand whose names stand in messages and outcomes.
        skip: whether the output exists and is kept.
        again: whether the input is named like the result of another one: left out if its file says so, too.
    """

    source: Path | Source
    target: Path | Sink
    skip: bool = False
    again: bool = False


@dataclass(frozen=True)
class Outcome:
    """The result of one input; `error` is None if all went well.

    `seconds` counts reading, computing and writing; `remark` says what was done otherwise than expected;
    `cause` is the exception behind `error`.
    """

    source: str
    target: str | None = None
    width: int | None = None
    height: int | None = None
    seconds: float | None = None
    error: str | None = None
    skipped: bool = False
    remark: str | None = None
    cause: Exception | None = field(default=None, compare=False, repr=False)

    def to_dict(self) -> dict:
        """Return a JSON record."""
        record = asdict(replace(self, cause=None))
        del record["cause"]
        return record


class Failure(NamedTuple):
    """An input that cannot be used."""

    source: str
    error: str


@dataclass
class Unread:
    """Files among the inputs that are no pictures: counted, the first few named.

    Attributes:
        names: paths of the first `NAMED` of them.
        suffixes: how many have which suffix, in lower case.
    """

    names: list[str] = field(default_factory=list)
    suffixes: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return self.suffixes.total()

    def add(self, path: str) -> None:
        """Count a file."""
        self.suffixes[os.path.splitext(path)[1].lower()] += 1
        if len(self.names) < NAMED:
            self.names.append(path)
