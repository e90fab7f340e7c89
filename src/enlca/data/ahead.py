"""Work done ahead of its use by a few threads: results in order, few of them in memory."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

# libvips and numpy let go of Python's lock for most of the work on a picture.
THREADS = min(4, os.cpu_count() or 1)

Item = TypeVar("Item")
Result = TypeVar("Result")


def read_ahead(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[tuple[Item, Result]]:
    """Each item with `function(item)`; what that raises is raised when its turn has come."""
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="enlca-data")
    ahead: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in items:
            ahead.append((item, pool.submit(function, item)))
            if len(ahead) > THREADS:
                first, future = ahead.popleft()
                yield first, future.result()
        while ahead:
            first, future = ahead.popleft()
            yield first, future.result()
    finally:
        # Whoever stops listening does not wait for what was queued.
        pool.shutdown(cancel_futures=True)
