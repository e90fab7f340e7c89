"""How quick the page of `enlca explore` is, and how it bears a crowd.

    python -m benchmarks.explorer [--side 256] [--visitors 20] [--rounds 6] [--threads 2]

Without a browser: from a click to its maps (first and later ones of a picture; medians of `rounds`), by one
visitor, then by all at once, and how much the server's memory grows from the second round to the last.
With Chromium and Playwright (`pip install --group browser`) also what a person waits for: from the address
to a page that can be used, and from a click to the maps that are drawn.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

from benchmarks.report import publish
from benchmarks.upscale_command import smooth_picture
from benchmarks.visitor import Visitor, server
from enlca.image.picture import Picture, write_image

CHOICE = ("enlcn-tiny", 4, 0, 6.0, 64, "")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
]


def timed(work: Callable[[], str], expected: str) -> float:
    """Seconds that an answer takes. Raises RuntimeError: it is another one."""
    started = time.perf_counter()
    answer = work()
    seconds = time.perf_counter() - started
    if expected not in answer:
        raise RuntimeError(f"the answer is not about {expected}: nothing to report")
    return seconds


def without_browser(picture: Path, *, visitors: int, rounds: int) -> list[dict]:
    with server() as running, ThreadPoolExecutor(visitors) as pool:
        crowd = [Visitor(running.url) for _ in range(visitors)]
        one = crowd[0]
        one.open(picture)

        def click(visitor: Visitor, number: int) -> float:
            return timed(lambda: visitor.click(number, 2, CHOICE), f"row {number}, column 2")

        def click_and_wait(visitor: Visitor, number: int) -> float:
            return click(visitor, number) + timed(lambda: visitor.complete(CHOICE), f"row {number}, column 2")

        first = click(one, 0)
        alone = statistics.median(click(one, number) for number in range(1, 1 + rounds))
        complete = statistics.median(click_and_wait(one, number) for number in range(1, 1 + rounds))
        list(pool.map(lambda visitor: visitor.open(picture), crowd[1:]))
        crowded, held = [], []
        for number in range(rounds):
            crowded += pool.map(lambda visitor, at=number: click_and_wait(visitor, at), crowd)
            held.append(running.resident_mib)
    rows = [
        ("first click on a picture, to the quick maps, s", first, "below 2"),
        ("click, to the quick maps, s", alone, "below 2"),
        ("click, to all maps, s", complete, ""),
        (f"click, {visitors} at once, to all maps, median, s", statistics.median(crowded), ""),
        (f"click, {visitors} at once, to all maps, longest, s", max(crowded), ""),
        (f"errors in {len(crowded)} clicks", 0, "0"),
        ("memory after the first round, MiB", held[0], ""),
        (f"memory that {rounds - 2} further rounds add, MiB", held[-1] - held[1], "about 0"),
    ]
    return [{"what": what, "value": round(value, 3), "aim": aim} for what, value, aim in rows]


def with_browser(chromium: str, picture: Path, *, rounds: int) -> list[dict]:
    from playwright.sync_api import sync_playwright  # pyright: ignore[reportMissingImports]

    with server() as running, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        opened, clicked = [], []
        for _ in range(rounds):
            # Nothing of the page before is in the cache.
            page = browser.new_context().new_page()
            started = time.perf_counter()
            page.goto(running.url)
            page.wait_for_selector("#drop input[type=file]", state="attached")
            opened.append(time.perf_counter() - started)
            page.set_input_files("#drop input[type=file]", picture)
            page.wait_for_selector("#panels figure", timeout=60_000)
            box = page.locator(".stage").bounding_box()
            assert box is not None
            seen = page.inner_text("#panels .legend small")
            started = time.perf_counter()
            page.locator(".stage").click(position={"x": 0.2 * box["width"], "y": 0.3 * box["height"]})
            page.wait_for_function(
                "seen => document.querySelector('#panels .legend small')?.innerText !== seen"
                " && document.querySelector('#panels img')?.complete",
                arg=seen,
            )
            clicked.append(time.perf_counter() - started)
            page.close()
        browser.close()
    rows = [("page opens, s", opened, "below 3"), ("click to maps on the screen, s", clicked, "below 2")]
    return [
        {"what": what, "value": round(statistics.median(all_of), 3), "aim": aim} for what, all_of, aim in rows
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--visitors", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder, "picture.png")
        write_image(picture, Picture(smooth_picture(arguments.side)))
        rows = without_browser(picture, visitors=arguments.visitors, rounds=arguments.rounds)
        if chromium and find_spec("playwright"):
            rows += with_browser(chromium, picture, rounds=arguments.rounds)
        else:
            print("no Chromium or no Playwright: what a browser adds is not measured")
    publish("explorer", *({"side": arguments.side, **row} for row in rows), threads=arguments.threads)


if __name__ == "__main__":
    main()
