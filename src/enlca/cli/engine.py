"""The option `--engine`: PyTorch, or another runtime of the extra `export`."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from enlca.inference.transforms import Forward
    from enlca.network.sr import SRNetwork

OTHER_ENGINES = ("onnx", "openvino")
ENGINES = ("auto", "torch", *OTHER_ENGINES)


def check_engine(engine: str, *, device: str, precision: str, compile: bool) -> None:
    """Check that the options go together; nothing heavy is loaded.

    Raises:
        BadParameter: another engine on a GPU, in half precision, or compiled by PyTorch.
    """
    if engine not in OTHER_ENGINES:
        return
    if device not in ("auto", "cpu"):
        raise typer.BadParameter(f"--engine {engine} computes on the processor: --device cpu, not {device}")
    if precision == "fp16" or (precision == "bf16" and engine == "onnx"):
        raise typer.BadParameter(f"--engine {engine} does not compute in {precision}; use --precision fp32")
    if compile:
        raise typer.BadParameter("--compile is PyTorch's; --engine torch goes with it")


def load_engine_of(engine: str, *, precision: str) -> "Callable[[SRNetwork], Forward] | None":
    """Return what makes the engine of a network; None for PyTorch, which "auto" is, too."""
    if engine not in OTHER_ENGINES:
        return None
    from enlca.export.engines import load_engine

    return partial(load_engine, engine, precision="bf16" if precision == "bf16" else "fp32")
