"""The application: routes, and one request from its head to the last byte of its response."""

import asyncio
import hmac
import logging
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from tempfile import TemporaryFile
from typing import IO, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from enlca.errors import Stopped
from enlca.image.source import Source
from enlca.inference.jobs import Sink
from enlca.serve import openapi
from enlca.serve.engine import Engine, Model, check_picture
from enlca.serve.intake import save_body
from enlca.serve.limits import ClientLeft, Limits, Patience, Refused, is_disk_full
from enlca.serve.metrics import MEDIA_TYPE, Metrics
from enlca.serve.pool import Admission, Pool, Stop
from enlca.serve.wanted import FORMATS, Wanted, parse

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
log = logging.getLogger("enlca.serve")
_BLOCK = 1 << 16


@dataclass
class Service:
    """What the routes share.

    Attributes:
        models: by the name that clients give; the first is the default.
        pool: an engine per device.
        limits, patience: of each request.
        token: what clients must know; None: nothing.
    """

    models: dict[str, Model]
    pool: Pool[Engine]
    limits: Limits
    patience: Patience = field(default_factory=Patience)
    token: str | None = None
    counts: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        """Make the count of requests that are inside."""
        self.admission = Admission(self.limits.admitted + self.limits.queue + self.pool.size)

    def authorise(self, request: Request) -> None:
        """Raise Refused (401) without the token, if there is one."""
        given = request.headers.get("authorization", "")
        if self.token and not hmac.compare_digest(given.encode(), f"Bearer {self.token}".encode()):
            raise Refused(401, "send the token of this server: Authorization: Bearer TOKEN")

    def application(self) -> Starlette:
        """Return the ASGI application."""
        described = openapi.described(self.models, self.limits, has_token=bool(self.token))
        page = openapi.page(described)

        async def models(request: Request) -> Response:
            self.authorise(request)
            facts = [{"name": model.name, "scales": model.scales} for model in self.models.values()]
            return JSONResponse({"models": facts, "default": next(iter(self.models))})

        async def measured(request: Request) -> Response:
            self.authorise(request)
            pool = self.pool
            text = self.counts.text(waiting=pool.waiting, working=pool.working, workers=pool.size)
            return PlainTextResponse(text, media_type=MEDIA_TYPE)

        async def health(request: Request) -> Response:
            return JSONResponse({"status": "ok", "waiting": self.pool.waiting, "working": self.pool.working})

        async def schema(request: Request) -> Response:
            return JSONResponse(described)

        async def docs(request: Request) -> Response:
            return HTMLResponse(page, headers={"content-security-policy": openapi.POLICY})

        async def start(request: Request) -> Response:
            return RedirectResponse("/docs")

        routes = [
            Route("/", start),
            Route("/healthz", health),
            Route("/metrics", measured),
            Route("/v1/models", models),
            Route("/v1/upscale", Upscale(self), methods=["POST"]),
            Route("/openapi.json", schema),
            Route("/docs", docs),
        ]
        return Starlette(routes=routes, exception_handlers={Refused: _refused, HTTPException: _no_route})


class Upscale:
    """The endpoint `POST /v1/upscale`, an ASGI application."""

    def __init__(self, service: Service):
        self.service = service

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer one request. A failure is one line in JSON; a client that left gets nothing."""
        counts, status = self.service.counts, "left"

        async def counted(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self._answer(Request(scope, receive), counted)
        except Refused as error:
            await answer(error)(scope, receive, counted)
        except (ClientLeft, Stopped):
            counts.left += 1
        except Exception as error:
            refused = Refused(507, "the server's disk is full")
            # Here, as closing a temporary file may fail once more, after whatever was raised in between.
            if not is_disk_full(error):
                log.exception("an upscale failed")
                refused = Refused(500, "internal error; the server's log says more")
            await answer(refused)(scope, receive, counted)
        finally:
            counts.responses[status] += 1

    async def _answer(self, request: Request, send: Send) -> None:
        service = self.service
        service.authorise(request)
        # A page of another site, in a browser that can reach this server.
        if request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            raise Refused(403, "pages of other sites may not use this server")
        wanted = parse(request.query_params.multi_items(), _scales(service.models))
        service.pool.check()
        # Without names: whatever ends first, the request, its work or the server, nothing is left of them.
        with service.admission, TemporaryFile() as given, TemporaryFile() as made:
            limits, patience = service.limits, service.patience
            received = await save_body(
                request.headers, request.receive, given, max_body=limits.max_body, patience=patience
            )
            # Not `counts.received += await ...`, which would add to the count of before the wait.
            service.counts.received += received
            given.seek(0)
            source, target = Source.of(given, name="picture"), Sink(made, f"result.{wanted.format}")
            scales = service.models[wanted.model].scales
            await asyncio.to_thread(check_picture, source, target, wanted, scales, limits)
            begun = time.monotonic()
            width, height, remark = await self._upscaled(request, source, target, wanted)
            service.counts.add_picture(time.monotonic() - begun, width * height)
            sent = await _send_file(send, made, FORMATS[wanted.format], remark)
            service.counts.sent += sent

    async def _upscaled(
        self, request: Request, source: Source, target: Sink, wanted: Wanted
    ) -> tuple[int, int, str | None]:
        """Wait for a worker and its result, no longer than the client does. Raises Refused, ClientLeft."""

        def work(engine: Engine, stop: Stop) -> tuple[int, int, str | None]:
            return engine.upscale(source, target, wanted, stop)

        limit = self.service.limits.timeout
        job = asyncio.ensure_future(self.service.pool.run(work))
        leaving = asyncio.ensure_future(_client_left(request))
        try:
            await asyncio.wait((job, leaving), timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if job.done():
                return job.result()
            if leaving.done():
                raise ClientLeft("the connection was closed")
            raise Refused(504, f"not done within {limit:g} s, which is this server's limit")
        finally:
            for task in (job, leaving):
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task


async def _client_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _send_file(send: Send, file: IO[bytes], media_type: str, remark: str | None) -> int:
    """Send a finished file block by block; return its bytes."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    headers = [(b"content-type", media_type.encode()), (b"content-length", b"%d" % size)]
    headers.append((b"x-content-type-options", b"nosniff"))
    if remark:
        headers.append((b"x-enlca-remark", ascii(remark)[1:-1].encode()))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    while block := await asyncio.to_thread(file.read, _BLOCK):
        await send({"type": "http.response.body", "body": block, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
    return size


def answer(error: Refused) -> JSONResponse:
    """Return the response to a refused request; the connection closes, with what is unread of its body."""
    headers = {"connection": "close"}
    if error.retry_after is not None:
        headers["retry-after"] = str(error.retry_after)
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse({"error": str(error)}, status_code=error.status, headers=headers)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return answer(error)


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    refused = Refused(error.status_code, f"{error.detail}; see /docs")
    response = answer(refused)
    response.headers.update(error.headers or {})
    return response


def _scales(models: dict[str, Model]) -> dict[str, tuple[int, ...]]:
    return {name: model.scales for name, model in models.items()}
