"""Wall time and peak memory of the command `enlca upscale`, start-up included.

    python -m benchmarks.upscale_command [--size 500] [--threads 2] [--runs 3]

Each run is a fresh process, as a user starts it. The picture is a smooth random field, written and
read as PNG. The result is checked before anything is reported.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.child import run
from benchmarks.report import publish
from enlca.checkpoint import DEFAULT_MODEL
from enlca.image.picture import Picture, read_image, write_image

FORM = argparse.RawDescriptionHelpFormatter


def smooth_picture(size: int) -> np.ndarray:
    """A photograph-like field of `size` x `size` RGB pixels: random waves of all lengths."""
    random = np.random.default_rng(1)
    y, x = np.mgrid[:size, :size] / size
    waves = sum(
        np.sin(2 * np.pi * (fy * y + fx * x) + phase)[..., None] * colour / (1 + abs(fy) + abs(fx))
        for fy, fx, phase, colour in zip(
            random.normal(0, 20, 40),
            random.normal(0, 20, 40),
            random.uniform(0, 6, 40),
            random.normal(0, 400, (40, 3)),
            strict=True,
        )
    )
    return np.clip(127 + waves, 0, 255).astype(np.uint8)


def measure(model: str, scale: int, size: int, threads: int) -> dict[str, float | str | int]:
    """One run of the command; wall seconds and the child's peak resident memory in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.png"), Path(folder, "out.png")
        write_image(source, Picture(smooth_picture(size)))
        command = [sys.executable, "-m", "enlca", "upscale", str(source), "-o", str(target)]
        command += ["--model", model, "--scale", str(scale), "--device", "cpu"]
        done = run(command, threads=threads)
        if read_image(target).pixels.shape != (size * scale, size * scale, 3):
            raise RuntimeError("the SR picture has the wrong size: nothing to report")
    picture = {"model": model, "scale": scale, "width": size, "height": size}
    return {**picture, "seconds": done.seconds, "peak_mib": done.peak_mib}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=FORM)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--size", type=int, default=500)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    runs = [
        measure(arguments.model, arguments.scale, arguments.size, arguments.threads)
        for _ in range(arguments.runs)
    ]
    row = {
        **runs[0],
        "seconds": round(statistics.median(float(run["seconds"]) for run in runs), 2),
        "peak_mib": round(max(float(run["peak_mib"]) for run in runs)),
        "runs": arguments.runs,
    }
    publish("upscale_command", row, threads=arguments.threads)


if __name__ == "__main__":
    main()
