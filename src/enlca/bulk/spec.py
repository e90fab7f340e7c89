"""What a job is and how far it is: plain values, for other processes and machines; loads no PyTorch."""

from dataclasses import asdict, dataclass, field
from typing import Any

from enlca.checkpoint import DEFAULT_MODEL
from enlca.image.rows import MAX_PIXELS


@dataclass(frozen=True)
class Spec:
    """A job.

    Attributes:
        source, target, job: URLs of the pictures, of the results and of the job's own files.
        model: as in `Upscaler`.
        scale: of the results, as text; None is the model's own.
        suffix: of the results' format.
        quality, max_pixels: as in `inference.batch.Settings`.
        max_memory: of each worker, as text like 2GiB.
        device: as in `Upscaler`.
        replace: whether existing objects are replaced.
        options: further arguments of `Upscaler`.
    """

    source: str
    target: str
    job: str
    model: str = DEFAULT_MODEL
    scale: str | None = None
    suffix: str = ".png"
    quality: int = 95
    max_pixels: int = MAX_PIXELS
    max_memory: str | None = None
    device: str = "auto"
    replace: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    def about(self) -> dict:
        """Return what a job must have in common with the run that goes on with it."""
        names = ("source", "target", "model", "scale", "suffix", "quality")
        return {name: value for name, value in asdict(self).items() if name in names}


@dataclass(frozen=True)
class Tally:
    """How many pictures of a unit are done, were there already, and failed; how many rows that is."""

    done: int = 0
    skipped: int = 0
    failed: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.done + other.done, self.skipped + other.skipped, self.failed + other.failed)

    @property
    def total(self) -> int:
        """All of them."""
        return self.done + self.skipped + self.failed
