"""Which input becomes which output: one job per picture of files, folders and patterns, checked first."""

import os
import re
import sqlite3
import stat
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal, NamedTuple

from enlca.errors import JobError
from enlca.image.decoding import File, Source
from enlca.image.encoding import WRITABLE
from enlca.inference.inputs import Report, pictures_in, pictures_like
from enlca.inference.target_size import Size

# What happens to an output that exists: "replace" never replaces an input, "overwrite" does.
Existing = Literal["replace", "skip", "overwrite"]

FIELDS = ("folder", "stem", "scale", "size", "suffix")
_ENCODING = sys.getfilesystemencoding()
_FIELD = re.compile(r"\{(\w*)\}")
_MAGIC = re.compile(r"[*?[]")


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
    """One picture to upscale; `skip` if its output exists and is kept.

    Both ends are paths, or bytes at hand whose names stand in messages and outcomes.
    """

    source: Path | Source
    target: Path | Sink
    skip: bool = False


class Failure(NamedTuple):
    """An input that cannot be used."""

    source: str
    error: str


class Found(NamedTuple):
    """A picture, as `inputs.Entry` says it."""

    folder: str
    name: str
    below: str = ""
    key: bytes = b""
    is_link: bool = True

    @property
    def source(self) -> str:
        """Its path."""
        return _joined(self.folder, self.name)


def _joined(folder: str, name: str) -> str:
    """Return the path of a name in a folder, as `Path` writes both."""
    return f"{folder}{os.sep}{name}" if folder not in ("", os.sep) else folder + name


class Jobs(Sequence[Job]):
    """Jobs in order, in a temporary file of SQLite's, which has no name: none is in memory.

    Attributes:
        n_to_do: how many of them are not to be skipped.
    """

    def __init__(self, index: sqlite3.Connection):
        self._index = index
        (self._total, self.n_to_do) = index.execute("SELECT count(*), sum(NOT skip) FROM job").fetchone()
        self.n_to_do = self.n_to_do or 0
        weakref.finalize(self, index.close)

    def __len__(self) -> int:
        return self._total

    def __iter__(self) -> Iterator[Job]:
        for row in self._index.execute("SELECT source, target, skip FROM job ORDER BY n"):
            yield _job(*row)

    def __getitem__(self, which: Any) -> Any:
        """Return one job by its number, or a list of several."""
        if isinstance(which, slice):
            return [self[number] for number in range(*which.indices(len(self)))]
        number = range(len(self))[which]
        query = "SELECT source, target, skip FROM job ORDER BY n LIMIT 1 OFFSET ?"
        return _job(*self._index.execute(query, (number,)).fetchone())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # pyright: ignore[reportAssignmentType]


def _job(source: bytes, target: bytes, skip: int) -> Job:
    return Job(Path(os.fsdecode(source)), Path(os.fsdecode(target)), bool(skip))


def plan(
    inputs: Sequence[Path],
    out: Path | None,
    *,
    size: Size,
    suffix: str = ".png",
    recursive: bool = False,
    existing: Existing = "replace",
) -> tuple[Jobs, list[Failure]]:
    """Return a job for each picture; inputs that cannot be used are returned as failures.

    A folder means the pictures in it (and below it if `recursive`), a name with wildcards that is not a file
    means the pictures that match; `out` then gets the same tree. `out` is a file (one input), a folder, or a
    name with `{stem}`, `{size}` (x4, w1920), `{scale}` (4), `{suffix}` or `{folder}` in it; None puts
    `NAME_SIZE.png` beside each input.

    An input that is the output of another input was made by an earlier run: it is ignored where existing
    outputs are skipped or overwritten, else refused.

    Raises:
        JobError: if several inputs would go into one file, an input would be overwritten, or `out` is
            neither a folder nor a file that can be written.
    """
    naming = Naming.of(out, size=size, suffix=suffix, several=not _is_one_file(inputs))
    failed: list[Failure] = []
    # An empty name is a file of its own that SQLite removes.
    index = sqlite3.connect("", check_same_thread=False, isolation_level=None)
    try:
        real_folder = lru_cache(maxsize=1024)(_real)
        # Nothing is ever undone, and a crash leaves no file.
        index.execute("PRAGMA journal_mode = OFF")
        index.execute("BEGIN")
        index.execute("CREATE TABLE found (input, key, id, source, real, target, place, skip, reason)")
        for number, path in enumerate(inputs):
            pictures = _expanded(path, recursive, naming.base, lambda *one: failed.append(Failure(*one)))
            rows = ((number, *_row(one, naming, existing, real_folder)) for one in pictures)
            index.executemany(f"INSERT INTO found VALUES ({', '.join('?' * 9)})", rows)
        _put_in_order(index, unique=len(inputs) > 1 or any(map(_is_pattern, inputs)))
        _check_overlap(index, existing)
        _check_targets(index)
        unnameable = "SELECT source, target, reason FROM job WHERE reason IS NOT NULL ORDER BY n"
        for source, target, reason in index.execute(unnameable):
            source, target = os.fsdecode(source), os.fsdecode(target)
            failed.append(Failure(source, f"{source}: cannot be written to {target}: {reason}"))
        index.execute("DELETE FROM job WHERE reason IS NOT NULL")
        index.execute("COMMIT")
        return Jobs(index), failed
    except BaseException:
        index.close()
        raise


