"""The body of a request, raw or multipart, into a file: counted, timed, and cut off beyond its limits."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import IO, Any

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from enlca.serve.limits import ClientLeft, Patience, Refused

Receive = Callable[[], Awaitable[Any]]
_BLOCK = 1 << 16


async def save_body(
    headers: Headers, receive: Receive, file: IO[bytes], *, max_body: int, patience: Patience
) -> int:
    """Write the picture of a request to an open file; return the bytes of its body.

    A body of type multipart/form-data holds one file, whose name is ignored; any other is the picture itself,
    whatever type it claims: its content decides.

    Raises:
        Refused: 400, a malformed body; 408, too slow; 413, too large; 415, compressed.
        ClientLeft: the connection was closed.
    """
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(415, "send the picture's file as it is, without Content-Encoding")
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > max_body:
        raise _too_large(max_body)
    body = _Body(receive, max_body, patience)
    if headers.get("content-type", "").lower().startswith("multipart/form-data"):
        await _save_part(headers, body.chunks(), file)
    else:
        async for chunk in body.chunks():
            file.write(chunk)
    return body.received


class _Body:
    """The chunks of a body, counted and timed."""

    def __init__(self, receive: Receive, most: int, patience: Patience):
        self.receive, self.most, self.patience = receive, most, patience
        self.received = 0

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the chunks. Raises as `save_body`."""
        started, more = time.monotonic(), True
        while more:
            left = started + self.patience.body + self.received / self.patience.rate - time.monotonic()
            try:
                async with asyncio.timeout(max(0.0, left)):
                    message = await self.receive()
            except TimeoutError as error:
                raise Refused(408, "the request's body comes too slowly") from error
            if message["type"] == "http.disconnect":
                raise ClientLeft("the connection was closed")
            chunk, more = message.get("body", b""), message.get("more_body", False)
            self.received += len(chunk)
            if self.received > self.most:
                raise _too_large(self.most)
            yield chunk


async def _save_part(headers: Headers, chunks: AsyncGenerator[bytes, None], file: IO[bytes]) -> None:
    """Write the one file of a multipart body."""
    try:
        form = await MultiPartParser(headers, chunks, max_files=1, max_fields=0).parse()
    except MultiPartException as error:
        raise Refused(400, f"not one picture in multipart/form-data: {error.message}") from error
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        raise Refused(400, "malformed multipart/form-data") from error
    uploads = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    try:
        if len(uploads) != 1:
            raise Refused(400, "multipart/form-data must hold one file, the picture")
        while block := await uploads[0].read(_BLOCK):
            file.write(block)
    finally:
        for upload in uploads:
            await upload.close()


def _too_large(max_body: int) -> Refused:
    return Refused(413, f"the request's body has more than {max_body} bytes, the limit of this server")
