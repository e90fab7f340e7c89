"""From our tensor names to published ones by a table, and from published names and shapes to sizes."""

import re
from collections.abc import Sequence

from enlca.network.interface import SRModel
from enlca.peers.layout import Shapes

Table = Sequence[tuple[str, str]]


def renamed(model: SRModel, table: Table) -> dict[str, str]:
    """Return the published name of each tensor in the model's state dict.

    Args:
        model: as built.
        table: patterns of our whole names and what replaces them; the first that matches counts. A name
            that none matches is the same in both layouts.
    """
    return {name: _renamed(name, table) for name in model.state_dict()}


def _renamed(name: str, table: Table) -> str:
    matches = ((re.fullmatch(pattern, name), published) for pattern, published in table)
    return next((match.expand(published) for match, published in matches if match), name)


def length(shapes: Shapes, name: str, axis: int = 0) -> int:
    """Return the length of an axis of a published tensor.

    Raises:
        ValueError: there is no such tensor or axis, or its length is 0.
    """
    if name not in shapes:
        raise ValueError(f"it lacks {name}")
    shape = shapes[name]
    if not 0 <= axis < len(shape) or shape[axis] < 1:
        raise ValueError(f"it has {name} of shape {list(shape)}")
    return shape[axis]


def count(shapes: Shapes, name: str) -> int:
    """Return how many tensors are called `name`, in which `#` is a number from 0.

    Raises:
        ValueError: there is none, or a number is larger than a complete file could hold.
    """
    before, after = name.split("#")
    pattern = re.compile(f"{re.escape(before)}([0-9]{{1,9}}){re.escape(after)}")
    found = [int(match[1]) for match in map(pattern.fullmatch, shapes) if match]
    if not found:
        raise ValueError(f"it lacks {name.replace('#', '0')}")
    if (last := max(found)) >= len(shapes):
        raise ValueError(f"it has an unexpected {name.replace('#', str(last))}")
    return last + 1


def check_size(shapes: Shapes, blocks: int) -> None:
    """Raise ValueError if a file is said to have more blocks than it has tensors: no such model is built."""
    if blocks > len(shapes):
        raise ValueError(f"its names are those of {blocks} blocks, and it has {len(shapes)} tensors")
