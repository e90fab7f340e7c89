"""uvicorn, set up for our application: quiet, patient within limits, and with an orderly end."""

import asyncio
import math
import socket
from collections.abc import Callable

import uvicorn

from enlca.serve.app import Service
from enlca.serve.connection import patient

# Seconds that a connection without a request stays open.
KEEP_ALIVE = 5


class Running(uvicorn.Server):
    """A server that says when it listens, and that refuses waiting requests when it ends.

    Args:
        service: what is served.
        listener: where; it is closed at the end.
        on_ready: called when it listens.
    """

    def __init__(self, service: Service, listener: socket.socket, *, on_ready: Callable[[], None]):
        config = uvicorn.Config(
            service.application(),
            http=patient(service.patience),
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=math.ceil(service.limits.timeout),
        )
        super().__init__(config)
        self.service, self.listener, self.on_ready = service, listener, on_ready

    def __call__(self) -> None:
        """Serve until a signal comes or `should_exit` is set."""
        asyncio.run(self.serve(sockets=[self.listener]))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        self.on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuse the requests in the queue, finish those at work, close all connections."""
        self.service.pool.close()
        await super().shutdown(sockets)
