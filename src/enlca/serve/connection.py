"""uvicorn's connection with the time limits that it lacks: for heads of requests, and for slow readers."""

import asyncio
from typing import ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

from enlca.serve.limits import Patience


class Connection(H11Protocol):
    """One connection; closed when a request's head, or the reading of a response, takes too long."""

    patience: ClassVar[Patience] = Patience()
    _head: asyncio.TimerHandle | None = None
    _reader: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect a request."""
        super().connection_made(transport)
        # So that `pause_writing` tells of every byte that waits for the client, the last ones, too.
        transport.set_write_buffer_limits(high=0)
        if len(self.connections) > self.patience.connections:
            transport.abort()
            return
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        self._head, self._reader = _cancelled(self._head), _cancelled(self._reader)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse a part of a request."""
        if self._head is None and not self._is_busy():
            self._expect_head()
        super().data_received(data)
        if self._is_busy():
            self._head = _cancelled(self._head)

    def pause_writing(self) -> None:
        """Expect the client to read."""
        super().pause_writing()
        if self._reader is None:
            self._reader = self.loop.call_later(self.patience.stalled, self.transport.abort)

    def resume_writing(self) -> None:
        """Note that the client has read."""
        self._reader = _cancelled(self._reader)
        super().resume_writing()

    def _is_busy(self) -> bool:
        """Whether a request is being received or answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def _expect_head(self) -> None:
        self._head = self.loop.call_later(self.patience.headers, self._give_up)

    def _give_up(self) -> None:
        if not self._is_busy():
            self.transport.abort()


def patient(patience: Patience) -> type[Connection]:
    """Return the class of connections with these limits."""
    return type("PatientConnection", (Connection,), {"patience": patience})


def _cancelled(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
