"""Which engine runs our networks fastest on a processor.

    python -m benchmarks.engines [--size 128] [--rounds 15] [--threads 2 1] [--quick]

Networks: enlcn-tiny and enlcn-light at x4, each by PyTorch as it comes, as `Upscaler` lays it out and as it
compiles it, by ONNX Runtime and by OpenVINO; by PyTorch in bfloat16, too, where `--precision auto` takes it
(what that costs is in `benchmarks.bf16`). Before anything is timed, each picture is compared with
PyTorch's at the size that is timed and at a prime one; nothing is reported when one differs by more than
1e-4. Each round times every engine once, one after the other, so that a slow moment hits all; a first round
warms up. `gain` is the median over rounds of PyTorch's time by the engine's within a round; `others` is the
share of the processors that other programs took meanwhile: threads that wait for one another suffer from
them far more than one does.
"""

import argparse
import copy
from importlib.metadata import version
from typing import Any

import torch

from benchmarks.report import publish, show
from benchmarks.rounds import SCALE, Company, median_ratio, milliseconds, network_called, seconds_of
from enlca.export.engines import load_engine
from enlca.export.verify import check_parity
from enlca.inference.transforms import Forward
from enlca.network.layers import with_fast_convolutions
from enlca.network.sr import SRNetwork
from enlca.network.zoo import NETWORKS
from enlca.runtime.device import choose_precision, in_half

FORM = argparse.RawDescriptionHelpFormatter
PRIME = (61, 53)


def compiled(network: SRNetwork) -> Forward:
    """The network as `enlca upscale --compile` has it; a copy."""
    torch._dynamo.reset()
    network = copy.deepcopy(network)
    network.compile_convolutions()
    return torch.inference_mode()(network.forward)


def ways(network: SRNetwork) -> dict[str, Forward]:
    """Every way to run the network here, PyTorch's own first."""
    laid_out = with_fast_convolutions(copy.deepcopy(network), torch.device("cpu"))
    found = {
        "torch": torch.inference_mode()(network.forward),
        "torch channels last": torch.inference_mode()(laid_out.forward),
        "torch.compile": compiled(laid_out),
        "onnx": load_engine("onnx", network),
        "openvino": load_engine("openvino", network),
    }
    if choose_precision("auto", torch.device("cpu")) is not None:
        found["torch bf16"] = in_half(laid_out, torch.bfloat16)
    return found


def speed(name: str, size: int, threads: int, rounds: int) -> list[dict[str, Any]]:
    """A row for each engine."""
    torch.set_num_threads(threads)
    network = network_called(name)
    engines = ways(network)
    lowered = {engine: 0.05 for engine in engines if engine.endswith("bf16")}
    differences = {
        engine: check_parity(
            forward, network, sizes=[(1, *PRIME), (1, size, size)], tolerance=lowered.get(engine, 1e-4)
        )
        for engine, forward in engines.items()
    }
    lr = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    works = {engine: (lambda forward=forward: forward(lr)) for engine, forward in engines.items()}
    with Company() as company:
        seconds = seconds_of(works, rounds)
    return [
        {
            "model": name,
            "scale": SCALE,
            "height": size,
            "width": size,
            "threads_used": threads,
            "engine": engine,
            "gain": median_ratio(seconds["torch"], seconds[engine]),
            "milliseconds": milliseconds(seconds[engine]),
            "difference": f"{differences[engine]:.0e}",
            "others": company.share,
            "rounds": rounds,
            "onnxruntime": version("onnxruntime"),
            "openvino": version("openvino"),
        }
        for engine in engines
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=FORM)
    parser.add_argument(
        "--models", nargs="+", choices=sorted(NETWORKS), default=["enlcn-tiny", "enlcn-light"]
    )
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--quick", action="store_true", help="see that it works; write nothing")
    arguments = parser.parse_args()
    size, rounds = (32, 1) if arguments.quick else (arguments.size, arguments.rounds)
    work = [(name, threads) for name in arguments.models for threads in arguments.threads]
    rows = [row for name, threads in work for row in speed(name, size, threads, rounds)]
    if arguments.quick:
        show(*rows)
    else:
        publish("engines", *rows, threads=max(arguments.threads))


if __name__ == "__main__":
    main()
