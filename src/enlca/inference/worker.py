"""A thread that does one thing after the other: files are read and written while a network computes."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

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
