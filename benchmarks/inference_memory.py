"""Peak memory and time of `enlca upscale` against the size of the picture: whole, streamed and tiled.

    python -m benchmarks.inference_memory [--model enlcn-tiny] [--width 512] [--heights 256 512 1024 2048]
                                          [--max-memory 512MiB] [--roomy 4GiB] [--threads 2] [--runs 3]

Every run is a fresh process, as a user starts it; seconds are those of reading, computing and writing, peak
is the process's resident memory. "stream" stays within --max-memory, whatever the picture; "stream, roomy"
may use as much as the whole picture would (--roomy): what exact tiles cost where both fit. Checked before
anything is reported: streamed is whole to 1e-5, and all results have their size. Then a picture of --large x
--large, streamed, if that is asked for.
"""

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.child import run
from benchmarks.report import COLOURS, MARKERS, axes_side_by_side, publish
from benchmarks.upscale_command import smooth_picture
from enlca.image.files import open_image, write_rows
from enlca.image.rows import PictureRows
from enlca.inference.execute import Executor
from enlca.inference.strategy import Strategy
from enlca.inference.upscaler import Upscaler
from enlca.runtime.device import size_in_bytes

TOLERANCE = 1e-5


def check(model: str, scale: int) -> float:
    """The largest difference between streamed and whole, in floats; refuses to go on if it is too large."""
    network = Upscaler(model, scale=scale, device="cpu").network
    picture = smooth_picture(96)[:83, :89].astype(np.float32) / 255
    executor = Executor(network, network)
    whole, streamed = (
        np.concatenate(list(executor.bands(picture, strategy)))
        for strategy in (Strategy("whole"), Strategy("stream", 32, cache_limit=0))
    )
    difference = float(np.abs(whole - streamed).max())
    if difference > TOLERANCE:
        raise RuntimeError(f"streamed differs from whole by {difference}: nothing to report")
    return difference


def write_picture(path: Path, width: int, height: int) -> None:
    """A photograph-like picture of any height, which is never held."""
    wave = smooth_picture(width)
    bands = (wave[np.arange(top, min(top + 64, height)) % width] for top in range(0, height, 64))
    write_rows(path, PictureRows(width=width, height=height, channels=3, bits=8, bands=bands))


def measure(source: Path, folder: Path, words: list[str], threads: int) -> dict[str, float]:
    """One run of the command: seconds, and the peak in MiB."""
    target = folder / "out.png"
    command = [sys.executable, "-m", "enlca", "upscale", str(source), "-o", str(target), "--json", *words]
    done = run(command, threads=threads)
    [record] = json.loads(done.out)["pictures"]
    made, given = open_image(target), open_image(source)
    if made.width % given.width or made.height // given.height != made.width // given.width:
        raise RuntimeError("the SR picture has the wrong size: nothing to report")
    target.unlink()
    return {"seconds": record["seconds"], "peak": done.peak_mib}


def exponent(pixels: list[int], seconds: list[float]) -> float:
    """Of seconds ~ pixels ** exponent, by least squares."""
    x, y = np.log(pixels), np.log(seconds)
    return float(np.polyfit(x, y, 1)[0])


