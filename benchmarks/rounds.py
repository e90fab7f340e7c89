"""Works timed in turn, round after round, so that a slow moment of the machine hits all of them."""

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from enlca.checkpoint.store import bundled, load
from enlca.network.sr import SRNetwork
from enlca.network.zoo import NETWORKS

SCALE = 4
# Threads of one runtime spin for a moment after their work; the next one should not wait for them.
PAUSE = 0.02
STAT = Path("/proc/stat")


def network_called(name: str) -> SRNetwork:
    """The bundled weights, else random ones: speed does not depend on them."""
    if any(item.name == name and item.scale == SCALE for item in bundled()):
        return load(name, scale=SCALE)
    torch.manual_seed(1)
    return NETWORKS[name](SCALE).eval()


def seconds_of(works: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each work in each round; a round before the first warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds + 1):
        for name, work in works.items():
            time.sleep(PAUSE)
            started = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - started)
    return {name: values[1:] for name, values in seconds.items()}


def busy() -> tuple[float, float] | None:
    """Seconds that all processors were at work, and were there; None where the system does not tell."""
    if not STAT.exists():
        return None
    user, nice, system, idle, waiting, *more = map(float, STAT.read_text().split("\n")[0].split()[1:])
    working = user + nice + system + sum(more[:3])
    ticks = os.sysconf("SC_CLK_TCK")
    return working / ticks, (working + idle + waiting) / ticks


class Company:
    """How much of the processors other programs took while `with` lasted: above 0.05, measure again."""

    def __enter__(self) -> "Company":
        self._before, self._own = busy(), sum(os.times()[:4])
        return self

    def __exit__(self, *_: object) -> None:
        self.share: float | str = "unknown"
        after = busy()
        if after and self._before:
            (worked, there), own = (b - a for a, b in zip(self._before, after, strict=True)), self._own
            self.share = round(max(0.0, worked - (sum(os.times()[:4]) - own)) / there, 2)


def median_ratio(values: list[float], others: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(values, others, strict=True)), 3)


def milliseconds(values: list[float]) -> float:
    return round(1000 * statistics.median(values), 1)
