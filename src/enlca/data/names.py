"""Which picture of one folder belongs to which picture of another, by their names.

Methods and data sets append to a picture's name: `baby_x4`, `baby_HR_x2`, `baby_RCAN_x2`, `baby_LRBI_x2`,
`0801x4`. Known tails are cut off, and whatever tail all pictures of a folder have in common, so that the name
of any method will do. Of several candidates the one with the fewest cuts is the partner.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from enlca.errors import PictureError

_METHODS = "lapsrn|memnet|srmdnf?|d-?dbpn|dbpn|rdn|rcan|nlrn|rnan|srfbn|oisr|san|nlsn|nlan"
_KNOWN = re.compile(
    rf"(?i)(_?x[234]|_srf_[234]|_?lr(bi|bd|dn)|_(sr|hr|lr|gt|bicubic|{_METHODS})|_(enlcn|edsr)[\w-]*)$"
)
# Where a tail may begin: numbers alone are names of pictures, not of methods.
_TAIL = re.compile(r"(?=[_\-. ][^a-z]*[a-z])|(?=x[234])", re.IGNORECASE)


class Partners:
    """The pictures of one folder and their partners in another, each name with and without its tails.

    Args:
        own: pictures whose partners are asked for.
        others: pictures that are the partners.
    """

    def __init__(self, own: Sequence[Path], others: Sequence[Path]):
        self.folder = others[0].parent
        self.own_tails = common_tails(own) if len(own) > 1 else []
        tails = common_tails(others)
        self.stems: dict[str, list[tuple[int, Path]]] = {}
        for path in others:
            for stem, cuts in _stems(path.stem, tails).items():
                self.stems.setdefault(stem, []).append((cuts, path))

    def of(self, path: Path) -> Path:
        """Return the partner of a picture.

        Raises:
            PictureError: there is none, or more than one with equally few cuts.
        """
        fewest: dict[Path, int] = {}
        for stem, cuts in _stems(path.stem, self.own_tails).items():
            for more_cuts, other in self.stems.get(stem, ()):
                fewest[other] = min(cuts + more_cuts, fewest.get(other, cuts + more_cuts))
        if not fewest:
            raise PictureError(f"{path}: has no partner of the same name in {self.folder}")
        closest = [other for other, cuts in fewest.items() if cuts == min(fewest.values())]
        if len(closest) > 1:
            names = " and ".join(other.name for other in closest)
            raise PictureError(f"{path}: {names} in {self.folder} could all be its partner; move one away")
        return closest[0]


def common_tails(pictures: Sequence[Path]) -> list[str]:
    """Return the tails that all names have in common, the longest first; of one picture, all its tails."""
    first, *others = (path.stem for path in pictures)
    tails = [first[found.start() :] for found in _TAIL.finditer(first)]
    return [tail for tail in tails if all(stem.endswith(tail) for stem in others)]


def _stems(stem: str, tails: Sequence[str]) -> dict[str, int]:
    """Return the stem, and what is left of it after cutting tails off, with the number of cuts."""
    found: dict[str, int] = {}
    for cuts, start in [(0, stem), *((1, stem.removesuffix(tail)) for tail in tails)]:
        shorter, count = start, cuts
        while shorter and count < found.get(shorter, count + 1):
            found[shorter] = count
            shorter, count = _KNOWN.sub("", shorter), count + 1
    return found
