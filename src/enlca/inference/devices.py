"""Where a network runs, and how its convolutions are compiled for it."""

import shutil

import torch

from enlca.attention.block import NonLocalBlock
from enlca.errors import DeviceError
from enlca.network.sr import SRNetwork

DEVICES = ("auto", "cpu", "cuda", "mps")


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
