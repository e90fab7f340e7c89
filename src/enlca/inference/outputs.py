"""Which input becomes which output: one job per picture of files, folders and patterns, checked first."""

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Literal

from enlca.errors import JobError, PictureError
from enlca.image.encoding import WRITABLE
from enlca.image.files import SUFFIXES, find_pictures
from enlca.inference.target_size import Size

# What happens to an output that exists: "replace" never replaces an input, "overwrite" does.
Existing = Literal["replace", "skip", "overwrite"]

FIELDS = ("folder", "stem", "scale", "size", "suffix")
_FIELD = re.compile(r"\{(\w*)\}")
_MAGIC = re.compile(r"[*?[]")


@dataclass(frozen=True)
class Job:
    """One picture to upscale; `skip` if its output exists and is kept."""

    source: Path
    target: Path
    skip: bool = False


@dataclass(frozen=True)
class Failure:
    """An input that cannot be used."""

    source: str
    error: str


@dataclass(frozen=True)
class Found:
    """A picture, and its folder relative to the input that led to it."""

    source: Path
    below: Path = Path()


def plan(
    inputs: Sequence[Path],
    out: Path | None,
    *,
    size: Size,
    suffix: str = ".png",
    recursive: bool = False,
    existing: Existing = "replace",
) -> tuple[list[Job], list[Failure]]:
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
    found: dict[str, Found] = {}
    failed: list[Failure] = []
    for path in inputs:
        pictures, unusable = _expanded(path, recursive, naming.base)
        failed += unusable
        for one in pictures:
            # The folder's real path, the name as it is: a link is a picture of its own.
            parent = os.path.realpath(one.source.parent)
            found.setdefault(os.path.join(parent, one.source.name), one)
    targets = [naming.target(one) for one in found.values()]
    places = [os.path.realpath(target) for target in targets]
    originals = {os.path.realpath(one.source): one.source for one in found.values()}
    earlier = set[str]()
    for one, target, place in zip(found.values(), targets, places, strict=True):
        if place == os.path.realpath(one.source):
            if existing != "overwrite":
                hint = "choose another -o, or --overwrite if that is meant"
                raise JobError(f"{target} is an input and would be overwritten; {hint}")
        elif place in originals:
            if existing == "replace":
                hint = "if an earlier run made it: --skip-existing goes on there, --overwrite starts anew"
                raise JobError(f"{target} is an input and would be overwritten; {hint}; else choose -o")
            earlier.add(place)
    jobs: list[Job] = []
    writers: dict[str, Path] = {}
    for one, target, place in zip(found.values(), targets, places, strict=True):
        if os.path.realpath(one.source) in earlier:
            continue
        if place in writers:
            first = writers[place]
            hint = "rename one, or name the outputs by a pattern: -o '{folder}/{stem}{suffix}'"
            raise JobError(f"{first} and {one.source} would both be written to {target}; {hint}")
        writers[place] = one.source
        if line := _unnameable(target):
            failed.append(Failure(str(one.source), f"{one.source}: cannot be written to {target}: {line}"))
        else:
            jobs.append(Job(one.source, target, skip=existing == "skip" and target.is_file()))
    return jobs, failed


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

    def target(self, one: Found) -> Path:
        """Return the output of one input; its tree is kept unless the pattern contains its folder."""
        scale = f"{float(self.size.scale):g}" if self.size.scale is not None else ""
        values = (str(one.source.parent), one.source.stem, scale, self.size.name, self.suffix)
        fields: dict[str, str] = dict(zip(FIELDS, values, strict=True))
        path = Path(_FIELD.sub(lambda match: fields[match[1]], self.pattern))
        if "{folder}" in self.pattern:
            return path
        return (self.base or path.parent) / one.below / path.name


def _is_one_file(inputs: Sequence[Path]) -> bool:
    return len(inputs) == 1 and not os.path.isdir(inputs[0]) and not _is_pattern(inputs[0])


def _is_pattern(path: Path) -> bool:
    return bool(_MAGIC.search(str(path))) and not os.path.lexists(path)


def _expanded(path: Path, recursive: bool, base: Path | None) -> tuple[list[Found], list[Failure]]:
    """Return the pictures that an input means, and its unusable parts."""
    if os.path.isdir(path):
        root, unusable = path, list(_unreadable(path, recursive))
        try:
            files = find_pictures(path, recursive)
        except PictureError as error:
            return [], unusable or [Failure(str(path), str(error))]
    elif _is_pattern(path):
        root, unusable = Path(*takewhile(lambda part: not _MAGIC.search(part), path.parts)), []
        names = sorted(glob.glob(str(path), recursive=True))
        files = [Path(name) for name in names if Path(name).suffix.lower() in SUFFIXES]
        files = [file for file in files if file.is_file()]
        if not files:
            unusable.append(Failure(str(path), f"{path}: no picture has such a name"))
    else:
        return [Found(path)], []
    if base is not None and os.path.realpath(base) != os.path.realpath(root):
        # Files in an output folder inside the inputs were made by an earlier run.
        place = Path(os.path.realpath(base))
        if place.is_relative_to(os.path.realpath(root)):
            files = [f for f in files if not Path(os.path.realpath(f.parent)).is_relative_to(place)]
    return [Found(file, file.parent.relative_to(root)) for file in files], unusable


def _unreadable(folder: Path, recursive: bool) -> Iterator[Failure]:
    """Yield folders that cannot be listed, which `find_pictures` skips."""
    errors: list[OSError] = []
    for _, below, _ in os.walk(folder, onerror=errors.append):
        below[:] = [name for name in below if recursive and not name.startswith(".")]
    for error in errors:
        yield Failure(str(error.filename), f"{error.filename}: cannot be read: {error.strerror}")


def _unnameable(target: Path) -> str | None:
    """Return why no file can have this name, or None."""
    try:
        os.lstat(target)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    except OSError as error:
        return error.strerror or str(error)
    return None
