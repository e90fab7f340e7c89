"""One door to all measurements.

    python -m benchmarks.run                     what there is
    python -m benchmarks.run NAME [OPTIONS]      measure; `NAME --help` lists the options

Each checks first that what it compares computes the same, and refuses to report otherwise. Results go to
`benchmarks/results/`, with the machine, versions, threads and date; what was tried and what came of it is in
`benchmarks/NOTES.md`.
"""

import importlib
import sys

BENCHMARKS = {
    "attention_speed": "attention by itself: exact, NLSA, the released code's way, ours, and the floor",
    "window_attention": "time of attention inside windows over the size of a picture",
    "sharp_features": "error and time of features fitted to the picture, against the paper's",
    "roofline": "how near the Triton kernels come to what a GPU can do",
    "inference": "what attention adds to a whole network, and how near it comes to its convolutions",
    "frontier": "PSNR against latency of every bundled model",
    "training_step": "what a training step costs, and which shares loader and contrastive loss have",
    "evaluation_overhead": "what an evaluation costs beside its forward passes",
    "correlation_maps": "how long it takes to see where a query looks, and how much memory",
    "startup": "how long a user waits before anything happens",
    "upscale_command": "wall time and peak memory of the command `enlca upscale`",
    "inference_memory": "peak memory and time against picture size: whole, stream, tiled",
    "explorer": "how quick the page of `enlca explore` is, and how it bears a crowd",
    "engines": "which engine is the fastest on a processor: PyTorch, ONNX Runtime, OpenVINO",
    "bf16": "what bfloat16 costs in PSNR on a processor",
    "engines_int8": "what 8-bit quantisation by OpenVINO gains, and what it costs in PSNR",
}


def main() -> None:
    name, *options = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(__doc__)
        for name, what in BENCHMARKS.items():
            print(f"  {name:20} {what}")
        return
    if name not in BENCHMARKS:
        raise SystemExit(f"unknown benchmark {name!r}; choose from {', '.join(BENCHMARKS)}")
    sys.argv = [f"python -m benchmarks.run {name}", *options]
    importlib.import_module(f"benchmarks.{name}").main()


if __name__ == "__main__":
    main()
