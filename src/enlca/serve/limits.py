"""The limits of a server, and the exception of a request that exceeds them or is wrong."""

import errno
from dataclasses import dataclass

from enlca.errors import EnlcaError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a client may ask for.

    Attributes:
        max_pixels: of a picture, by its header; a result may have 16 times as many.
        max_body: bytes of a request's body.
        queue: requests that wait for a worker; further ones are answered 503.
        admitted: requests from their first byte to the last byte of their response, beside those that wait
            or are computed: uploads and downloads.
        timeout: seconds from the end of the upload to the result, waiting included.
    """

    max_pixels: int = 1 << 24
    max_body: int = 1 << 26
    queue: int = 16
    admitted: int = 32
    timeout: float = 300.0

    @property
    def max_result(self) -> int:
        """Pixels of a result: those of the largest picture at x4, the largest scale."""
        return 16 * self.max_pixels


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How slow a client may be.

    Attributes:
        headers: seconds for the head of a request.
        body: seconds for its body, beside the time that its bytes take at `rate`.
        rate: bytes per second of a body.
        stalled: seconds in which a client does not take the block of its response that is being sent.
        connections: open at a time; further ones are closed at once.
    """

    headers: float = 10.0
    body: float = 20.0
    rate: float = 8192.0
    stalled: float = 30.0
    connections: int = 512


class Refused(EnlcaError):
    """A request that is answered by a status and a line.

    Attributes:
        status: of the response.
        retry_after: seconds after which the client may try again; None: not at all.
    """

    def __init__(self, status: int, message: str, *, retry_after: int | None = None):
        super().__init__(message)
        self.status, self.retry_after = status, retry_after


class ClientLeft(EnlcaError):
    """The client closed its connection: there is no response to send."""


def busy(message: str) -> Refused:
    """Return the refusal of a request that may be sent again a little later."""
    return Refused(503, f"{message}; try again later", retry_after=2)


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it was raised from, says that the disk or a quota of it is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__
    return False
