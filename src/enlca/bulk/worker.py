"""A worker: opens the stores, loads the network once, and upscales the units that it is given."""

import gc
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from typing import Any

from enlca.bulk.manifest import JobFiles, Unit
from enlca.bulk.one import Work, one
from enlca.bulk.origins import open_origin
from enlca.bulk.spec import Spec, Tally
from enlca.bulk.stores import open_store
from enlca.inference.batch import Settings
from enlca.inference.target_size import Size, default_scale, network_scales
from enlca.runtime.allocator import keep_freed_memory
from enlca.runtime.device import choose_device, size_in_bytes


class Worker:
    """Upscales units of a job.

    Raises:
        BulkError, CheckpointError, DeviceError, MemoryLimitError: it cannot begin.
    """

    def __init__(self, spec: Spec):
        self.source = open_origin(spec.source, max_pixels=spec.max_pixels)
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


def begin(spec: Spec) -> Worker:
    """Return the worker of a process of its own. Raises as `Worker`."""
    keep_freed_memory()
    worker = Worker(spec)
    # Objects of loaded modules live until the end: searching them for garbage took a tenth of the time.
    gc.freeze()
    return worker


def work_of(spec: Spec) -> Work:
    """Return what is done to each picture.

    Raises:
        CheckpointError: unknown model or scale.
        DeviceError, MemoryLimitError: no such device, or no size.
    """
    from enlca.inference.upscaler import Upscaler
    from enlca.runtime.device import on_host

    scales, model = network_scales(spec.model, at_least=None if spec.scale is None else float(spec.scale))
    size = Size(scale=default_scale(scales) if spec.scale is None else Fraction(spec.scale))
    max_memory = None if spec.max_memory is None else size_in_bytes(spec.max_memory)
    options: dict[str, Any] = spec.options | {"max_memory": max_memory}
    options |= {"device": choose_device(spec.device)}
    return Work(
        load=cache(lambda own: Upscaler(model, scale=own, **options).rows),
        size=size,
        scales=scales,
        suffix=spec.suffix,
        settings=Settings(
            quality=spec.quality,
            max_pixels=spec.max_pixels,
            max_memory=on_host(max_memory, spec.device),
        ),
        replace=spec.replace,
    )
