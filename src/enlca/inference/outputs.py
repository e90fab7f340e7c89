"""Which input becomes which output: one job per picture of files, folders and patterns, checked first."""

import os
import re
import sqlite3
import stat
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

from enlca.errors import JobError, StoreError
from enlca.inference.clashes import Placed, mark_results, refuse_clashes, separate_names
from enlca.inference.inputs import Other, Report, pictures_in, pictures_like
from enlca.inference.jobs import Failure, Job, Unread
from enlca.inference.naming import Found, Naming, joined
from enlca.inference.target_size import Size

# What happens to an output that exists: "replace" never replaces an input, "overwrite" does.
Existing = Literal["replace", "skip", "overwrite"]

_ENCODING = sys.getfilesystemencoding()
_MAGIC = re.compile(r"[*?[]")


class Jobs(Sequence[Job]):
    """Jobs in order, in a temporary file of SQLite's, which has no name: none is in memory.

    Attributes:
        n_to_do: how many of them are not to be skipped.
        unread: files of the inputs that are no pictures.
    """

    def __init__(self, index: sqlite3.Connection, unread: Unread):
        self._index, self.unread = index, unread
        (self._total, self.n_to_do) = index.execute("SELECT count(*), sum(NOT skip) FROM job").fetchone()
        self.n_to_do = self.n_to_do or 0
        weakref.finalize(self, index.close)

    def __len__(self) -> int:
        return self._total

    def __iter__(self) -> Iterator[Job]:
        for row in self._index.execute("SELECT source, target, skip, again FROM job ORDER BY n"):
            yield _job(*row)

    def __getitem__(self, which: Any) -> Any:
        """Return one job by its number, or a list of several."""
        if isinstance(which, slice):
            return [self[number] for number in range(*which.indices(len(self)))]
        number = range(len(self))[which]
        query = "SELECT source, target, skip, again FROM job ORDER BY n LIMIT 1 OFFSET ?"
        return _job(*self._index.execute(query, (number,)).fetchone())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # pyright: ignore[reportAssignmentType]


def _job(source: bytes, target: bytes, skip: int, again: int) -> Job:
    return Job(Path(os.fsdecode(source)), Path(os.fsdecode(target)), bool(skip), bool(again))


def plan(
    inputs: Sequence[Path],
    out: Path | None,
    *,
    size: Size,
    suffix: str | None = ".png",
    recursive: bool = False,
    existing: Existing = "replace",
) -> tuple[Jobs, list[Failure]]:
    """Return a job for each picture; inputs that cannot be used are returned as failures.

    A folder means the pictures in it (and below it if `recursive`), a name with wildcards that is not a file
    means the pictures that match; `out` then gets the same tree. `out` is a file (one input), a folder, or a
    name with `{stem}`, `{ext}` (png), `{size}` (x4, w1920), `{scale}` (4), `{suffix}` or `{folder}` in it;
    None puts `NAME_SIZE.png` beside each input. `suffix` None means that of each input, or .png where its
    format is not written.

    Pictures that would go into one file are told apart by `{stem}_{ext}` in place of `{stem}`; where that
    does not help, the first is kept and the others are failures. An input that is the output of another
    input was made by an earlier run: it is ignored where existing outputs are skipped or overwritten, else
    refused.

    Raises:
        JobError: if an input would be overwritten, or `out` is neither a folder nor a file that can be
            written, or one file for several inputs.
        StoreError: the disk has no space for the list of many pictures.
    """
    naming = Naming.of(out, size=size, suffix=suffix, several=not _is_one_file(inputs))
    failed: list[Failure] = []
    unread = Unread()

    def report(source: str, error: str) -> None:
        failed.append(Failure(source, error))

    # An empty name is a file of its own that SQLite removes.
    index = sqlite3.connect("", check_same_thread=False, isolation_level=None)
    try:
        real_folder = lru_cache(maxsize=1024)(_real)
        # Nothing is ever undone, and a crash leaves no file.
        index.execute("PRAGMA journal_mode = OFF")
        index.execute("BEGIN")
        columns = "input, key, id, source, real, below, target, place, skip, reason"
        index.execute(f"CREATE TABLE found ({columns})")
        for number, path in enumerate(inputs):
            pictures = _expanded(path, recursive, naming.base, report, unread.add)
            rows = ((number, *_row(one, naming, existing, real_folder)) for one in pictures)
            index.executemany(f"INSERT INTO found VALUES ({', '.join('?' * 10)})", rows)
        _put_in_order(index, unique=len(inputs) > 1 or any(map(_is_pattern, inputs)))
        if not _is_one_file(inputs):
            separate_names(
                index, lambda source, below: _separated(source, below, naming, existing, real_folder)
            )
        _check_overlap(index, existing)
        if not _is_one_file(inputs):
            refuse_clashes(index, report)
            mark_results(index)
        unnameable = "SELECT source, target, reason FROM job WHERE reason IS NOT NULL ORDER BY n"
        for source, target, reason in index.execute(unnameable):
            source, target = os.fsdecode(source), os.fsdecode(target)
            report(source, f"{source}: cannot be written to {target}: {reason}")
        index.execute("DELETE FROM job WHERE reason IS NOT NULL")
        index.execute("COMMIT")
        return Jobs(index, unread), failed
    except BaseException as error:
        index.close()
        if isinstance(error, sqlite3.OperationalError):
            raise StoreError(f"no room for the list of the pictures: {error}") from error
        raise


