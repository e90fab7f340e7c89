"""Peak memory and time of `enlca upscale` against the size of the picture: whole, streamed and tiled.

    python -m benchmarks.inference_memory [--model enlcn-tiny] [--width 512] [--heights 256 512 1024 2048]
                                          [--max-memory 512MiB] [--threads 2] [--runs 3]

Every run is a fresh process, as a user starts it; seconds are those of reading, computing and writing, peak
is the process's resident memory. Checked before anything is reported: streamed is whole to 1e-5, and all
results have their size. Then a picture of --large x --large, streamed, if that is asked for.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.report import publish
from benchmarks.upscale_command import smooth_picture
from enlca.image.files import open_image, write_rows
from enlca.image.rows import PictureRows
from enlca.inference.enlarge import Enlarger, Strategy
from enlca.inference.memory import size_in_bytes
from enlca.inference.upscaler import Upscaler

TOLERANCE = 1e-5


def check(model: str, scale: int) -> float:
    """The largest difference between streamed and whole, in floats; refuses to go on if it is too large."""
    network = Upscaler(model, scale=scale, device="cpu").network
    picture = smooth_picture(96)[:83, :89].astype(np.float32) / 255
    enlarger = Enlarger(network, network)
    whole, streamed = (
        np.concatenate(list(enlarger.bands(picture, strategy)))
        for strategy in (Strategy("whole"), Strategy("stream", 32, store_limit=0))
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
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with open(folder / "out.json", "w+b") as out:
        child = subprocess.Popen(command, env=environment, stdout=out)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise RuntimeError(f"the command failed with exit code {child.returncode}: nothing to report")
    [record] = json.loads((folder / "out.json").read_text())["pictures"]
    made, given = open_image(target), open_image(source)
    if made.width % given.width or made.height // given.height != made.width // given.width:
        raise RuntimeError("the enlarged picture has the wrong size: nothing to report")
    target.unlink()
    # Linux counts ru_maxrss in KiB, macOS in bytes.
    return {
        "seconds": record["seconds"],
        "peak": usage.ru_maxrss / (1024 if sys.platform != "darwin" else 1 << 20),
    }


def exponent(pixels: list[int], seconds: list[float]) -> float:
    """Of seconds ~ pixels ** exponent, by least squares."""
    x, y = np.log(pixels), np.log(seconds)
    return float(np.polyfit(x, y, 1)[0])


def rows(arguments: argparse.Namespace) -> list[dict]:
    """One row for each mode and height. The modes take turns, so that other work slows all of them."""
    limit = ["--max-memory", arguments.max_memory]
    modes = {"whole": ["--mode", "whole"], "stream": ["--mode", "stream", *limit]}
    modes["tiled"] = ["--mode", "tiled", *limit]
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
            whole = [run["seconds"] for run in runs["whole"]]
            for mode, measured in runs.items():
                seconds = [run["seconds"] for run in measured]
                ratios = [a / b for a, b in zip(seconds, whole, strict=True)]
                found.append(
                    {
                        "model": arguments.model,
                        "scale": arguments.scale,
                        "mode": mode,
                        "limit_mib": "" if mode == "whole" else size_in_bytes(arguments.max_memory) >> 20,
                        "width": arguments.width,
                        "height": height,
                        "seconds": round(statistics.median(seconds), 2),
                        "by_whole": round(statistics.median(ratios), 3),
                        "peak_mib": math.ceil(max(run["peak"] for run in measured)),
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
    run = measure(source, folder, words, arguments.threads)
    return {
        "model": arguments.model,
        "scale": arguments.scale,
        "mode": "stream",
        "limit_mib": size_in_bytes(arguments.large_memory) >> 20,
        "width": side,
        "height": side,
        "seconds": round(run["seconds"], 2),
        "by_whole": "",
        "peak_mib": math.ceil(run["peak"]),
        "runs": 1,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="enlcn-tiny")
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--heights", type=int, nargs="+", default=[256, 512, 1024, 2048])
    parser.add_argument("--max-memory", default="512MiB")
    parser.add_argument("--large", type=int, default=0)
    parser.add_argument("--large-memory", default="2GiB")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    started = time.perf_counter()
    difference = check(arguments.model, arguments.scale)
    measured = rows(arguments)
    for mode in ("whole", "stream", "tiled"):
        of_mode = [row for row in measured if row["mode"] == mode and row["width"] == arguments.width]
        pixels = [row["width"] * row["height"] for row in of_mode]
        power = exponent(pixels, [row["seconds"] for row in of_mode]) if len(of_mode) > 1 else math.nan
        for row in measured:
            if row["mode"] == mode:
                row["exponent"] = round(power, 3)
                row["streamed_from_whole"] = f"{difference:.1e}"
    publish("inference_memory", *measured, threads=arguments.threads)
    print(f"took {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
