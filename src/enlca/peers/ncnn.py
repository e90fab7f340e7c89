"""Read the weights of ncnn networks: numbers in `.bin`, the layers that they belong to in `.param`.

A convolution's weights begin with a flag that tells their type, and end at a multiple of 4 bytes; its bias
follows in float32. A PReLU has its slopes in float32 alone. Sizes are in the `.param` only: without it, a
`.bin` says no more than its length.
"""

import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from enlca.errors import CheckpointError

FLOAT16, FLOAT32 = 0x01306B47, 0x0002C056
MAGIC = "7767517"
# A text of some dozen layers, and some millions of weights.
LIMIT_PARAM, LIMIT = 1 << 20, 1 << 30
WITHOUT_WEIGHTS = ("Input", "Split", "ReLU", "PixelShuffle", "Interp", "BinaryOp")
# Converters number the layers of a Sequential as PyTorch does. It is called so in SRMDNF and, where there
# are PReLUs, in Real-ESRGAN's compact networks.
NUMBERED, SEQUENTIAL = re.compile(r"(?:Conv|PRelu)_(\d+)"), {False: "model", True: "body"}


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer with weights.

    Attributes:
        name: of its tensors, less `.weight` and `.bias`.
        shape: of its weights: out, in, height, width of a convolution, channels of a PReLU.
    """

    name: str
    shape: tuple[int, ...]

    @property
    def is_convolution(self) -> bool:
        """Its weights begin with a flag, and a bias follows them."""
        return len(self.shape) == 4


# `.bin` files that are read without their `.param`: SRMDNF of each scale.
SRMDNF = {
    scale: [
        Layer(name=f"model.{2 * i}", shape=(128 if i < 11 else 3 * scale**2, 18 if i == 0 else 128, 3, 3))
        for i in range(12)
    ]
    for scale in (2, 3, 4)
}


def read_ncnn(path: Path) -> dict[str, Tensor]:
    """Return the weights of a `.bin` file by the names of their layers, in float32.

    The `.param` beside it tells the layers; without one, the file must have the length of a known network.

    Raises:
        CheckpointError: a file cannot be read, or is no network of convolutions and PReLUs.
    """
    try:
        layers = path.with_suffix(".param")
        if layers.is_file():
            if layers.stat().st_size > LIMIT_PARAM:
                raise ValueError(f"{layers.name} has more than {LIMIT_PARAM} bytes")
            weighted = parse_layers(layers.read_text(errors="replace"))
        else:
            weighted = _of_length(path.stat().st_size)
        if (found := path.stat().st_size) > LIMIT:
            raise ValueError(f"it has {found} bytes")
        return parse_weights(path.read_bytes(), weighted)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: not the weights of a known ncnn network: {error}") from error


def parse_layers(text: str) -> list[Layer]:
    """Return the layers of a `.param` text that have weights, in the order of these.

    Raises:
        ValueError: not such a text, or a layer that may have other weights.
    """
    lines = text.split("\n")
    if lines[0].strip() != MAGIC:
        raise ValueError("its .param does not begin like one")
    layers, channels = [], None
    for kind, *rest in (line.split() for line in lines[2:] if line.strip()):
        if kind in WITHOUT_WEIGHTS:
            continue
        settings = dict(re.findall(r"(\d{1,3})=(\d{1,9})", " ".join(rest)))
        try:
            shape = {"Convolution": _convolution, "PReLU": _prelu}[kind](settings, channels)
        except KeyError as error:
            if error.args[0] == kind:
                raise ValueError(f"its .param has a layer {kind[:40]!r}, which is not known here") from error
            raise ValueError(f"a {kind} of its .param lacks {error.args[0]}=") from error
        channels = shape[0]
        layers.append(Layer(name=rest[0], shape=shape))
    if not layers:
        raise ValueError("its .param has no convolution")
    sequential = SEQUENTIAL[any(not layer.is_convolution for layer in layers)]
    return [replace(layer, name=NUMBERED.sub(rf"{sequential}.\1", layer.name)) for layer in layers]


def _convolution(settings: Mapping[str, str], channels: int | None) -> tuple[int, ...]:
    rows, side, numbers = (int(settings[key]) for key in ("0", "1", "6"))
    if min(rows, side) < 1 or numbers % (rows * side**2) or settings.get("5") != "1":
        raise ValueError(f"{rows} filters of {side} x {side} with a bias cannot have {numbers} weights")
    width = numbers // (rows * side**2)
    if channels not in (None, width):
        raise ValueError(f"a convolution of {width} channels follows a layer that makes {channels}")
    return rows, width, side, side


def _prelu(settings: Mapping[str, str], channels: int | None) -> tuple[int, ...]:
    slopes = int(settings["0"])
    if slopes != channels:
        raise ValueError(f"a PReLU of {slopes} slopes follows a layer that makes {channels or 'nothing'}")
    return (slopes,)


def parse_weights(content: bytes, layers: Sequence[Layer]) -> dict[str, Tensor]:
    """Return the tensors of each layer, in float32.

    Raises:
        ValueError: the bytes are not these weights.
    """
    tensors, at = {}, 0

    def take(layer: Layer, shape: tuple[int, ...], kind: str) -> Tensor:
        nonlocal at
        number = math.prod(shape)
        size = number * np.dtype(kind).itemsize
        if at + size > len(content):
            raise ValueError(f"it is cut short in {layer.name}")
        numbers = np.frombuffer(content, kind, number, at).astype(np.float32)
        at += -(-size // 4) * 4
        return torch.from_numpy(numbers.reshape(shape))

    for layer in layers:
        kind = "<f4"
        if layer.is_convolution:
            flag = int.from_bytes(content[at : at + 4], "little")
            if len(content) < at + 4:
                raise ValueError(f"it is cut short in {layer.name}")
            if flag not in (FLOAT16, FLOAT32):
                raise ValueError(f"{layer.name} has weights of type {flag:#010x}, not of 16 or 32 bits")
            kind, at = "<f2" if flag == FLOAT16 else "<f4", at + 4
        tensors[f"{layer.name}.weight"] = take(layer, layer.shape, kind)
        if layer.is_convolution:
            tensors[f"{layer.name}.bias"] = take(layer, layer.shape[:1], "<f4")
    if at != len(content):
        raise ValueError(f"it has {len(content)} bytes, and its layers need {at}")
    return tensors


def write_ncnn(tensors: dict[str, Tensor]) -> bytes:
    """Return the bytes of a `.bin` file, filters in float16; `tensors` are in the order of the layers."""
    parts = []
    for tensor in tensors.values():
        if tensor.ndim == 4:
            weight = tensor.detach().to("cpu", torch.float16).numpy().tobytes()
            parts += [struct.pack("<I", FLOAT16), weight, bytes(-len(weight) % 4)]
        else:
            parts.append(tensor.detach().to("cpu", torch.float32).numpy().tobytes())
    return b"".join(parts)


def _of_length(size: int) -> list[Layer]:
    for layers in SRMDNF.values():
        weights = [math.prod(layer.shape) for layer in layers]
        biases = [layer.shape[0] for layer in layers]
        if size == sum(4 + -(-2 * number // 4) * 4 for number in weights) + 4 * sum(biases):
            return layers
    raise ValueError("there is no .param beside it, and it has the length of no known network (SRMDNF)")
