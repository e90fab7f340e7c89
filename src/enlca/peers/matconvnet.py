"""Read the weights of MatConvNet networks: `net.params[].name` and `.value` of MATLAB files (level 5).

Such a file is a tree of elements, each a type, a length and data, compressed one by one. Only what leads to
the weights is read, never more than `LIMIT` bytes and `MANY` of anything: what a file says may be hostile.

The format is MathWorks' "MAT-File Level 5 File Format"; names of types begin with `mi` and of classes with
`mx` there.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from enlca.errors import CheckpointError

HEADER = 128
# Bytes of a file, and of what it unpacks to; variables, parameters, fields, and characters of a name.
# LapSRN has less than a million weights in 100 parameters.
LIMIT, MANY = 1 << 26, 2000
MATRIX, COMPRESSED = 14, 15
CELL, STRUCT, CHAR = 1, 2, 4
# Types of elements and their numbers; text is stored as numbers, too.
NUMBERS = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
    16: "u1", 17: "u2",
}  # fmt: skip


def read_matconvnet(path: Path) -> dict[str, Tensor]:
    """Return the weights by their names, filters (`*_f`) as PyTorch lays them out: out, in, height, width.

    Raises:
        CheckpointError: the file cannot be read, or holds no such network.
    """
    try:
        size = path.stat().st_size
        if size > LIMIT:
            raise ValueError(f"{size} bytes; networks of this kind have less than {LIMIT}")
        return {name: _laid_out(name, value) for name, value in _parameters(path.read_bytes())}
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, struct.error, zlib.error) as error:
        raise CheckpointError(f"{path}: not the MATLAB file of a MatConvNet network: {error}") from error


@dataclass(frozen=True)
class Matrix:
    """An array of any class: its dimensions, and what follows its name."""

    kind: int
    dims: tuple[int, ...]
    name: str
    data: memoryview

    def numbers(self) -> np.ndarray:
        """Return the array of a numeric class.

        Raises:
            ValueError: the data are not `dims` numbers.
        """
        kind, data, _ = _element(self.data)
        if kind not in NUMBERS:
            raise ValueError(f"an array of type {kind}")
        numbers = np.frombuffer(data, f"<{NUMBERS[kind]}")
        if len(numbers) != prod(self.dims):
            raise ValueError(f"{len(numbers)} numbers in an array of {' x '.join(map(str, self.dims))}")
        return numbers.reshape(self.dims, order="F")

    def text(self) -> str:
        """Return the characters of an array of text."""
        if self.kind != CHAR or prod(self.dims) > MANY:
            raise ValueError("a name that is no text")
        return "".join(map(chr, self.numbers().ravel(order="F").tolist()))

    def fields(self) -> Iterator[dict[str, "Matrix"]]:
        """Yield the fields of each element of an array of structures, or of a cell array of single ones."""
        if self.kind == CELL:
            yield from self._fields_of_cells()
            return
        if self.kind != STRUCT:
            raise ValueError(f"an array of class {self.kind} instead of a structure")
        _, width, rest = _element(self.data)
        _, names, rest = _element(rest)
        [width] = struct.unpack("<i", width)
        if width < 1 or len(names) // width > MANY or prod(self.dims) > MANY:
            raise ValueError("a structure with too many fields or elements")
        keys = [_until_zero(names[at : at + width]) for at in range(0, len(names), width)]
        for _ in range(prod(self.dims)):
            values = {}
            for key in keys:
                kind, data, rest = _element(rest)
                if kind != MATRIX:
                    raise ValueError(f"a field of type {kind}")
                values[key] = data
            yield {key: _matrix(data) for key, data in values.items() if len(data)}

    def _fields_of_cells(self) -> Iterator[dict[str, "Matrix"]]:
        if prod(self.dims) > MANY:
            raise ValueError("a cell array with too many elements")
        rest = self.data
        for _ in range(prod(self.dims)):
            _, data, rest = _element(rest)
            cell = _matrix(data)
            if cell.kind != STRUCT:
                raise ValueError(f"a cell of class {cell.kind} instead of a structure")
            yield from cell.fields()


def _parameters(content: bytes) -> Iterator[tuple[str, np.ndarray]]:
    version = content[124:128]
    if version != b"\x00\x01IM":
        raise ValueError("it does not begin like one (level 5, little-endian)")
    rest, left = memoryview(content)[HEADER:], LIMIT
    for _ in range(MANY):
        if not len(rest):
            break
        kind, data, rest = _element(rest)
        if kind == COMPRESSED:
            unpacked = zlib.decompressobj().decompress(data, left)
            left -= len(unpacked)
            if left <= 0:
                raise ValueError(f"it unpacks to more than {LIMIT} bytes")
            kind, data, _ = _element(memoryview(unpacked))
        if kind == MATRIX and (matrix := _matrix(data)).name == "net":
            for net in matrix.fields():
                if "params" not in net:
                    raise ValueError("its net has no params")
                for parameter in net["params"].fields():
                    if not {"name", "value"} <= parameter.keys():
                        raise ValueError("a parameter without name or value")
                    yield parameter["name"].text(), parameter["value"].numbers()
            return
    raise ValueError("it holds no variable net")


def _laid_out(name: str, value: np.ndarray) -> Tensor:
    value = value.astype(np.float32)
    if not name.endswith("_f"):
        return torch.from_numpy(value.ravel(order="F"))
    if value.ndim > 4:
        raise ValueError(f"{name[:80]} has {value.ndim} dimensions")
    # MATLAB drops trailing dimensions of 1.
    filters = value.reshape(value.shape + (1,) * (4 - value.ndim))
    return torch.from_numpy(np.ascontiguousarray(filters.transpose(3, 2, 0, 1)))


def _element(data: memoryview) -> tuple[int, memoryview, memoryview]:
    """Return the type and the data of the first element, and the bytes after it."""
    kind, size = struct.unpack_from("<II", data)
    if kind >> 16:
        # Four bytes or less are stored in the place of the length.
        kind, size = kind & 0xFFFF, kind >> 16
        start, stop = 4, 8
    else:
        start = 8
        # All but compressed elements are padded to multiples of 8 bytes.
        stop = start + (size if kind == COMPRESSED else -(-size // 8) * 8)
    if start + size > len(data):
        raise ValueError("it is cut short")
    return kind, data[start : start + size], data[stop:]


def _matrix(data: memoryview) -> Matrix:
    _, flags, rest = _element(data)
    _, dims, rest = _element(rest)
    _, name, rest = _element(rest)
    kind = struct.unpack_from("<I", flags)[0] & 0xFF
    sizes = struct.unpack(f"<{len(dims) // 4}i", dims[: len(dims) // 4 * 4])
    if min(sizes, default=0) < 0 or len(sizes) > 32:
        raise ValueError("an array with negative or too many dimensions")
    return Matrix(kind, sizes, _until_zero(name), rest)


def _until_zero(text: memoryview) -> str:
    return bytes(text).partition(b"\0")[0].decode("latin-1")
