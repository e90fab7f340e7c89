"""Threads: one worker, a bounded channel between two, work done ahead of its use, and progress reports."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

import numpy as np

# libvips and numpy release Python's lock for most of the work on a picture.
PREFETCH_THREADS = min(4, os.cpu_count() or 1)

Item = TypeVar("Item")
Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")


# Called with what is being done, how much of it is done (parts count) and how much there is.
Progress = Callable[[str, int | float, int | float], None]


def no_progress(what: str, done: int | float, total: int | float) -> None:
    """Ignore progress."""


class Passes:
    """Progress of several passes over the regions of a picture, each pass counting the same.

    Args:
        progress: is called after each region.
        total: how many passes there are.
    """

    def __init__(self, progress: Progress = no_progress, total: int = 1):
        self.progress = progress
        self.total = total
        self.begun = 0

    def over(self, regions: Sequence[Item], what: str) -> Iterator[Item]:
        """Yield the regions of the next pass and report each one when the next is asked for."""
        before = self.begun
        self.begun += 1
        for number, region in enumerate(regions, start=1):
            yield region
            # A retry after running out of memory adds passes.
            self.progress(what, min(before + number / len(regions), self.total), self.total)


class Worker:
    """A thread that runs functions one after the other; the caller bounds how many are queued.

    It is a daemon: Python does not wait for it at exit, so an interrupted command ends even while libvips
    is at work.
    """

    def __init__(self, name: str) -> None:
        self._tasks: SimpleQueue[tuple[Future, Callable[[], Any]] | None] = SimpleQueue()
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name=f"enlca-{name}", daemon=True)
        self._thread.start()

    def submit(
        self, function: Callable[Arguments, Result], *args: Arguments.args, **settings: Arguments.kwargs
    ) -> Future[Result]:
        """Queue a call; the future holds its result or its exception."""
        future: Future[Result] = Future()
        self._tasks.put((future, lambda: function(*args, **settings)))
        return future

    def stop(self) -> None:
        """Start no further queued call."""
        self._stopped = True

    def finish(self, timeout: float | None) -> None:
        """Wait until all calls are done, at most `timeout` seconds unless that is None."""
        self._tasks.put(None)
        self._thread.join(timeout)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None and not self._stopped:
            future, call = task
            try:
                future.set_result(call())
            # KeyboardInterrupt as well, which tests raise here: it belongs to the thread that asks.
            except BaseException as error:
                future.set_exception(error)
            # So that no picture is kept until the next one comes.
            del task, future, call


class Abandoned(Exception):
    """The consumer of a channel has stopped reading."""


class Channel:
    """Bands of a picture from the thread that makes them to the thread that consumes them.

    Args:
        capacity: bytes that may be queued; `put` blocks beyond it.
    """

    def __init__(self, capacity: int):
        self.capacity = capacity
        self._bands: deque[np.ndarray] = deque()
        self._changed = threading.Condition()
        self._queued = 0
        self._closed = False
        self._abandoned = False
        self._error: BaseException | None = None

    def put(self, band: np.ndarray) -> None:
        """Queue a band. Raises Abandoned."""
        with self._changed:
            while self._queued >= self.capacity and not self._abandoned:
                self._changed.wait()
            if self._abandoned:
                raise Abandoned
            self._bands.append(band)
            self._queued += band.nbytes
            self._changed.notify_all()

    def close(self, error: BaseException | None = None) -> None:
        """End the bands, or raise `error` in the consumer."""
        with self._changed:
            self._closed, self._error = True, error
            self._changed.notify_all()

    def abandon(self) -> None:
        """Drop queued bands and refuse further ones."""
        with self._changed:
            self._abandoned = True
            self._bands.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[np.ndarray]:
        while True:
            with self._changed:
                while not (self._bands or self._closed):
                    self._changed.wait()
                if self._error is not None:
                    raise self._error
                if not self._bands:
                    return
                band = self._bands.popleft()
                self._queued -= band.nbytes
                self._changed.notify_all()
            yield band


def prefetch(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[tuple[Item, Result]]:
    """Yield each item with `function(item)`, in order, computed ahead by a few threads.

    An exception of `function` is raised when its item is due. Few results are in memory at once.
    """
    pool = ThreadPoolExecutor(PREFETCH_THREADS, thread_name_prefix="enlca-data")
    ahead: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in items:
            ahead.append((item, pool.submit(function, item)))
            if len(ahead) > PREFETCH_THREADS:
                first, future = ahead.popleft()
                yield first, future.result()
        while ahead:
            first, future = ahead.popleft()
            yield first, future.result()
    finally:
        # A consumer that stops early does not wait for queued calls.
        pool.shutdown(cancel_futures=True)
