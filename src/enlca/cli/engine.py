"""Which engine computes: PyTorch, or another runtime of the extra `export`."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from enlca.inference.ensemble import Forward
    from enlca.network.sr import SRNetwork

OTHER_ENGINES = ("onnx", "openvino")
ENGINES = ("auto", "torch", *OTHER_ENGINES)
# OpenVINO takes a second to start and, the first time, ten to export: so many pictures repay it.
MANY_PICTURES = 100
# Measured (benchmarks/NOTES.md), in float32: 1.0 to 1.1 times PyTorch's speed with 64 channels, with 32 less.
WIDE_NETWORK = 64


def check_engine(engine: str, *, device: str, precision: str, compile: bool) -> None:
    """Whether the options go together; nothing heavy is loaded.

    Raises:
        BadParameter: an engine for a GPU, in half precision, or compiled by PyTorch.
    """
    if engine not in OTHER_ENGINES:
        return
    if device not in ("auto", "cpu"):
        raise typer.BadParameter(f"--engine {engine} computes on the processor: --device cpu, not {device}")
    if precision == "fp16" or (precision == "bf16" and engine == "onnx"):
        raise typer.BadParameter(f"--engine {engine} does not compute in {precision}; use --precision fp32")
    if compile:
        raise typer.BadParameter("--compile is PyTorch's; --engine torch goes with it")


def engine_called(
    engine: str, *, device: str, precision: str, compile: bool, pictures: int
) -> "Callable[[SRNetwork], Forward] | None":
    """What makes the engine of a network; None for PyTorch, which every network brings itself.

    "auto" is OpenVINO where it is installed and worth its start: for many pictures through a wide network on
    a processor in float32, whole or in ordinary tiles. In bfloat16 PyTorch is 1.3 times as fast; so it is
    PyTorch where that is asked for, or where PyTorch is free to take it and would (`choose_precision`).
    """
    import torch

    from enlca.export.engines import load_engine
    from enlca.export.extras import installed
    from enlca.runtime.device import choose_precision

    if engine != "auto":
        lowered = "bf16" if precision == "bf16" else "fp32"
        return None if engine == "torch" else partial(load_engine, engine, precision=lowered)
    takes_bf16 = choose_precision("auto", torch.device("cpu")) is not None
    in_float32 = precision == "fp32" or (precision == "auto" and not takes_bf16)
    if not in_float32 or pictures < MANY_PICTURES or device != "cpu" or compile or not installed("openvino"):
        return None

    def where_it_pays(network: "SRNetwork") -> "Forward":
        config = network.config
        # NLSN has no graph that serves all sizes.
        worth = config.channels >= WIDE_NETWORK and config.attention != "lsh"
        return load_engine("openvino", network) if worth else network

    return where_it_pays
