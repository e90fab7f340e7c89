"""Where a network runs, and how its convolutions are compiled for it."""

import os
import shutil
from functools import cache, partial

import torch

from enlca.attention.block import NonLocalBlock
from enlca.errors import EnlcaError
from enlca.network.sr import SRNetwork

DEVICES = ("auto", "cpu", "cuda", "mps")


class DeviceError(EnlcaError):
    """A device that this machine does not have, or what it cannot do."""


def choose_device(name: str) -> torch.device:
    """The device called `name`; "auto" takes a GPU where there is one.

    Raises:
        DeviceError: for an unknown name, or a device that is not here.
    """
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if present[kind]))
    if name not in present:
        raise DeviceError(f"unknown device {name!r}; choose from {', '.join(DEVICES)}")
    if not present[name]:
        here = ", ".join(kind for kind in present if present[kind])
        raise DeviceError(f"device {name} is not available on this machine; available: {here}")
    return torch.device(name)


def with_fast_convolutions(network: SRNetwork, device: torch.device) -> SRNetwork:
    """The network on the device; the channels of its weights, and so of its features, are last in memory.

    Convolutions bring others into that order and back, each by itself: on a processor with AVX-512 a network
    is 1.25 times as fast without, in bfloat16 1.4 to 2.5 times (benchmarks/NOTES.md). Attention takes both.
    """
    return network.to(device=device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


@cache
def survive_forks() -> None:
    """From now on let the children of forks compute by one thread; nothing to do where there is no fork.

    OpenMP's threads are not copied by a fork, and a child that asks them for their part of the work waits
    for ever. With one thread it asks none.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))


def compile_local_stages(network: SRNetwork) -> None:
    """Compile what is convolutions, part by part, so that tiles of a stream gain from it, too.

    The work is done by the first picture, once for all sizes. Attention is not compiled.

    Raises:
        DeviceError: there is no C++ compiler, which `torch.compile` needs for a processor.
    """
    if network.mean.device.type == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++", "cl"))):
        raise DeviceError("compiling needs a C++ compiler, and none was found; install one, or leave it out")
    parts = [network.head, network.fuse, network.upsampler]
    parts += [stage.embed if isinstance(stage, NonLocalBlock) else stage for stage in network.body]
    for part in parts:
        part.compile(dynamic=True)
