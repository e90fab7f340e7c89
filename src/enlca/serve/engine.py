"""Models on one device, and one picture of a request, as `enlca upscale` does it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from enlca.checkpoint.store import short_name
from enlca.errors import (
    EnlcaError,
    NotFinite,
    NotWritten,
    PictureError,
    StoreError,
    TooLarge,
    TooManyPixels,
)
from enlca.image.files import check_format, format_of, open_image
from enlca.image.rows import PictureRows
from enlca.image.source import Source
from enlca.inference.batch import Settings, run
from enlca.inference.jobs import Job, Sink
from enlca.inference.target_size import network_scales, plan_resize
from enlca.inference.upscaler import Upscaler
from enlca.runtime.device import on_host
from enlca.serve.limits import Limits, Refused, is_disk_full
from enlca.serve.pool import Stop
from enlca.serve.wanted import Wanted

# How a failure of the work is answered, unless a full disk caused it; the first that fits counts.
STATUS: tuple[tuple[type[Exception], int], ...] = (
    (TooManyPixels, 413),
    (TooLarge, 413),
    (StoreError, 507),
    (NotFinite, 500),
    (NotWritten, 500),
    (PictureError, 422),
)


@dataclass(frozen=True)
class Model:
    """A model that is served: the name by which clients ask for it, what it is to us, and its scales."""

    name: str
    source: str
    scales: tuple[int, ...]


def known_models(sources: Sequence[str]) -> dict[str, Model]:
    """Return the models by their names: a bundled name, a file's stem, a run's folder.

    Raises:
        CheckpointError: one of them is no model.
        EnlcaError: two of one name.
    """
    models: dict[str, Model] = {}
    for source in sources:
        name = short_name(source)
        if name in models:
            raise EnlcaError(f"two models are called {name}; rename a file, or give one of them only")
        models[name] = Model(name, source, tuple(network_scales(source)[0]))
    return models


class Engine:
    """The upscalers of one device, loaded when it is made; work of one thread at a time.

    Args:
        models: by name.
        device: where.
        limits: of the server.
        options: further arguments of `Upscaler`.
    """

    def __init__(self, models: Mapping[str, Model], *, device: str, limits: Limits, **options: Any):
        self.models = models
        limit = on_host(options.get("max_memory"), device)
        self.settings = Settings(max_pixels=limits.max_pixels, max_memory=limit)
        self._stop = Stop()
        self._rows: dict[tuple[str, int], Callable[..., PictureRows]] = {}
        for model in models.values():
            for scale in model.scales:
                upscaler = Upscaler(model.source, scale=scale, device=device, **options)
                # A forward pass of a whole picture reports no progress: its modules ask before each step.
                for module in upscaler.network.modules():
                    module.register_forward_pre_hook(self._check)
                self._rows[model.name, scale] = upscaler.rows

    def upscale(
        self, source: Source, target: Sink, wanted: Wanted, stop: Stop
    ) -> tuple[int, int, str | None]:
        """Upscale a picture; return width and height of the result, and a remark.

        Raises:
            Refused: the picture cannot be upscaled here.
            Stopped: by `stop`.
        """
        self._stop = stop
        model, [job] = self.models[wanted.model], [Job(source, target)]
        [outcome] = run(
            [job],
            lambda scale: self._rows[model.name, scale],
            size=wanted.size,
            scales=model.scales,
            settings=replace(self.settings, quality=wanted.quality),
            progress=stop.check,
        )
        stop.check()
        if outcome.cause is not None:
            raise refusal(outcome.cause, outcome.error or "", source, target)
        assert outcome.width is not None
        assert outcome.height is not None
        return outcome.width, outcome.height, outcome.remark

    def _check(self, *_: object) -> None:
        self._stop.check()


def check_picture(
    source: Source, target: Sink, wanted: Wanted, scales: Sequence[int], limits: Limits
) -> None:
    """Refuse, by its header, what cannot be upscaled, before it takes a place in the queue.

    Raises:
        Refused: 413, more pixels than allowed in the picture or its result; 415, no picture; 422, a picture
            that cannot be read, or a result that its format cannot store.
    """
    try:
        format_of(source)
    except PictureError as error:
        raise refusal(error, str(error), source, target, status=415) from error
    try:
        picture = open_image(source, max_bits=16, max_pixels=limits.max_pixels)
        plan = plan_resize(wanted.size, scales, *picture.size)
        check_format(Path(target.name), plan.width, plan.height, opaque=True)
    except PictureError as error:
        raise refusal(error, str(error), source, target) from error
    if plan.width * plan.height > limits.max_result:
        size = f"the result would have {plan.width}x{plan.height} pixels"
        raise Refused(413, f"{size}, more than the {limits.max_result} of this server")


def refusal(
    error: Exception, line: str, source: Source, target: Sink, *, status: int | None = None
) -> Refused:
    """Return the answer to a failure; the names of both ends mean nothing to a client."""
    line = line.removeprefix(f"{source}: ").removeprefix(f"{target}: ")
    if is_disk_full(error):
        return Refused(507, line)
    known = (number for kind, number in STATUS if isinstance(error, kind))
    return Refused(status or next(known, 500), line)
