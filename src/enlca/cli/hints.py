"""Hints for people, on stderr: only where it is a terminal."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from enlca.checkpoint import PHOTO
from enlca.cli.output import printable

if TYPE_CHECKING:
    from enlca.inference.jobs import Job, Outcome

# Pictures that are looked into for a hint.
HINTED = 8
# Formats that lose details for small files; a result is called large beyond so many times the input.
LOSSY, MANY_TIMES = (".jpg", ".jpeg", ".jfif", ".webp", ".avif", ".heic"), 20


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


def hint_at_size(outcome: "Outcome") -> bool:
    """Say on stderr that a compressed picture became a file many times its size; return whether it did."""
    source, target = Path(outcome.source), Path(outcome.target or "")
    if source.suffix.lower() not in LOSSY or target.suffix.lower() in LOSSY:
        return False
    try:
        times = target.stat().st_size / max(1, source.stat().st_size)
    except OSError:
        return False
    if times < MANY_TIMES:
        return False
    line = f"{target.name} is {times:.0f} times as large as {source.name}; --format jpg makes smaller files"
    print(printable(f"enlca: {line}, --format same keeps the format"), file=sys.stderr)
    return True
