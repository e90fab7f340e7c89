"""Weights by name: what the package brings along, and how a name or a file becomes a network."""

import os
from dataclasses import dataclass
from pathlib import Path

from enlca.checkpoint.store import Card, load_file, read_card
from enlca.errors import CheckpointError
from enlca.network.sr import SRNetwork

WEIGHTS = Path(__file__).parent / "weights"
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Bundled:
    """Weights that lie in the package."""

    name: str
    scale: int
    path: Path

    @property
    def card(self) -> Card:
        """What they say of themselves."""
        return read_card(self.path)


def bundled() -> list[Bundled]:
    """All weights in the package: files called `NAME_xSCALE.safetensors`."""
    found = []
    for path in sorted(WEIGHTS.glob(f"*{SUFFIX}")):
        name, _, scale = path.stem.rpartition("_x")
        found.append(Bundled(name, int(scale), path))
    return found


def locate(model: str | os.PathLike, scale: int | None = None) -> Path:
    """The checkpoint file of a bundled name (with its scale) or of a path.

    A name without a scale means x4, or the only scale there is.

    Raises:
        CheckpointError: for an unknown name, or a scale that there are no weights for.
    """
    text = os.fspath(model)
    if text.endswith(SUFFIX) or os.sep in text:
        return Path(text)
    known = bundled()
    scales = {item.scale: item.path for item in known if item.name == text}
    if not scales:
        names = ", ".join(sorted({item.name for item in known})) or "none"
        raise CheckpointError(f"unknown model {text!r}; known: {names}; or give a {SUFFIX} file")
    wanted = scale or (4 if 4 in scales else next(iter(scales)))
    if wanted not in scales:
        available = ", ".join(f"x{s}" for s in sorted(scales))
        raise CheckpointError(f"{text} has no weights for x{wanted}; available: {available}")
    return scales[wanted]


def load_with_card(model: str | os.PathLike, scale: int | None = None) -> tuple[SRNetwork, Card]:
    """The network called `model`, or in that file, and its card.

    Raises:
        CheckpointError: if there is none, or it enlarges by another factor than `scale`.
    """
    path = locate(model, scale)
    network, card = load_file(path)
    if scale is not None and card.network.scale != scale:
        raise CheckpointError(f"{path}: enlarges x{card.network.scale}, not x{scale}")
    return network, card


def load(model: str | os.PathLike, *, scale: int | None = None) -> SRNetwork:
    """A network by bundled name or checkpoint file, in float32 and evaluation mode.

    Raises:
        CheckpointError: see `load_with_card`.
    """
    return load_with_card(model, scale)[0]
