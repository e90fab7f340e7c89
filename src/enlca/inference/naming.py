"""The name of an output, from that of its input and what -o says."""

import os
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

from enlca.errors import JobError
from enlca.image.encoding import WRITABLE
from enlca.inference.target_size import Size

FIELDS = ("folder", "stem", "ext", "scale", "size", "suffix")
_FIELD = re.compile(r"\{(\w*)\}")


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
        return joined(self.folder, self.name)


def joined(folder: str, name: str) -> str:
    """Return the path of a name in a folder, as `Path` writes both."""
    return f"{folder}{os.sep}{name}" if folder not in ("", os.sep) else folder + name


@dataclass(frozen=True)
class Naming:
    """The names of outputs: `pattern` is a name with fields, `base` the folder that contains all of them.

    `suffix` None is that of each input.
    """

    pattern: str
    size: Size
    suffix: str | None
    base: Path | None = None

    @classmethod
    def of(cls, out: Path | None, *, size: Size, suffix: str | None, several: bool) -> "Naming":
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
        ending = Path(str(out).replace("{suffix}", suffix or ".png")).suffix
        if ending.lower() not in WRITABLE:
            raise JobError(
                f"-o {out}: cannot write {ending}; choose from {' '.join(WRITABLE)}, or a folder that exists"
                if ending
                else f"-o {out}: has no suffix; end it in {{suffix}}, or one of {' '.join(WRITABLE)}"
            )
        if not fields and several:
            raise JobError(f"-o {out} names one file, but there is more than one input; name a folder")
        return cls(str(out), size, suffix, base=None if _FIELD.search(str(out.parent)) else out.parent)

    @cached_property
    def parts(self) -> list[str]:
        """Texts and, at odd places, the fields between them that differ from picture to picture."""
        scale = f"{float(self.size.scale):g}" if self.size.scale is not None else ""
        fields = {"{scale}": scale, "{size}": self.size.name}
        if self.suffix is not None:
            fields["{suffix}"] = self.suffix
        filled = _FIELD.sub(lambda match: fields.get(match[0], match[0]), self.pattern)
        return re.split(r"\{(folder|stem|ext|suffix)\}", filled)

    def target(self, one: Found, *, separate: bool = False) -> tuple[str, str]:
        """Return folder and name of an output; its tree is kept unless the pattern contains its folder.

        `separate`: with the extension beside the stem.
        """
        stem = _stem(one.name)
        ext = one.name[len(stem) + 1 :]
        own = f".{ext.lower()}"
        fields = {"folder": one.folder or ".", "stem": f"{stem}_{ext}" if separate and ext else stem}
        fields |= {"ext": ext, "suffix": own if own in WRITABLE else ".png"}
        parts = list(self.parts)
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
