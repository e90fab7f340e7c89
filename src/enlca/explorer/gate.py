"""The gate before Gradio: only the requests that the page itself makes pass, within limits.

Gradio has many more routes than the page needs, accepts the path of any file in its folder as an upload, and
downloads paths like `https://...`. So every request is checked here first.
"""

import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Never

from enlca.explorer.session import Visitors
from enlca.explorer.uploads import MAX_FILES, Uploads

API = "/gradio_api"
# What the page fetches beside its results; those that end in "/" are folders.
READ = {
    *("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt"),
    *("/static/", "/assets/", "/svelte/"),
    *(f"{API}/info", f"{API}/theme.css", f"{API}/startup-events", f"{API}/app_id", f"{API}/login_check"),
    *(f"{API}/queue/data", f"{API}/upload_progress", f"{API}/heartbeat/"),
}
ASKED = {f"{API}/queue/join", f"{API}/run/", f"{API}/cancel", f"{API}/reset"}
RESULT, UPLOAD = f"{API}/file=", f"{API}/upload"
# Browsers load things for this page from this server only. Gradio needs inline scripts and `eval`.
POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; frame-ancestors 'self'; base-uri 'self'; "
    "form-action 'self'"
)
# Bytes of a request, which holds the values of a dozen components; and of what surrounds an uploaded file.
LARGEST_REQUEST, ENVELOPE = 1 << 18, 1 << 16
# Uploads that are received at the same time.
RECEIVING = 16
LONGEST_SESSION, LONGEST_ADDRESS = 64, 4096

Receive = Callable[[], Awaitable[Any]]


class _Refused(Exception):
    """A request that must not reach Gradio.

    Args:
        status: of the HTTP response.
        reason: its body.
    """

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status = status


