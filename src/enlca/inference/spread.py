"""One picture over several devices: a band of rows each, and a small sum of all for each global stage.

Each device streams its own band, with the halo that all stages together need, so that no features are
exchanged; halos are computed twice. At a global stage each one summarises the positions of its own band, and
all of them combine the summaries: M x (E + 1) numbers, whatever the size of the picture (Eq. 5-6).

Devices of one process are threads (`bands_on_devices`); processes, on one machine or many, exchange their
sums by torch.distributed (`bands_of_rank`).
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Shaped

from enlca.errors import StreamingError
from enlca.inference.execute import Executor, Note, warn
from enlca.inference.pixel_source import Pixels, Raster, spool_to_disk
from enlca.inference.reach import needed
from enlca.inference.strategy import Strategy
from enlca.inference.streaming import Share, Sums
from enlca.inference.tiles import Region
from enlca.network.sr import SRNetwork
from enlca.runtime.concurrency import Channel, Passes, Worker

# Bytes of finished rows that wait for their consumer; those of the further bands wait on the disk.
QUEUE_BYTES = 1 << 26


def band_of(rank: int, n: int, height: int, width: int) -> Region:
    """Return the rows of device `rank` of `n`. Raises ValueError if there are fewer rows than devices."""
    if n > height:
        raise ValueError(f"{height} rows cannot be divided among {n} devices")
    return Region(rank * height // n, 0, (rank + 1) * height // n, width)


def bands_of_rank(
    executor: Executor,
    picture: Pixels,
    strategy: Strategy,
    *,
    group: Any = None,
    passes: Passes | None = None,
    note: Note = warn,
) -> Iterator[Shaped[np.ndarray, "h SW L"]]:
    """Yield the SR rows of this process: those of all ranks, in order, are the picture.

    To be called, and iterated over to the end, by all processes of a group of torch.distributed, each with
    the whole picture and a network of its own.

    Args:
        executor: the network on this process's device.
        picture: all of it (H W L).
        strategy: a stream; tiles may differ from process to process.
        group: of processes; None is the default one.
        passes: progress of this process.
        note: see `Executor.bands`.

    Raises:
        RuntimeError: another process failed, or took longer than the group's timeout.
        StreamingError: exact attention, or one that cannot be streamed.
        ValueError: fewer rows than processes.
    """
    n = dist.get_world_size(group)
    own = band_of(dist.get_rank(group), n, *picture.shape[:2])
    # NCCL exchanges tensors on a GPU, gloo on the processor.
    where = executor.device if dist.get_backend(group) == "nccl" else torch.device("cpu")

    def gather(sums: Sums) -> list[Sums]:
        mine = torch.cat([part.flatten() for part in sums]).to(where)
        gathered = [torch.empty_like(mine) for _ in range(n)]
        dist.all_gather(gathered, mine, group=group)
        return [_unpacked(numbers.cpu(), like=sums) for numbers in gathered]

    share = Share(own, gather)
    return executor.bands(picture, strategy, share=share, passes=passes, note=note)


def _unpacked(numbers: torch.Tensor, *, like: Sums) -> Sums:
    parts = numbers.split([part.numel() for part in like])
    return type(like)(*(part.view(same.shape) for part, same in zip(parts, like, strict=True)))


def bands_on_devices(
    executors: Sequence[Executor],
    picture: Pixels,
    strategy: Strategy,
    *,
    passes: Passes | None = None,
    note: Note = warn,
) -> Iterator[Shaped[np.ndarray, "h SW L"]]:
    """Upscale a picture (H W L) on several devices at once; yield its SR rows from top to bottom.

    Args:
        executors: the network on each device.
        picture: what to upscale.
        strategy: a stream; its cache is divided among the devices.
        passes: progress of the first device.
        note: see `Executor.bands`.

    Raises:
        Exception: what `Executor.bands` raises on any of the devices.
        ValueError: fewer rows than devices.
    """
    n, meeting = len(executors), _Meeting(len(executors))
    limit = strategy.cache_limit
    each = replace(strategy, cache_limit=None if limit is None else limit // n)
    shares = [
        Share(band_of(rank, n, *picture.shape[:2]), lambda sums, rank=rank: meeting.gather(rank, sums))
        for rank in range(n)
    ]
    channel, workers = Channel(QUEUE_BYTES), [Worker(f"device-{rank}") for rank in range(n)]

    def bands(rank: int) -> Iterator[np.ndarray]:
        own = passes if rank == 0 else None
        return executors[rank].bands(picture, each, share=shares[rank], passes=own, note=note)

    def first() -> None:
        with meeting.broken_by_errors():
            for band in bands(0):
                channel.put(band)

    def further(rank: int) -> Raster:
        with meeting.broken_by_errors():
            return spool_to_disk(bands(rank), folder=executors[rank].folder)

    begun = [workers[0].submit(first), *(workers[rank].submit(further, rank) for rank in range(1, n))]
    begun[0].add_done_callback(lambda done: channel.close(done.exception()))
    try:
        yield from channel
        for rest in begun[1:]:
            yield from rest.result()
    except threading.BrokenBarrierError as error:
        raise (meeting.error or error) from None
    finally:
        meeting.barrier.abort()
        channel.abandon()
        for worker in workers:
            worker.finish(timeout=None)


@dataclass(frozen=True)
class Spread:
    """What an `Executor` does, on several devices, for pictures that have enough rows.

    Attributes:
        executors: of a network that can be streamed; devices of one kind.
    """

    executors: Sequence[Executor]

    def shares(self, height: int, width: int) -> bool:
        """Return whether the devices share such a picture: at most half of what each computes is halo."""
        n, network, whole = len(self.executors), self.executors[0].model, Region(0, 0, height, width)
        assert isinstance(network, SRNetwork)
        bands = [band_of(rank, n, height, width) for rank in range(n)] if height >= n else []
        return bool(bands) and all(needed(network, own, whole)[0].height <= 2 * own.height for own in bands)

    def passes(self, strategy: Strategy, **settings: Any) -> Passes:
        """See `Executor.passes`."""
        return self.executors[0].passes(strategy, **settings)

    def bands(
        self, picture: Pixels, strategy: Strategy, *, passes: Passes | None = None, note: Note = warn
    ) -> Iterator[Shaped[np.ndarray, "h SW L"]]:
        """Upscale a picture (H W L); see `Executor.bands`. A picture that they do not share has the first."""
        height, width, _ = picture.shape
        if strategy.mode == "stream" and self.shares(height, width):
            return bands_on_devices(self.executors, picture, strategy, passes=passes, note=note)
        return self.executors[0].bands(picture, strategy, passes=passes, note=note)


def spread_over(executor: Executor, devices: Sequence[torch.device]) -> Spread:
    """Return what uses further devices beside that of an executor, with a copy of the network on each.

    Raises:
        StreamingError: the network cannot be streamed, or only by exact attention.
    """
    network = executor.model
    if not isinstance(network, SRNetwork) or not network.streamable or network.config.attention == "exact":
        raise StreamingError(
            f"{network.name} cannot be shared by devices: it is not streamed through sums; use one device"
        )
    copies = [deepcopy(network).to(device) for device in devices]
    others = [Executor(copy, copy, device) for copy, device in zip(copies, devices, strict=True)]
    return Spread([executor, *others])


class _Meeting:
    """Where the threads of several devices exchange their sums.

    Attributes:
        error: the first that stopped one of them.
    """

    def __init__(self, n: int):
        self.barrier = threading.Barrier(n)
        self.error: BaseException | None = None
        self._sums: list[Any] = [None] * n

    def gather(self, rank: int, sums: Sums) -> list[Sums]:
        """Return the sums of all devices. Raises BrokenBarrierError if one of them has failed."""
        self._sums[rank] = sums
        self.barrier.wait()
        everything = list(self._sums)
        # No device begins the next exchange before all have read this one.
        self.barrier.wait()
        return everything

    @contextmanager
    def broken_by_errors(self) -> Iterator[None]:
        """End the exchanges of all devices if the block of one of them fails."""
        try:
            yield
        except BaseException as error:
            if self.error is None and not isinstance(error, threading.BrokenBarrierError):
                self.error = error
            self.barrier.abort()
            raise
