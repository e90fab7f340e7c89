"""Hints for people, on stderr: only where it is a terminal."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from enlca.cli.output import printable

if TYPE_CHECKING:
    from enlca.inference.outputs import Job

# The model for photographs, if it is bundled.
PHOTO = "photo"
# Pictures that are looked into for a hint.
HINTED = 8


def hint_at_photo(jobs: "Sequence[Job]", model: str) -> None:
    """Say on stderr that the first of some pictures is compressed or noisy, if a bundled model repairs that.

    A hint for people: not where stderr is no terminal, nor to those who name a file of their own.
    """
    from enlca.checkpoint.store import bundled

    names = {item.name for item in bundled()}
    if PHOTO not in names or model == PHOTO or model not in names or not sys.stderr.isatty():
        return
    from enlca.image.artefacts import signs_of_wear

    for job in jobs[:HINTED]:
        if not job.skip and isinstance(job.source, Path) and (signs := signs_of_wear(job.source)):
            line = f"{job.source.name} looks {signs}; --model {PHOTO} repairs that"
            print(printable(f"enlca: {line}"), file=sys.stderr)
            return
