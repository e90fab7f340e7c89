"""The driver: hands units to workers, whatever engine holds them, and copes with workers that die."""

from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

from enlca.bulk.manifest import JobFiles, Unit
from enlca.bulk.spec import Tally
from enlca.errors import BulkError

# Times that a worker may die over one picture before the picture counts as failed, and pictures in a row, for
# each worker, that may end so without one unit being finished.
TRIES, HOPELESS = 3, 8
HOPE_LOST = "workers die as soon as they begin: out of memory?"
DIED = "the process died while it was upscaled, again and again: out of memory?"


class Crashed(Exception):
    """The worker of a unit died."""


@runtime_checkable
class Pool(Protocol):
    """Workers of some engine."""

    workers: int

    @property
    def n_pending(self) -> int:
        """How many units are queued or at work."""
        ...

    def begin(self) -> None:
        """Wait until a worker has begun. Raises EnlcaError: none can."""
        ...

    def submit(self, unit: Unit) -> None:
        """Queue a unit."""
        ...

    def finished(self, timeout: float) -> Iterator[tuple[Unit, Tally | Exception]]:
        """Yield units that are finished, after at most `timeout` seconds."""
        ...

    def drain(self) -> None:
        """Let each worker finish its present picture, and begin none."""
        ...

    def close(self) -> None:
        """End the workers."""
        ...


class Queue(ABC):
    """Units that wait, and one at work for each worker: what the pools of all engines have in common.

    Args:
        workers: how many.

    Attributes:
        at_work: the unit and the worker's number of each result to come.
        waiting: units that no worker has yet.
    """

    def __init__(self, workers: int):
        self.workers = workers
        self.at_work: dict[Any, tuple[Unit, int]] = {}
        self.waiting = deque[Unit]()

    @abstractmethod
    def hand(self, unit: Unit, worker: int) -> Any:
        """Let a worker begin a unit, and return what its result will be known by."""

    @property
    def n_pending(self) -> int:
        """How many units are queued or at work."""
        return len(self.at_work) + len(self.waiting)

    def submit(self, unit: Unit) -> None:
        """Queue a unit for the first worker that is free."""
        self.waiting.append(unit)
        self.hand_out()

    def hand_out(self) -> None:
        """Give units to the workers that have none."""
        busy = {number for _, number in self.at_work.values()}
        for number in range(self.workers):
            if number not in busy and self.waiting:
                unit = self.waiting.popleft()
                self.at_work[self.hand(unit, number)] = unit, number


def drive(
    pool: Pool,
    units: Iterable[Unit],
    files: JobFiles,
    *,
    stopping: Callable[[], bool] = lambda: False,
    on_tally: Callable[[Tally], None] = lambda tally: None,
) -> Tally:
    """Have all units done, and return how many pictures are; `stopping` drains the pool.

    A unit whose worker died is done again, picture by picture, so that only the one that kills it fails.

    Raises:
        BulkError: workers die as soon as they begin, or a store cannot be reached any more.
        EnlcaError: as a worker.
    """
    rest, again = iter(units), deque[Unit]()
    deaths, in_a_row, total, draining = Counter[Unit](), 0, Tally(), False
    failure: Exception | None = None

    def count(tally: Tally) -> None:
        nonlocal total
        total += tally
        on_tally(tally)

    while True:
        if not draining and (failure or stopping()):
            draining = True
            pool.drain()
        while not draining and pool.n_pending < 2 * pool.workers:
            unit = again.popleft() if again else next(rest, None)
            if unit is None:
                break
            pool.submit(unit)
        if not pool.n_pending:
            break
        for unit, result in pool.finished(0.2):
            if isinstance(result, Tally):
                in_a_row = 0
                count(result)
            elif not isinstance(result, Crashed):
                failure = failure or result
            elif unit.size > 1:
                again.extend(Unit(unit.shard, row, row + 1) for row in range(unit.first, unit.last))
                in_a_row += 1
            else:
                deaths[unit] += 1
                in_a_row += 1
                if deaths[unit] < TRIES:
                    # At once: where many kill, each try of the job gets past some of them.
                    again.appendleft(unit)
                    continue
                [key] = files.keys(unit)
                files.write_outcomes(unit, [{"key": key, "error": f"{key}: {DIED}", "skipped": False}])
                count(Tally(failed=1))
            if in_a_row > HOPELESS * TRIES * pool.workers:
                failure = failure or BulkError(HOPE_LOST)
    if isinstance(failure, ConnectionError):
        raise BulkError(f"a store cannot be reached: {failure}; the same command goes on") from failure
    if failure is not None:
        raise failure
    return total