def _row(one: Found, naming: Naming, existing: Existing, real_folder: Callable[[str], str]) -> tuple:
    """Return what the index holds of a picture: the names of both files, and their places without links."""
    # The folder's real path, the name as it is: a link is a picture of its own.
    own = joined(real_folder(one.folder), one.name)
    real = os.path.realpath(own) if one.is_link and os.path.islink(own) else own
    names = [_encoded(path) for path in (own, one.source, real, one.below)]
    return (one.key, *names, *_placed(naming.target(one), existing, real_folder))


def _placed(where: tuple[str, str], existing: Existing, real_folder: Callable[[str], str]) -> Placed:
    """Return what the index holds of an output, given its folder and name."""
    folder, name = where
    target, mode, reason = joined(folder, name), 0, None
    try:
        mode = os.lstat(target).st_mode
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass
    except OSError as error:
        reason = error.strerror or str(error)
    place = os.path.realpath(target) if stat.S_ISLNK(mode) else joined(real_folder(folder), name)
    skip = existing == "skip" and (stat.S_ISREG(mode) or (stat.S_ISLNK(mode) and os.path.isfile(target)))
    return _encoded(target), _encoded(place), skip, reason


def _separated(
    source: str, below: str, naming: Naming, existing: Existing, real_folder: Callable[[str], str]
) -> Placed | None:
    """Return the output of a picture under a name that contains its extension, too; None if it did."""
    if "{stem}" not in naming.pattern or "{ext}" in naming.pattern:
        return None
    folder, _, name = source.rpartition(os.sep)
    one = Found(folder or (os.sep if source.startswith(os.sep) else ""), name, below)
    return _placed(naming.target(one, separate=True), existing, real_folder)


def _encoded(path: str) -> bytes:
    return path.encode(_ENCODING, "surrogateescape")


def _real(folder: str) -> str:
    return os.path.realpath(folder)


def _put_in_order(index: sqlite3.Connection, *, unique: bool) -> None:
    columns = "id, source, real, below, target, place, skip, reason"
    flags = "again DEFAULT 0, separated DEFAULT 0"
    index.execute(f"CREATE TABLE job (n INTEGER PRIMARY KEY, {columns}, {flags})")
    index.execute(f"INSERT INTO job ({columns}) SELECT {columns} FROM found ORDER BY input, key, source")
    index.execute("DROP TABLE found")
    if unique:
        index.execute("DELETE FROM job WHERE n NOT IN (SELECT min(n) FROM job GROUP BY id)")
    index.execute("CREATE INDEX by_place ON job (place)")
    index.execute("CREATE INDEX by_real ON job (real)")


def _check_overlap(index: sqlite3.Connection, existing: Existing) -> None:
    """Refuse to overwrite inputs unless asked; remove inputs that an earlier run made. Raises JobError."""
    overlap = "SELECT target, place = real FROM job WHERE place IN (SELECT real FROM job) ORDER BY n"
    overlaps = False
    for target, own in index.execute(overlap):
        overlaps = True
        if own and existing != "overwrite":
            hint = "choose another -o, or --overwrite if that is meant"
        elif not own and existing == "replace":
            hint = "if an earlier run made it: --skip-existing goes on there, --overwrite starts anew"
            hint += "; else choose -o"
        else:
            continue
        raise JobError(f"{os.fsdecode(target)} is an input and would be overwritten; {hint}")
    if overlaps:
        index.execute("DELETE FROM job WHERE real IN (SELECT place FROM job WHERE place != real)")


def _is_one_file(inputs: Sequence[Path]) -> bool:
    return len(inputs) == 1 and not os.path.isdir(inputs[0]) and not _is_pattern(inputs[0])


def _is_pattern(path: Path) -> bool:
    return bool(_MAGIC.search(str(path))) and not os.path.lexists(path)


def _expanded(path: Path, recursive: bool, out: Path | None, report: Report, other: Other) -> Iterator[Found]:
    """Yield the pictures that an input means; `report` gets its unusable parts, `other` its other files."""
    if os.path.isdir(path):
        found = pictures_in(path, recursive=recursive, out=out, report=report, other=other)
        return map(Found._make, found)
    if _is_pattern(path):
        root = Path(*takewhile(lambda part: not _MAGIC.search(part), path.parts))
        return map(Found._make, pictures_like(path, root, out=out, report=report, other=other))
    return iter([Found(str(path.parent) if path.parent.parts else "", path.name)])
