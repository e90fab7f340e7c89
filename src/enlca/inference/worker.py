"""A thread that does one thing after the other, and what it is handed meanwhile, band by band."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

import numpy as np

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")


class Worker:
    """Does what it is given, in that order; whoever gives bounds how much waits.

    A daemon: Python does not wait for it at the end, so a stopped command ends although libvips is at work.
    """

    def __init__(self, name: str) -> None:
        self._tasks: SimpleQueue[tuple[Future, Callable[[], Any]] | None] = SimpleQueue()
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name=f"enlca-{name}", daemon=True)
        self._thread.start()

    def submit(
        self, function: Callable[Arguments, Result], *args: Arguments.args, **settings: Arguments.kwargs
    ) -> Future[Result]:
        """What `function` will have returned, or raised."""
        future: Future[Result] = Future()
        self._tasks.put((future, lambda: function(*args, **settings)))
        return future

    def stop(self) -> None:
        """Begin nothing more of what waits."""
        self._stopped = True

    def finish(self, timeout: float) -> None:
        """Wait until all is done, but not longer than `timeout` seconds."""
        self._tasks.put(None)
        self._thread.join(timeout)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None and not self._stopped:
            future, call = task
            try:
                future.set_result(call())
            # Ctrl-C as well, which tests raise here: the one who asks for the result shall hear of it.
            except BaseException as error:
                future.set_exception(error)
            # A picture is not kept until there is another.
            del task, future, call


class Abandoned(Exception):
    """Nobody takes the bands any more."""


class Channel:
    """Bands of a picture from the thread that makes them to the one that wants them.

    Args:
        capacity: bytes that may wait; whoever makes more waits, too.
    """

    def __init__(self, capacity: int):
        self.capacity = capacity
        self._bands: deque[np.ndarray] = deque()
        self._changed = threading.Condition()
        self._waiting = 0
        self._closed = False
        self._abandoned = False
        self._error: BaseException | None = None

    def put(self, band: np.ndarray) -> None:
        """Hand over a band. Raises Abandoned."""
        with self._changed:
            while self._waiting >= self.capacity and not self._abandoned:
                self._changed.wait()
            if self._abandoned:
                raise Abandoned
            self._bands.append(band)
            self._waiting += band.nbytes
            self._changed.notify_all()

    def close(self, error: BaseException | None = None) -> None:
        """There are no more; or an error, which is raised where the bands are wanted."""
        with self._changed:
            self._closed, self._error = True, error
            self._changed.notify_all()

    def abandon(self) -> None:
        """Whatever still comes is not wanted."""
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
                self._waiting -= band.nbytes
                self._changed.notify_all()
            yield band
