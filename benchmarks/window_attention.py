"""Time of attention inside windows over the size of a picture, beside ENLA, exact attention, a convolution.

    python -m benchmarks.run window_attention [--rounds 9] [--quick]

q and k of 16 channels, values of 48 (those of `enlcn-light`), windows of 8 with a halo of 4, m = 128,
float32, without gradients, processor time of one thread, which other programs hardly change. Rounds run all
methods one after the other; times are medians, ratios medians of the ratios within a round. A method takes
part in no more rounds after five seconds; exact attention in none beyond 512 x 512.

Writes `window_attention.csv`, and `window_attention_aims.csv` with the exponents of time over the number of
positions. `--quick` is a smoke test with small sizes, and writes nothing.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.attention_speed import exponent, ratio, timed
from benchmarks.report import publish, show
from enlca.attention.block import Embed
from enlca.attention.exact import ExactAttend, dense_attention
from enlca.attention.linear import LinearAttend
from enlca.attention.window import WindowAttend

CHANNELS, DIM, K = 48, 16, 24.0
SIDES = (100, 128, 178, 316, 512, 1000)
LARGEST_EXACT = 512
Rows = list[dict[str, Any]]


def works(side: int) -> dict[str, Callable[[], Any]]:
    torch.manual_seed(1)
    x = torch.randn(1, CHANNELS, side, side).contiguous(memory_format=torch.channels_last)
    q, k, v = Embed(CHANNELS, DIM, amplification=K, kernel_size=3)(x)
    conv = torch.nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
    window, enla, exact = WindowAttend(), LinearAttend(DIM, n_features=128), ExactAttend()
    found: dict[str, Callable[[], Any]] = {
        "window": lambda: window(q, k, v, width=side),
        "enla": lambda: enla(q, k, v),
        "conv3x3": lambda: conv(x),
    }
    return found if side > LARGEST_EXACT else {**found, "exact": lambda: exact(q, k, v)}


def check() -> None:
    """Check that one window over all of a picture is exact attention.

    Raises:
        RuntimeError: if it is not.
    """
    torch.manual_seed(1)
    q, k, v = (torch.randn(1, c, 13 * 17) for c in (DIM, DIM, CHANNELS))
    found = WindowAttend(window=17, halo=0)(q, k, v, width=17)
    if not torch.allclose(found, dense_attention(q, k, v), atol=1e-5):
        raise RuntimeError("attention inside a window as large as the picture is not exact attention")


@torch.inference_mode()
def measure(side: int, rounds: int) -> Rows:
    seconds = timed(works(side), rounds, "cpu", clock=time.thread_time)
    return [
        {
            "method": name,
            "side": side,
            "n": side**2,
            "milliseconds": round(1e3 * statistics.median(values), 2),
            "by_window": round(ratio(values, seconds["window"]), 2),
            "by_conv3x3": round(ratio(values, seconds["conv3x3"]), 2),
            "rounds": len(values),
        }
        for name, values in seconds.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # `thread_time` counts one thread
    check()
    sides = (32, 61) if arguments.quick else SIDES
    rows = [row for side in sides for row in measure(side, 2 if arguments.quick else arguments.rounds)]
    aims = [
        {
            "what": f"exponent of time over N, {method}",
            "found": exponent(rows, method),
            "aim": "at most 1.15" if method == "window" else "",
        }
        for method in ("window", "enla")
    ]
    if arguments.quick:
        show(*rows, *aims)
        return
    publish("window_attention", *rows, threads=1)
    publish("window_attention_aims", *aims, threads=1)


if __name__ == "__main__":
    main()
