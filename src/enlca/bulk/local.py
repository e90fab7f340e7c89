"""Workers as processes of this machine."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from enlca.bulk.drive import HOPE_LOST, Crashed, Queue
from enlca.bulk.manifest import Unit
from enlca.bulk.spec import Spec, Tally
from enlca.errors import BulkError
from enlca.runtime.signals import STOPPING

if TYPE_CHECKING:
    from enlca.bulk.worker import Worker

# What each process needs, and takes seconds to load.
LOADED_ONCE = ["enlca.bulk.worker", "enlca.inference.upscaler"]
_load: "Callable[[], Worker] | None" = None
_stopping: Any = None


class LocalPool(Queue):
    """Processes that each hold a network, and one unit at a time; one that died is replaced.

    Where the system allows it they are forks of one process that has loaded PyTorch and done nothing else: it
    is loaded once, and not by the caller.

    Args:
        spec: of the job.
        workers: how many.
    """

    def __init__(self, spec: Spec, workers: int):
        super().__init__(workers)
        self.spec = spec
        self._context = _context()
        self._stop = self._context.Event()
        # An executor each: of one with several processes, all units fail when one process dies.
        self._processes = [self._start() for _ in range(workers)]

    def begin(self) -> None:
        """Start all processes, and wait for the first that has begun. Raises EnlcaError: none can."""
        starting = {process.submit(_begun) for process in self._processes}
        while starting:
            ready, starting = wait(starting, return_when=FIRST_COMPLETED)
            for future in ready:
                # One that died is replaced when it gets a unit.
                with suppress(BrokenProcessPool):
                    return future.result()
        raise BulkError(HOPE_LOST)

    def hand(self, unit: Unit, worker: int) -> Future:
        """Let a process begin a unit; one that has died since its last is replaced."""
        try:
            return self._processes[worker].submit(_run, unit)
        except BrokenProcessPool:
            self._processes[worker] = self._start()
            return self._processes[worker].submit(_run, unit)

    def finished(self, timeout: float) -> Iterator[tuple[Unit, Tally | Exception]]:
        """Yield the units that are finished, or `Crashed` ones, after at most `timeout` seconds."""
        ready, _ = wait(self.at_work, timeout, return_when=FIRST_COMPLETED)
        for future in ready:
            (unit, _), error = self.at_work.pop(future), future.exception()
            if isinstance(error, BrokenProcessPool):
                yield unit, Crashed()
            elif error is None:
                yield unit, future.result()
            elif isinstance(error, Exception):
                yield unit, error
        self.hand_out()

    def drain(self) -> None:
        """Let each worker finish its present picture, and begin none."""
        self._stop.set()
        self.waiting.clear()
        for future in list(self.at_work):
            if future.cancel():
                del self.at_work[future]

    def close(self) -> None:
        """End the processes."""
        self.drain()
        for process in self._processes:
            process.shutdown(wait=True, cancel_futures=True)

    def _start(self) -> ProcessPoolExecutor:
        threads = max(1, (os.cpu_count() or 1) // self.workers)
        begin = (self.spec, self._stop, threads)
        return ProcessPoolExecutor(1, self._context, initializer=_begin, initargs=begin)


def _context() -> Any:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED_ONCE)
    return context


def _begin(spec: Spec, stopping: Any, threads: int) -> None:
    global _load, _stopping
    # They are for the parent, which lets this process finish its picture.
    for kind in STOPPING:
        signal.signal(kind, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    from enlca.bulk.worker import begin

    torch.set_num_threads(threads)
    # By the first task, which can report why it cannot begin.
    _load, _stopping = cache(lambda: begin(spec)), stopping


def _end_with_parent() -> None:
    """End this process when its parent was killed: the pool's queue would keep it for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _begun() -> None:
    assert _load is not None
    _load()


def _run(unit: Unit) -> Tally:
    assert _load is not None
    return _load().run(unit, _stopping.is_set)
