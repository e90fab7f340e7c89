"""What may reach Gradio: the requests that the page itself makes, within limits, and nothing else.

Gradio has many more routes than a page needs, takes the path of any file in its folder for an upload, and
downloads what a path names as `https://...`. So every request passes here first.
"""

import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Never

from enlca.explorer.session import Visitors
from enlca.explorer.uploads import Uploads

API = "/gradio_api"
# What the page asks for, beside its results; those that end in "/" are folders.
READ = {
    *("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt"),
    *("/static/", "/assets/", "/svelte/"),
    *(f"{API}/info", f"{API}/theme.css", f"{API}/startup-events", f"{API}/app_id", f"{API}/login_check"),
    *(f"{API}/queue/data", f"{API}/upload_progress", f"{API}/heartbeat/"),
}
ASKED = {f"{API}/queue/join", f"{API}/run/", f"{API}/cancel", f"{API}/reset"}
RESULT, UPLOAD = f"{API}/file=", f"{API}/upload"
# Browsers load nothing for this page but from this page. Gradio needs inline scripts and `eval`.
POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; frame-ancestors 'self'; base-uri 'self'; "
    "form-action 'self'"
)
# Bytes of a question, which holds the values of a dozen components; and of what surrounds an uploaded file.
LARGEST_QUESTION, ENVELOPE = 1 << 18, 1 << 16
# Uploads that are received at once.
RECEIVING = 16
LONGEST_SESSION, LONGEST_ADDRESS = 64, 4096

Receive = Callable[[], Awaitable[Any]]


class _Refused(Exception):
    """The answer to a request that goes no further.

    Args:
        status: HTTP's number.
        reason: a few words.
    """

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status = status


class Gate:
    """ASGI middleware before Gradio's own application.

    Args:
        app: the application.
        uploads: receives what visitors send.
        visitors: whose results may be fetched.
        largest: bytes that an uploaded file may have.
    """

    def __init__(self, app: Any, *, uploads: Uploads, visitors: Visitors, largest: int):
        self.app = app
        self.uploads = uploads
        self.visitors = visitors
        self.largest = largest
        self._receiving = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request, or let Gradio answer it."""
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
        """Our own answer, or None and the body for Gradio. Raises _Refused."""
        method, path = scope["method"], scope["path"]
        if len(path) + len(scope["query_string"]) > LONGEST_ADDRESS:
            raise _Refused(414, "too long an address")
        if method in ("GET", "HEAD"):
            if path.startswith(RESULT):
                file = path.removeprefix(RESULT)
                if not self.visitors.may_fetch(file):
                    raise _Refused(403 if os.path.isabs(file) else 404, "no result of a visitor")
            elif not _is_one_of(path, READ):
                raise _Refused(404, "not here")
            return None, receive
        if method != "POST" or not (path == UPLOAD or _is_one_of(path, ASKED)):
            raise _Refused(404, "not here")
        # Another site's page, in a browser that can reach this one.
        if dict(scope["headers"]).get(b"sec-fetch-site", b"same-origin") not in (b"same-origin", b"none"):
            raise _Refused(403, "ask from the page itself")
        if path == UPLOAD:
            return await self._uploaded(scope, receive), receive
        question = self._checked(await _whole(receive, LARGEST_QUESTION))
        # Written anew, so that Gradio cannot understand other bytes in another way.
        return None, _again(json.dumps(question).encode(), receive)

    def _checked(self, body: bytes) -> dict[str, Any]:
        """The JSON of a question, if a page of ours could have sent it. Raises _Refused."""
        try:
            question = json.loads(body or b"{}", parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            raise _Refused(400, "not JSON") from error
        if not isinstance(question, dict):
            raise _Refused(400, "not a question of the page")
        session = question.get("session_hash")
        if "data" in question and not (isinstance(session, str) and 0 < len(session) <= LONGEST_SESSION):
            raise _Refused(400, "a question says the session of its page")
        for value in _dicts_in(question):
            if value.get("is_stream") or ("path" in value and value["path"] not in self.uploads):
                raise _Refused(403, "not an upload of this page")
        return question

    async def _uploaded(self, scope: Any, receive: Receive) -> Any:
        """Receive files, each request into a folder of its own, which is gone if anything goes wrong.

        Raises:
            _Refused: too large, too many at once, not one file, or not an upload at all.
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
            if len(paths) != 1:
                raise _Refused(400, "one picture at a time")
            self.uploads.add(Path(paths[0]), folder)
            kept = True
            # Gradio deletes what is in here after an hour.
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
    """Whether a path is listed, or below a listed folder."""
    return path in known or any(path.startswith(one) for one in known if one.endswith("/") and one != "/")


def _no_number(word: str) -> Never:
    raise ValueError(f"{word} is no number of JSON")


def _dicts_in(value: Any) -> list[dict[str, Any]]:
    """All JSON objects inside a value, itself included."""
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
    """The body of a request. Raises _Refused: more than `most` bytes."""
    body, limited = bytearray(), _at_most(receive, most)
    while True:
        message = await limited()
        if message["type"] == "http.disconnect":
            raise _Refused(400, "the question ended early")
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(body)


def _at_most(receive: Receive, most: int) -> Receive:
    """`receive` that counts bytes. Raises _Refused beyond `most`."""
    received = 0

    async def counted() -> Any:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > most:
            raise _Refused(413, f"more than {most} bytes")
        return message

    return counted


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` for a body that has been read."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Any:
        return messages.pop() if messages else await receive()

    return replayed
