"""How long a user waits before anything happens.

    python -m benchmarks.startup [--runs 7] [--threads 2]

Wall seconds of commands in fresh processes, medians: `enlca --help`, and `enlca upscale` of one small
picture, start to end, which bounds the wait for the first pixel from above. Its size is checked.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.child import run
from benchmarks.report import publish
from benchmarks.upscale_command import smooth_picture
from enlca.image.picture import Picture, read_image, write_image

SIZE = 64


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    enlca = [sys.executable, "-m", "enlca"]
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.png"), Path(folder, "out.png")
        write_image(source, Picture(smooth_picture(SIZE)))
        upscale = ["upscale", str(source), "-o", str(target), "--device", "cpu"]
        commands = {
            "python -c pass": ([sys.executable, "-c", "pass"], ""),
            "enlca --help": ([*enlca, "--help"], "at most 0.3"),
            "import torch": ([sys.executable, "-c", "import torch"], ""),
            f"enlca upscale, {SIZE} x {SIZE}": ([*enlca, *upscale], "at most 2"),
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(arguments.runs):
            for name, (command, _) in commands.items():
                seconds[name].append(run(command, threads=arguments.threads).seconds)
        if read_image(target).pixels.shape != (4 * SIZE, 4 * SIZE, 3):
            raise RuntimeError("the SR picture has the wrong size: nothing to report")
    rows = [
        {
            "command": name,
            "aim": aim,
            "seconds": round(statistics.median(seconds[name]), 3),
            "runs": arguments.runs,
        }
        for name, (_, aim) in commands.items()
    ]
    publish("startup", *rows, threads=arguments.threads)


if __name__ == "__main__":
    main()