def _row(one: Found, naming: "Naming", existing: Existing, real_folder: Callable[[str], str]) -> tuple:
    """Return what the index holds of a picture: the names of both files, and their places without links."""
    source, (folder, name) = one.source, naming.target(one)
    target, mode, reason = _joined(folder, name), 0, None
    try:
        mode = os.lstat(target).st_mode
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass
    except OSError as error:
        reason = error.strerror or str(error)
    # The folder's real path, the name as it is: a link is a picture of its own.
    own = _joined(real_folder(one.folder), one.name)
    real = os.path.realpath(own) if one.is_link and os.path.islink(own) else own
    place = os.path.realpath(target) if stat.S_ISLNK(mode) else _joined(real_folder(folder), name)
    skip = existing == "skip" and (stat.S_ISREG(mode) or (stat.S_ISLNK(mode) and os.path.isfile(target)))
    names = [path.encode(_ENCODING, "surrogateescape") for path in (own, source, real, target, place)]
    return (one.key, *names, skip, reason)


def _real(folder: str) -> str:
    return os.path.realpath(folder)


def _put_in_order(index: sqlite3.Connection, *, unique: bool) -> None:
    columns = "id, source, real, target, place, skip, reason"
    index.execute(f"CREATE TABLE job (n INTEGER PRIMARY KEY, {columns})")
    index.execute(f"INSERT INTO job SELECT NULL, {columns} FROM found ORDER BY input, key, source")
    index.execute("DROP TABLE found")
    if unique:
        index.execute("DELETE FROM job WHERE n NOT IN (SELECT min(n) FROM job GROUP BY id)")
    index.execute("CREATE INDEX by_place ON job (place)")
    index.execute("CREATE INDEX by_real ON job (real)")


def _check_overlap(index: sqlite3.Connection, existing: Existing) -> None:
    """Refuse to overwrite inputs unless asked; remove inputs that an earlier run made. Raises JobError."""
    overlap = "SELECT target, place = real FROM job WHERE place IN (SELECT real FROM job) ORDER BY n"
    for target, own in index.execute(overlap):
        if own and existing != "overwrite":
            hint = "choose another -o, or --overwrite if that is meant"
        elif not own and existing == "replace":
            hint = "if an earlier run made it: --skip-existing goes on there, --overwrite starts anew"
            hint += "; else choose -o"
        else:
            continue
        raise JobError(f"{os.fsdecode(target)} is an input and would be overwritten; {hint}")
    index.execute("DELETE FROM job WHERE real IN (SELECT place FROM job WHERE place != real)")


def _check_targets(index: sqlite3.Connection) -> None:
    """Refuse two inputs that would become one file. Raises JobError."""
    twice = index.execute(
        "SELECT one.source, two.source, two.target FROM job two JOIN job one ON one.place = two.place "
        "AND one.n < two.n ORDER BY two.n, one.n LIMIT 1"
    ).fetchone()
    if twice:
        first, second, target = map(os.fsdecode, twice)
        hint = "rename one, or name the outputs by a pattern: -o '{folder}/{stem}{suffix}'"
        raise JobError(f"{first} and {second} would both be written to {target}; {hint}")


