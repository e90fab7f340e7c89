"""Read the weights of ncnn networks: numbers in `.bin`, the layers that they belong to in `.param`.

A convolution's weights begin with a flag that tells their type, and end at a multiple of 4 bytes; its bias
follows in float32. Sizes are in the `.param` alone, so that a `.bin` can be checked by its length only.
"""

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from enlca.errors import CheckpointError

FLOAT16, FLOAT32 = 0x01306B47, 0x0002C056
MAGIC = "7767517"
# A text of some dozen layers, and some millions of weights.
LIMIT_PARAM, LIMIT = 1 << 20, 1 << 30
# Converters number the layers of a Sequential as PyTorch does: Conv_2 was model.2.
LAYER, MODULE = re.compile(r"Conv_(\d+)"), r"model.\1"


@dataclass(frozen=True, kw_only=True)
class Convolution:
    """A layer with weights: its name, and the shape of its weights, out, in, height, width."""

    name: str
    shape: tuple[int, int, int, int]


# `.bin` files that are read without their `.param`: SRMDNF of each scale.
SRMDNF = {
    scale: [
        Convolution(
            name=f"model.{2 * i}", shape=(128 if i < 11 else 3 * scale**2, 18 if i == 0 else 128, 3, 3)
        )
        for i in range(12)
    ]
    for scale in (2, 3, 4)
}


def read_ncnn(path: Path) -> dict[str, Tensor]:
    """Return the weights of a `.bin` file by the names of their layers, in float32.

    The `.param` beside it tells the layers; without one, the file must have the length of a known network.

    Raises:
        CheckpointError: a file cannot be read, or is no network of convolutions.
    """
    try:
        layers = path.with_suffix(".param")
        if layers.is_file():
            if layers.stat().st_size > LIMIT_PARAM:
                raise ValueError(f"{layers.name} has more than {LIMIT_PARAM} bytes")
            convolutions = parse_layers(layers.read_text(errors="replace"))
        else:
            convolutions = _of_length(path.stat().st_size)
        if (found := path.stat().st_size) > LIMIT:
            raise ValueError(f"it has {found} bytes")
        return parse_weights(path.read_bytes(), convolutions)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: not the weights of a known ncnn network: {error}") from error


def parse_layers(text: str) -> list[Convolution]:
    """Return the convolutions of a `.param` text, in the order of their weights.

    Raises:
        ValueError: not such a text, or a layer that has other weights.
    """
    lines = text.split("\n")
    if lines[0].strip() != MAGIC:
        raise ValueError("its .param does not begin like one")
    convolutions, channels = [], None
    for words in (line.split() for line in lines[2:] if line.strip()):
        kind, *rest = words
        if kind not in ("Input", "Convolution", "PixelShuffle", "ReLU", "Split"):
            raise ValueError(f"its .param has a layer {kind[:40]!r}, which is not known here")
        if kind != "Convolution":
            continue
        settings = dict(re.findall(r"(\d{1,3})=(\d{1,9})", " ".join(rest)))
        try:
            rows, side, numbers = (int(settings[key]) for key in ("0", "1", "6"))
        except KeyError as error:
            raise ValueError(f"a convolution of its .param lacks {error.args[0]}=") from error
        if min(rows, side) < 1 or numbers % (rows * side**2) or settings.get("5") != "1":
            raise ValueError(f"{rows} filters of {side} x {side} with a bias cannot have {numbers} weights")
        width = numbers // (rows * side**2)
        if channels not in (None, width):
            raise ValueError(f"a convolution of {width} channels follows one that makes {channels}")
        channels = rows
        convolutions.append(Convolution(name=LAYER.sub(MODULE, rest[0]), shape=(rows, width, side, side)))
    if not convolutions:
        raise ValueError("its .param has no convolution")
    return convolutions


def parse_weights(content: bytes, convolutions: Sequence[Convolution]) -> dict[str, Tensor]:
    """Return weight and bias of each convolution.

    Raises:
        ValueError: the bytes are not these weights.
    """
    tensors, at = {}, 0
    for layer in convolutions:
        flag = struct.unpack("<I", _cut(content, at, 4, layer))[0]
        if flag not in (FLOAT16, FLOAT32):
            raise ValueError(f"{layer.name} has weights of type {flag:#010x}, not of 16 or 32 bits")
        number = int(np.prod(layer.shape, dtype=np.int64))
        kind = "<f2" if flag == FLOAT16 else "<f4"
        size = number * np.dtype(kind).itemsize
        weight = np.frombuffer(_cut(content, at + 4, size, layer), kind).astype(np.float32)
        at += 4 + -(-size // 4) * 4
        bias = np.frombuffer(_cut(content, at, 4 * layer.shape[0], layer), "<f4").astype(np.float32)
        at += 4 * layer.shape[0]
        tensors[f"{layer.name}.weight"] = torch.from_numpy(weight.reshape(layer.shape))
        tensors[f"{layer.name}.bias"] = torch.from_numpy(bias)
    if at != len(content):
        raise ValueError(f"it has {len(content)} bytes, and its layers need {at}")
    return tensors


def write_ncnn(tensors: dict[str, Tensor]) -> bytes:
    """Return the bytes of a `.bin` file, weights in float16; `tensors` are weights and biases in turn."""
    parts = []
    for name, tensor in tensors.items():
        if name.endswith(".weight"):
            weight = tensor.detach().to("cpu", torch.float16).numpy().tobytes()
            parts += [struct.pack("<I", FLOAT16), weight, bytes(-len(weight) % 4)]
        else:
            parts.append(tensor.detach().to("cpu", torch.float32).numpy().tobytes())
    return b"".join(parts)


def _of_length(size: int) -> list[Convolution]:
    for layers in SRMDNF.values():
        weights = [int(np.prod(layer.shape)) for layer in layers]
        biases = [layer.shape[0] for layer in layers]
        if size == sum(4 + -(-2 * number // 4) * 4 for number in weights) + 4 * sum(biases):
            return layers
    raise ValueError("there is no .param beside it, and it has the length of no known network (SRMDNF)")


def _cut(content: bytes, at: int, size: int, layer: Convolution) -> bytes:
    if at + size > len(content):
        raise ValueError(f"it is cut short in {layer.name}")
    return content[at : at + size]
