"""Counters of a server in the text format of Prometheus (version 0.0.4)."""

from collections import Counter
from collections.abc import Iterator

import psutil

# Upper bounds in seconds.
BUCKETS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """What has happened so far. Used by the event loop's thread only."""

    def __init__(self) -> None:
        self.responses: Counter[str] = Counter()
        self.seconds = [0] * len(BUCKETS)
        self.total_seconds = 0.0
        self.pictures = self.pixels = self.received = self.sent = self.left = 0

    def add_picture(self, seconds: float, pixels: int) -> None:
        """Count an upscaled picture: seconds of waiting and computing, pixels of the result."""
        self.pictures += 1
        self.pixels += pixels
        self.total_seconds += seconds
        for number, bound in enumerate(BUCKETS):
            self.seconds[number] += seconds <= bound

    def text(self, *, waiting: int, working: int, workers: int) -> str:
        """Return the exposition."""
        return "\n".join(self._lines(waiting, working, workers)) + "\n"

    def _lines(self, waiting: int, working: int, workers: int) -> Iterator[str]:
        yield from _head("enlca_responses_total", "counter", "Responses to POST /v1/upscale by status.")
        for status, count in sorted(self.responses.items()):
            yield f'enlca_responses_total{{status="{status}"}} {count}'
        name = "enlca_upscale_seconds"
        yield from _head(name, "histogram", "Waiting and computing, of pictures that were upscaled.")
        for bound, count in zip(BUCKETS, self.seconds, strict=True):
            yield f'{name}_bucket{{le="{bound}"}} {count}'
        yield f'{name}_bucket{{le="+Inf"}} {self.pictures}'
        yield f"{name}_sum {self.total_seconds:.6f}"
        yield f"{name}_count {self.pictures}"
        memory = psutil.Process().memory_info().rss
        for name, kind, text, value in (
            ("enlca_pixels_total", "counter", "Pixels of all results.", self.pixels),
            ("enlca_received_bytes_total", "counter", "Bytes of bodies.", self.received),
            ("enlca_sent_bytes_total", "counter", "Bytes of results.", self.sent),
            ("enlca_clients_left_total", "counter", "Clients that left before their response.", self.left),
            ("enlca_waiting", "gauge", "Requests that wait for a worker.", waiting),
            ("enlca_working", "gauge", "Workers at work.", working),
            ("enlca_workers", "gauge", "Workers, one per device.", workers),
            ("process_resident_memory_bytes", "gauge", "Resident memory.", memory),
        ):
            yield from _head(name, kind, text)
            yield f"{name} {value}"


def _head(name: str, kind: str, text: str) -> tuple[str, str]:
    return f"# HELP {name} {text}", f"# TYPE {name} {kind}"