class Gate:
    """ASGI middleware before Gradio's own application.

    Args:
        app: the application.
        uploads: receives the files that visitors send.
        visitors: their results may be fetched.
        largest: limit of an uploaded file, in bytes.
    """

    def __init__(self, app: Any, *, uploads: Uploads, visitors: Visitors, largest: int):
        self.app = app
        self.uploads = uploads
        self.visitors = visitors
        self.largest = largest
        self._receiving = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request, or pass it to Gradio."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})

        async def with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", POLICY.encode())]
            await send(message)

        from starlette.responses import PlainTextResponse

        try:
            answer, receive = await self._admitted(scope, receive)
        except _Refused as refused:
            answer = PlainTextResponse(str(refused), status_code=refused.status)
        return await (answer or self.app)(scope, receive, with_policy)

    async def _admitted(self, scope: Any, receive: Receive) -> tuple[Any, Receive]:
        """Return our own response, or None, and the `receive` for Gradio. Raises _Refused."""
        method, path = scope["method"], scope["path"]
        if len(path) + len(scope["query_string"]) > LONGEST_ADDRESS:
            raise _Refused(414, "address too long")
        if method in ("GET", "HEAD"):
            if path.startswith(RESULT):
                file = path.removeprefix(RESULT)
                if not self.visitors.may_fetch(file):
                    raise _Refused(403 if os.path.isabs(file) else 404, "not a result of a visitor")
            elif not _is_one_of(path, READ):
                raise _Refused(404, "not found")
            return None, receive
        if method != "POST" or not (path == UPLOAD or _is_one_of(path, ASKED)):
            raise _Refused(404, "not found")
        # A page of another site, in a browser that can reach this server.
        if dict(scope["headers"]).get(b"sec-fetch-site", b"same-origin") not in (b"same-origin", b"none"):
            raise _Refused(403, "requests come from the page itself")
        if path == UPLOAD:
            return await self._uploaded(scope, receive), receive
        fields = self._checked(await _whole(receive, LARGEST_REQUEST))
        # Encoded again, so that Gradio cannot parse the original bytes differently.
        return None, _replayed(json.dumps(fields).encode(), receive)

    def _checked(self, body: bytes) -> dict[str, Any]:
        """Parse a request body and check that our page could have sent it. Raises _Refused."""
        try:
            fields = json.loads(body or b"{}", parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            raise _Refused(400, "not JSON") from error
        if not isinstance(fields, dict):
            raise _Refused(400, "not a request of the page")
        session = fields.get("session_hash")
        if "data" in fields and not (isinstance(session, str) and 0 < len(session) <= LONGEST_SESSION):
            raise _Refused(400, "a request names the session of its page")
        for value in _dicts_in(fields):
            if value.get("is_stream") or ("path" in value and value["path"] not in self.uploads):
                raise _Refused(403, "not an upload of this page")
        return fields

    async def _uploaded(self, scope: Any, receive: Receive) -> Any:
        """Receive files, each into a folder of its own, which is deleted if anything fails.

        Raises:
            _Refused: too large, too many at once, no file or too many, or not an upload.
        """
        from gradio.route_utils import upload_fn
        from gradio.routes import file_upload_statuses
        from starlette.exceptions import HTTPException
        from starlette.formparsers import MultiPartException
        from starlette.requests import ClientDisconnect, Request
        from starlette.responses import JSONResponse

        if self._receiving >= RECEIVING:
            raise _Refused(503, "too many uploads at once; try again")
        self._receiving += 1
        folder, kept = self.uploads.folder(), False
        request = Request(scope, _at_most(receive, self.largest + ENVELOPE))
        number = request.query_params.get("upload_id")
        try:
            paths, *_ = await upload_fn(
                request,
                str(folder.path),
                self.largest,
                number,
                upload_progress=file_upload_statuses if number else None,
            )
            if not 1 <= len(paths) <= MAX_FILES:
                raise _Refused(400, f"1 to {MAX_FILES} pictures at a time")
            if len(paths) == 1:
                self.uploads.add(Path(paths[0]), folder)
                kept = True
            else:
                # What was received belongs to `folder`, which goes.
                apart = [self.uploads.apart(Path(path)) for path in paths]
                for path, own in apart:
                    self.uploads.add(path, own)
                paths = [str(path) for path, _ in apart]
            # Gradio deletes the files of this set after an hour.
            scope["app"].get_blocks().upload_file_set.update(paths)
            return JSONResponse([str(path) for path in paths])
        except MultiPartException as error:
            raise _Refused(413 if "maximum allowed size" in error.message else 400, error.message) from error
        except ClientDisconnect as error:
            raise _Refused(400, "the upload ended early") from error
        except (HTTPException, OSError, TypeError, ValueError) as error:
            raise _Refused(400, "not an upload") from error
        finally:
            self._receiving -= 1
            if not kept:
                folder.remove()


def _is_one_of(path: str, known: set[str]) -> bool:
    """Return whether a path is listed, or below a listed folder."""
    return path in known or any(path.startswith(one) for one in known if one.endswith("/") and one != "/")


def _no_number(word: str) -> Never:
    raise ValueError(f"{word} is not a number in JSON")


def _dicts_in(value: Any) -> list[dict[str, Any]]:
    """Return all JSON objects inside a value, itself included."""
    found, open_ = [], [value]
    while open_:
        value = open_.pop()
        if isinstance(value, dict):
            found.append(value)
            open_ += value.values()
        elif isinstance(value, list):
            open_ += value
    return found


async def _whole(receive: Receive, most: int) -> bytes:
    """Read the body of a request. Raises _Refused: more than `most` bytes."""
    body, limited = bytearray(), _at_most(receive, most)
    while True:
        message = await limited()
        if message["type"] == "http.disconnect":
            raise _Refused(400, "the request ended early")
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(body)


def _at_most(receive: Receive, most: int) -> Receive:
    """Wrap `receive` to count bytes. Raises _Refused beyond `most`."""
    received = 0

    async def counted() -> Any:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > most:
            raise _Refused(413, f"more than {most} bytes")
        return message

    return counted


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that delivers this body first."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def deliver() -> Any:
        return messages.pop() if messages else await receive()

    return deliver
