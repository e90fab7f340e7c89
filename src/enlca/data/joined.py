"""Two training sets as one, with a fixed share of the patches from each (`data.more`)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from enlca.data.packed import PackedSet, Pictures


def joined(first: PackedSet, second: PackedSet, share: float) -> PackedSet:
    """Return the pictures of both sets; `share` of all patches come from `second`, whatever its size.

    Both have the same scale. A teacher is opened for the result, not for the parts.
    """
    halves = slice(0, len(first)), slice(len(first), len(first) + len(second))
    return replace(
        first,
        names=[*first.names, *second.names],
        shapes=[*first.shapes, *second.shapes],
        lr=_Both(first.lr, second.lr),
        hr=_Both(first.hr, second.hr),
        shares=tuple(zip(halves, (1 - share, share), strict=True)),
    )


class _Both(Sequence):
    """The pictures of one side of two sets; none is read or mapped before it is used."""

    def __init__(self, first: Pictures, second: Pictures):
        self.first, self.second = first, second

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def __getitem__(self, index: Any) -> Any:
        before = len(self.first)
        return self.first[index] if index < before else self.second[index - before]