def rows(arguments: argparse.Namespace) -> list[dict]:
    """One row for each mode and height. The modes take turns, so that other work slows all of them."""
    limit = ["--max-memory", arguments.max_memory]
    roomy = ["--max-memory", arguments.roomy]
    modes = {
        "whole": ["--mode", "whole", *roomy],
        "stream": ["--mode", "stream", *limit],
        "stream, roomy": ["--mode", "stream", *roomy],
        "tiled": ["--mode", "tiled", *limit],
    }
    common = ["--model", arguments.model, "--scale", str(arguments.scale), "--device", "cpu"]
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for height in arguments.heights:
            source = folder / f"{height}.png"
            write_picture(source, arguments.width, height)
            runs = {mode: [] for mode in modes}
            for _ in range(arguments.runs):
                for mode, words in modes.items():
                    runs[mode].append(measure(source, folder, [*common, *words], arguments.threads))
            whole = [one["seconds"] for one in runs["whole"]]
            for mode, measured in runs.items():
                seconds = [one["seconds"] for one in measured]
                ratios = [a / b for a, b in zip(seconds, whole, strict=True)]
                found.append(
                    {
                        "model": arguments.model,
                        "scale": arguments.scale,
                        "mode": mode,
                        "limit_mib": size_in_bytes(modes[mode][-1]) >> 20,
                        "width": arguments.width,
                        "height": height,
                        "seconds": round(statistics.median(seconds), 2),
                        "by_whole": round(statistics.median(ratios), 3),
                        "peak_mib": math.ceil(max(one["peak"] for one in measured)),
                        "runs": arguments.runs,
                    }
                )
                print(found[-1], file=sys.stderr)
        if arguments.large:
            found.append(large(arguments, folder, [*common, "--mode", "stream", *limit]))
    return found


def large(arguments: argparse.Namespace, folder: Path, words: list[str]) -> dict:
    """One large square picture, once."""
    source, side = folder / "large.png", arguments.large
    write_picture(source, side, side)
    words[words.index("--max-memory") + 1] = arguments.large_memory
    found = measure(source, folder, words, arguments.threads)
    return {
        "model": arguments.model,
        "scale": arguments.scale,
        "mode": "stream",
        "limit_mib": size_in_bytes(arguments.large_memory) >> 20,
        "width": side,
        "height": side,
        "seconds": round(found["seconds"], 2),
        "by_whole": "",
        "peak_mib": math.ceil(found["peak"]),
        "runs": 1,
    }


def plot(measured: list[dict]) -> None:
    """Peak and time against the size of the picture; needs matplotlib."""
    with axes_side_by_side("inference_memory") as (left, right):
        for number, mode in enumerate(dict.fromkeys(row["mode"] for row in measured)):
            rows_of_mode = [row for row in measured if row["mode"] == mode]
            megapixels = [row["width"] * row["height"] / 1e6 for row in rows_of_mode]
            label = mode if mode == "whole" else f"{mode} ({rows_of_mode[0]['limit_mib']} MiB)"
            style = {"color": COLOURS[number], "marker": MARKERS[number], "label": label}
            left.plot(megapixels, [row["peak_mib"] for row in rows_of_mode], **style)
            right.plot(megapixels, [row["seconds"] for row in rows_of_mode], **style)
        left.set_ylabel("peak memory, MiB")
        right.set_ylabel("seconds")
        for axes in (left, right):
            axes.set_xlabel("megapixels of the LR picture")
            axes.set_ylim(bottom=0)
            axes.grid(alpha=0.3)
        left.legend(frameon=False, fontsize=9)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="enlcn-tiny")
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--heights", type=int, nargs="+", default=[256, 512, 1024, 2048])
    parser.add_argument("--max-memory", default="512MiB")
    parser.add_argument("--roomy", default="4GiB")
    parser.add_argument("--large", type=int, default=0)
    parser.add_argument("--large-memory", default="2GiB")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    started = time.perf_counter()
    difference = check(arguments.model, arguments.scale)
    measured = rows(arguments)
    for mode in dict.fromkeys(row["mode"] for row in measured):
        of_mode = [row for row in measured if row["mode"] == mode and row["width"] == arguments.width]
        pixels = [row["width"] * row["height"] for row in of_mode]
        power = exponent(pixels, [row["seconds"] for row in of_mode]) if len(of_mode) > 1 else math.nan
        for row in measured:
            if row["mode"] == mode:
                row["exponent"] = round(power, 3)
                row["streamed_from_whole"] = f"{difference:.1e}"
    publish("inference_memory", *measured, threads=arguments.threads)
    plot([row for row in measured if row["width"] == arguments.width])
    print(f"took {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
