"""Servers in a thread, clients that speak HTTP byte by byte, and pictures."""

import http.client
import io
import json
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from enlca.image.source import Source
from enlca.inference.jobs import Sink
from enlca.serve.engine import Engine
from enlca.serve.pool import Stop
from enlca.serve.running import Running
from enlca.serve.server import prepared
from enlca.serve.wanted import Wanted


class Answer(NamedTuple):
    """A response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> str:
        """The line of a failure."""
        return json.loads(self.body)["error"]


class Served:
    """A server that runs, and requests to it."""

    def __init__(self, address: str, running: Running):
        self.address, self.running = address, running
        self.host, self.port = urlsplit(address).hostname, urlsplit(address).port
        self.service = running.service

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, None, headers)

    def post(self, body: Any, query: str = "", **headers: str) -> Answer:
        return self.ask("POST", f"/v1/upscale?{query}", body, headers)

    def ask(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Answer:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=20)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, body, names)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        finally:
            connection.close()

    def connect(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=20)

    def send_head(self, body: bytes, *, length: int | None = None) -> socket.socket:
        """Open a connection and send a request whose body may be shorter than it says."""
        client = self.connect()
        size = len(body) if length is None else length
        client.sendall(b"POST /v1/upscale HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size + body)
        return client


class Held(Engine):
    """An engine whose work goes on until it is released or stopped."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.released = threading.Event()
        self.stopped = 0

    def upscale(self, source: Source, target: Sink, wanted: Wanted, stop: Stop) -> tuple[int, int, None]:
        self.begun.release()
        try:
            while not self.released.wait(0.01):
                stop.check()
        except BaseException:
            self.stopped += 1
            raise
        target.file.write(source.read_at(0))
        return 1, 1, None


@contextmanager
def _running(model: Path, **settings: Any) -> Iterator[Served]:
    addresses: list[str] = []
    ready = threading.Event()

    def on_ready(address: str) -> None:
        addresses.append(address)
        ready.set()

    with prepared(on_ready, models=[str(model)], devices=["cpu"], **settings) as running:
        thread = threading.Thread(target=running)
        thread.start()
        assert ready.wait(10)
        try:
            yield Served(addresses[0], running)
        finally:
            running.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


@pytest.fixture(scope="session")
def running_server(tiny_model) -> Callable[..., AbstractContextManager[Served]]:
    """Contexts of servers of the tiny model with the settings given."""
    return partial(_running, tiny_model)


@pytest.fixture
def start(running_server) -> Iterator[Callable[..., Served]]:
    """Starts servers with the settings given; all end with the test."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(running_server(**settings))


@pytest.fixture(scope="module")
def served(running_server) -> Iterator[Served]:
    """A server with the default limits."""
    with running_server() as one:
        yield one


@pytest.fixture
def hold(start) -> Callable[..., tuple[Served, Held]]:
    """Starts a server whose only worker is held at work."""

    def begin(**settings: Any) -> tuple[Served, Held]:
        one, engine = start(**settings), Held()
        [seat] = one.service.pool._seats
        seat.tool = engine
        return one, engine

    return begin


@pytest.fixture
def scratch(tmp_path, monkeypatch) -> Path:
    """The folder of temporary files, empty."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture(scope="session")
def png() -> bytes:
    """13 x 7 pixels of noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (7, 13, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def eventually() -> Callable[..., bool]:
    """Whether a condition becomes true within some seconds."""

    def wait(holds: Callable[[], bool], *, within: float = 2.0) -> bool:
        end = time.monotonic() + within
        while not holds():
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        return True

    return wait
