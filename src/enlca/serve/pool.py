"""The bounded queue in front of one worker per device.

A request takes an idle worker, or waits for one; both end when its task is cancelled. Its work is told to
stop then, and the worker is idle again when the work has ended.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from enlca.errors import Stopped
from enlca.runtime.concurrency import Worker
from enlca.serve.limits import busy

Tool = TypeVar("Tool")
Result = TypeVar("Result")


class Stop:
    """A flag by which work in another thread is told to stop."""

    def __init__(self) -> None:
        self._set = threading.Event()

    def set(self) -> None:
        """Tell the work to stop."""
        self._set.set()

    def check(self, *_: object) -> None:
        """Raise Stopped if the work is to stop; arguments are ignored, so that it can be a callback."""
        if self._set.is_set():
            raise Stopped("the work was stopped")


class _Seat(Generic[Tool]):
    """A worker's thread, what it works with, and the flag of its present work."""

    def __init__(self, tool: Tool, number: int):
        self.tool = tool
        self.thread = Worker(f"serve-{number}")
        self.stop = Stop()


class Pool(Generic[Tool]):
    """Workers and the requests that wait for them, first come first served. Used by one event loop.

    Args:
        tools: what each worker works with: one per device.
        places: requests that may wait.
    """

    def __init__(self, tools: Sequence[Tool], places: int):
        self.places = places
        self.size = len(tools)
        self._seats = [_Seat(tool, number) for number, tool in enumerate(tools)]
        self._idle = list(self._seats)
        self._waiting: deque[asyncio.Future[_Seat[Tool]]] = deque()
        self._closed = False

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    @property
    def working(self) -> int:
        """Workers that are at work."""
        return self.size - len(self._idle)

    def check(self) -> None:
        """Raise Refused (503) if a request that came now would find no place."""
        if self._closed:
            raise busy("the server is shutting down")
        if not self._idle and len(self._waiting) >= self.places:
            raise busy(f"{self.places} requests are waiting already")

    async def run(self, work: Callable[[Tool, Stop], Result]) -> Result:
        """Run `work` in the next idle worker's thread. Cancellation ends the wait, or tells it to stop.

        Raises:
            Refused: 503; no place, or the pool was closed.
        """
        seat = await self._take()
        stop = seat.stop = Stop()
        loop = asyncio.get_running_loop()
        done = asyncio.wrap_future(seat.thread.submit(work, seat.tool, stop), loop=loop)
        done.add_done_callback(lambda ended: self._end(seat, ended))
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            stop.set()
            raise

    def close(self) -> None:
        """Refuse requests that wait, and further ones; work that has begun goes on."""
        self._closed = True
        while self._waiting:
            self._waiting.popleft().set_exception(busy("the server is shutting down"))

    def stop(self) -> None:
        """Tell all work to stop."""
        self.close()
        for seat in self._seats:
            seat.stop.set()
            seat.thread.stop()

    async def _take(self) -> _Seat[Tool]:
        self.check()
        if self._idle:
            return self._idle.pop(0)
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif turn.done() and not turn.cancelled() and turn.exception() is None:
                self._give(turn.result())
            raise

    def _give(self, seat: _Seat[Tool]) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(seat)
                return
        self._idle.append(seat)

    def _end(self, seat: _Seat[Tool], ended: asyncio.Future) -> None:
        # Looked at, so that asyncio does not report the error of stopped work as lost.
        if not ended.cancelled():
            ended.exception()
        self._give(seat)


class Admission:
    """Count of the requests that are inside, at most `most`."""

    def __init__(self, most: int):
        self.most = most
        self.inside = 0

    def __enter__(self) -> None:
        if self.inside >= self.most:
            raise busy(f"{self.most} requests are being served already")
        self.inside += 1

    def __exit__(self, *_: object) -> None:
        self.inside -= 1
