"""`--engine`: other runtimes than PyTorch, of the extra `export`."""

from functools import partial
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from enlca.inference.transforms import Forward
    from enlca.network.sr import SRNetwork


def check_engine(engine: str, *, device: str, precision: str, compile: bool) -> None:
    """Check that options go with another engine than PyTorch.

    Raises:
        BadParameter: on a GPU, in half precision, or compiled by PyTorch.
    """
    if device not in ("auto", "cpu"):
        raise typer.BadParameter(f"--engine {engine} computes on the processor: --device cpu, not {device}")
    if precision not in ("auto", "fp32"):
        raise typer.BadParameter(f"--engine {engine} does not compute in {precision}; use --precision fp32")
    if compile:
        raise typer.BadParameter("--compile is PyTorch's; --engine torch goes with it")


def engine_loader(engine: str) -> "Callable[[SRNetwork], Forward]":
    """Return what makes the engine of a network."""
    from enlca.export.engines import load_engine

    return partial(load_engine, engine)
