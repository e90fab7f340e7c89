"""SR pictures that exist already, made by any method: found beside HR by their names, scored and audited."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from enlca.data.pairs import Pair, find_originals, load_made, match
from enlca.errors import EnlcaError, EvaluationError
from enlca.evaluation.audit import AuditRow, audit, refuse_unusable
from enlca.evaluation.report import GIVEN, Lr
from enlca.image.files import find_pictures


@dataclass(frozen=True)
class GivenPictures:
    """A folder of SR pictures, used like a method that upscales.

    The pictures of one data set may lie in it directly, or in `DATASET`, `xS` or `DATASET/xS` below it.
    """

    folder: Path
    name: str
    protocol: ClassVar[str] = GIVEN
    ensemble: ClassVar[bool] = False

    @classmethod
    def of(cls, folder: Path) -> "GivenPictures":
        """Name them after their folder, or the one around it where that is called after a scale."""
        whole = folder.resolve()
        return cls(folder, whole.parent.name if re.fullmatch("[xX][234]", whole.name) else whole.name)

    @property
    def about(self) -> dict[str, Any]:
        """The description in reports."""
        return {"name": self.name}

    def pairs(self, dataset: Path, scale: int) -> list[Pair]:
        """Return the HR pictures of a benchmark folder, each with its SR picture in the place of LR.

        Raises:
            PictureError: a folder without pictures.
        """
        originals = find_originals(dataset, scale)
        name = dataset.resolve().name
        places = (self.folder / place for place in (f"{name}/x{scale}", name, f"x{scale}"))
        return match(originals, find_pictures(next((p for p in places if p.is_dir()), self.folder)))

    def source(self, pairs: list[Pair], lr: Lr) -> str:
        """Return the origin of the LR images, which is not known."""
        return GIVEN

    def make(self, pair: Pair, *, scale: int, lr: Lr) -> tuple[np.ndarray, np.ndarray, float]:
        """Return SR, HR and the seconds that upscaling took: none.

        Raises:
            PictureError: there is no partner, a file cannot be used, or the sizes differ.
        """
        if pair.lr is None:
            raise EvaluationError(pair.fault or f"{pair.hr}: has no partner")
        return *load_made(pair.hr, pair.lr, scale), 0.0


class Audit(NamedTuple):
    """The rows of an audit, the names of its images, and a line for each that could not be used."""

    rows: Sequence[AuditRow]
    names: Sequence[str]
    failures: Sequence[str]


def audit_folders(sr_folder: Path, hr_folder: Path, *, scale: int) -> Audit:
    """Audit SR images against HR, matched by name.

    Raises:
        PictureError: a folder without pictures.
        EvaluationError: no picture could be used.
    """
    made = GivenPictures.of(sr_folder)
    names: list[str] = []
    failures: list[str] = []

    def usable() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for pair in made.pairs(hr_folder, scale):
            try:
                sr, hr, _ = made.make(pair, scale=scale, lr="uint8")
                refuse_unusable(sr, hr, scale=scale)
            except EnlcaError as error:
                failures.append(str(error))
            except ValueError as error:
                failures.append(f"{pair.lr}: {error}")
            else:
                names.append(pair.name)
                yield sr, hr

    try:
        return Audit(audit(usable(), scale=scale), names, failures)
    except ValueError as error:
        raise EvaluationError("; ".join([*failures, str(error)])) from error