@dataclass(frozen=True)
class Naming:
    """The names of outputs: `pattern` is a name with fields, `base` the folder that contains all of them."""

    pattern: str
    size: Size
    suffix: str
    base: Path | None = None

    @classmethod
    def of(cls, out: Path | None, *, size: Size, suffix: str, several: bool) -> "Naming":
        """Interpret `out`. Raises JobError."""
        if out is None:
            return cls("{folder}/{stem}_{size}{suffix}", size, suffix)
        fields = _FIELD.findall(str(out))
        if os.path.isdir(out) or not (fields or out.suffix):
            if os.path.isfile(out):
                raise JobError(
                    f"-o {out} is a file, not a folder; give it a suffix from {' '.join(WRITABLE)}"
                )
            # Braces in the name of an existing folder are not fields.
            return cls("{stem}_{size}{suffix}", size, suffix, base=out)
        for field in fields:
            if field not in FIELDS:
                known = " ".join(f"{{{name}}}" for name in FIELDS)
                raise JobError(f"-o {out}: unknown field {{{field}}}; known: {known}")
        if "scale" in fields and size.scale is None:
            raise JobError(f"-o {out}: there is no {{scale}} with --width or --height; write {{size}}")
        ending = Path(str(out).replace("{suffix}", suffix)).suffix
        if ending.lower() not in WRITABLE:
            raise JobError(
                f"-o {out}: cannot write {ending}; choose from {' '.join(WRITABLE)}, or a folder"
                if ending
                else f"-o {out}: has no suffix; end it in {{suffix}}, or one of {' '.join(WRITABLE)}"
            )
        if not fields and several:
            raise JobError(f"-o {out} names one file, but there is more than one input; name a folder")
        return cls(str(out), size, suffix, base=None if _FIELD.search(str(out.parent)) else out.parent)

    @cached_property
    def parts(self) -> list[str]:
        """Texts and, at odd places, the fields `folder` and `stem` between them; the others are filled."""
        scale = f"{float(self.size.scale):g}" if self.size.scale is not None else ""
        fields = {"{scale}": scale, "{size}": self.size.name, "{suffix}": self.suffix}
        return re.split(
            r"\{(folder|stem)\}", _FIELD.sub(lambda match: fields.get(match[0], match[0]), self.pattern)
        )

    def target(self, one: Found) -> tuple[str, str]:
        """Return folder and name of an output; its tree is kept unless the pattern contains its folder."""
        parts, fields = list(self.parts), {"folder": one.folder or ".", "stem": _stem(one.name)}
        parts[1::2] = [fields[field] for field in parts[1::2]]
        folder, found, name = "".join(parts).rpartition(os.sep)
        folder = folder or (os.sep if found else "")
        if "{folder}" in self.pattern:
            return self._tidy(folder), name
        return self._tidy(folder if self.base is None else str(self.base), one.below), name

    @staticmethod
    @lru_cache(maxsize=1024)
    def _tidy(*folders: str) -> str:
        path = Path(*folders)
        return str(path) if path.parts else ""


def _stem(name: str) -> str:
    """Return what `Path(name).stem` is, in a tenth of the time."""
    dot = name.rfind(".")
    return name[:dot] if 0 < dot < len(name) - 1 else name


def _is_one_file(inputs: Sequence[Path]) -> bool:
    return len(inputs) == 1 and not os.path.isdir(inputs[0]) and not _is_pattern(inputs[0])


def _is_pattern(path: Path) -> bool:
    return bool(_MAGIC.search(str(path))) and not os.path.lexists(path)


def _expanded(path: Path, recursive: bool, out: Path | None, report: Report) -> Iterator[Found]:
    """Yield the pictures that an input means; `report` gets its unusable parts."""
    if os.path.isdir(path):
        return map(Found._make, pictures_in(path, recursive=recursive, out=out, report=report))
    if _is_pattern(path):
        root = Path(*takewhile(lambda part: not _MAGIC.search(part), path.parts))
        return map(Found._make, pictures_like(path, root, out=out, report=report))
    return iter([Found(str(path.parent) if path.parent.parts else "", path.name)])
