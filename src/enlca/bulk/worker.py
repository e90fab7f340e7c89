"""A worker: opens the stores, loads the network once, and upscales the units that it is given."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from functools import cache
from typing import Any

from enlca.bulk.manifest import JobFiles, Unit
from enlca.bulk.one import Work, one
from enlca.bulk.stores import open_store
from enlca.checkpoint import DEFAULT_MODEL
from enlca.inference.batch import Settings
from enlca.inference.target_size import Size, default_scale, network_scales


@dataclass(frozen=True)
class Spec:
    """A job as plain values, for other processes and machines.

    Attributes:
        source, target, job: URLs of the pictures, of the results and of the job's own files.
        model: as in `Upscaler`.
        scale: of the results, as text; None is the model's own.
        suffix: of the results' format.
        quality, max_pixels, max_memory: as in `Settings`.
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
    max_pixels: int = Settings.max_pixels
    max_memory: int | None = None
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


class Worker:
    """Upscales units of a job.

    Raises:
        BulkError, CheckpointError, DeviceError: it cannot begin.
    """

    def __init__(self, spec: Spec):
        self.source = open_store(spec.source)
        self.target = open_store(spec.target, make=True)
        self.files = JobFiles(open_store(spec.job, make=True), spec.job)
        self.work = work_of(spec)

    def run(self, unit: Unit, stopping: Callable[[], bool] = lambda: False) -> Tally:
        """Upscale a unit and record its outcomes; those so far, if `stopping` says so between two pictures.

        Raises:
            ConnectionError, CheckpointError, DeviceError: as `one`; the pictures before are recorded.
        """
        outcomes: list[dict] = []
        try:
            for key in self.files.keys(unit):
                if stopping():
                    break
                outcomes.append({"key": key} | one(self.source, key, self.target, self.work).to_dict())
        finally:
            if outcomes:
                part = Unit(unit.shard, unit.first, unit.first + len(outcomes))
                self.files.write_outcomes(part, outcomes)
        failed = sum(outcome["error"] is not None for outcome in outcomes)
        skipped = sum(outcome["skipped"] for outcome in outcomes)
        return Tally(len(outcomes) - failed - skipped, skipped, failed)


def work_of(spec: Spec) -> Work:
    """Return what is done to each picture. Raises CheckpointError: unknown model or scale."""
    from enlca.inference.upscaler import Upscaler

    scales = network_scales(spec.model, at_least=None if spec.scale is None else float(spec.scale))
    size = Size(scale=default_scale(scales) if spec.scale is None else Fraction(spec.scale))
    options: dict[str, Any] = spec.options | {"max_memory": spec.max_memory}
    return Work(
        load=cache(lambda own: Upscaler(spec.model, scale=own, **options).rows),
        size=size,
        scales=scales,
        suffix=spec.suffix,
        settings=Settings(quality=spec.quality, max_pixels=spec.max_pixels, max_memory=spec.max_memory),
        replace=spec.replace,
    )
