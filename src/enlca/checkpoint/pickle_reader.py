"""Look into an untrusted file of `torch.save` before PyTorch reads it; nothing is run or allocated.

PyTorch's `weights_only=True` runs no foreign code, but it believes sizes: some kilobytes of pickle can ask
for gigabytes or compute for minutes. The few opcodes that a state dict is made of are interpreted here with
placeholders for tensors, and the file is refused if it describes more than it can hold.
"""

import math
import pickletools
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any

import torch

from enlca.errors import CheckpointError

# A network of 1,000 tensors, with the state of Adam, has 0.1 million opcodes in 0.3 MB.
MOST_OPCODES = 250_000
MOST_BYTES = 8 << 20
# Of the items of a tuple, those of tuples inside it counted as often as they are met.
MOST_ITEMS = 10_000
ITEMSIZES = {"Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2}
DAMAGED = "damaged or cut short, get a whole copy"
FOREIGN = "not a file of tensors alone; its pickle is damaged or foreign"


@dataclass(frozen=True)
class Storage:
    """The memory of tensors: its key in the file, and how many elements of which type it has."""

    key: str
    numel: int
    itemsize: int


@dataclass(frozen=True)
class Placeholder:
    """A tensor in a pickle: where its elements are, and its size."""

    storage: Storage
    size: tuple[int, ...]


@dataclass(frozen=True)
class _Global:
    """A name that the pickle asks for."""

    name: str


class _Tuple(tuple):
    """A tuple that knows the number of items in it, counted through tuples inside."""

    def __new__(cls, items: Any) -> "_Tuple":
        made = super().__new__(cls, items)
        made.items = 1 + sum(item.items if isinstance(item, _Tuple) else 1 for item in made)
        if made.items > MOST_ITEMS:
            raise CheckpointError(FOREIGN)
        return made

    items: int


_OPAQUE = object()
_MARK = object()
_TENSOR = {"torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor"}
_PARAMETER = "torch._utils _rebuild_parameter"
_PLAIN = {"collections OrderedDict", "collections Counter", "torch Size", "torch device", "builtins set"}
_PLAIN |= {"__builtin__ set", "torch.serialization _get_layout"}
# A tensor without numbers: read, to be refused by its name.
_META = "torch._utils _rebuild_meta_tensor_no_storage"


def inspect_file(path: Path) -> None:
    """Check that a file of `torch.save` describes tensors that fit into it.

    Raises:
        CheckpointError: it is damaged, asks for code, or describes more than it holds.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(2) == b"PK":
            content, stored = _inspect_zip(file, size)
        else:
            file.seek(0)
            content, stored = _inspect_legacy(file), None
    elements = 0
    for tensor in _tensors(content):
        storage, numel = tensor.storage, math.prod(tensor.size)
        held = size if stored is None else stored.get(storage.key, 0)
        if numel > storage.numel or storage.numel * storage.itemsize > held:
            raise CheckpointError(f"describes a tensor of shape {list(tensor.size)}, which it does not hold")
        elements += numel
    if elements > size:
        raise CheckpointError(f"describes {elements:,} numbers in {size:,} bytes")


def _inspect_zip(file: BufferedReader, size: int) -> tuple[Any, dict[str, int]]:
    """Return the content with placeholders, and the bytes of each storage by its key."""
    if _directory_bytes(file, size) > MOST_BYTES:
        raise CheckpointError("has far more parts than a network has tensors")
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if any(entry.compress_type or entry.compress_size != entry.file_size for entry in entries):
            raise CheckpointError("its parts are compressed, which PyTorch never does")
        if sum(entry.file_size for entry in entries) > size:
            raise CheckpointError("its parts overlap")
        # torch.load itself does not look at the checksums.
        if broken := archive.testzip():
            raise zipfile.BadZipFile(broken)
        [pickle] = [entry for entry in entries if entry.filename.rpartition("/")[2] == "data.pkl"]
        if pickle.file_size > MOST_BYTES:
            raise CheckpointError("its pickle describes far more than a network")
        folder = f"{pickle.filename.removesuffix('data.pkl')}data/"
        stored = {
            entry.filename.removeprefix(folder): entry.file_size
            for entry in entries
            if entry.filename.startswith(folder)
        }
        return scan(BytesIO(archive.read(pickle))), stored


def _directory_bytes(file: BufferedReader, size: int) -> int:
    """Return the size of a zip archive's directory, which `zipfile` would read whole."""
    file.seek(max(0, size - (1 << 16) - 22))
    end = file.read()
    at = end.rfind(b"PK\5\6")
    if at < 0 or at + 16 > len(end):
        raise CheckpointError(DAMAGED)
    length = struct.unpack("<L", end[at + 12 : at + 16])[0]
    at = end.rfind(b"PK\6\6")
    if length == 0xFFFFFFFF and 0 <= at <= len(end) - 48:
        length = struct.unpack("<Q", end[at + 40 : at + 48])[0]
    file.seek(0)
    return length


def _inspect_legacy(file: BufferedReader) -> Any:
    """Return the content with placeholders, of the layout before PyTorch 1.6: pickles, then storages."""
    start = BytesIO(file.read(MOST_BYTES))
    content = scan(start)
    # A number that marks the layout, its version and the machine come first.
    if isinstance(content, int):
        for _ in range(3):
            content = scan(start)
    return content


def _tensors(content: Any) -> list[Placeholder]:
    """Return all placeholders in dictionaries, lists and tuples, each once for each place."""
    found, seen, left = [], set(), [content]
    while left:
        item = left.pop()
        if isinstance(item, Placeholder):
            found.append(item)
        elif isinstance(item, (dict, list, tuple)) and id(item) not in seen:
            seen.add(id(item))
            left += item.values() if isinstance(item, dict) else item
    return found


def scan(file: BytesIO) -> Any:
    """Return the object that a pickle describes, with placeholders for tensors; the file is then behind it.

    Raises:
        CheckpointError: it is damaged, asks for code, or holds what no state dict has.
    """
    machine = _Machine()
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if count > MOST_OPCODES:
                raise CheckpointError("its pickle describes far more than a network")
            machine.run(opcode.name, argument)
        return machine.stack[-1]
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise CheckpointError(DAMAGED) from error


class _Machine:
    """The stack and the memo of a pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, name: str, argument: Any) -> None:
        """Carry out one opcode."""
        stack = self.stack
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in _ARGUMENTS:
            stack.append(argument)
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            stack.append(_Tuple(self.pop(int(name[-1]))))
        elif name == "TUPLE":
            stack.append(_Tuple(self.pop_to_mark()))
        elif name in ("SETITEM", "SETITEMS"):
            items = self.pop(2) if name == "SETITEM" else self.pop_to_mark()
            for key, value in zip(items[::2], items[1::2], strict=True):
                if not isinstance(key, (str, int)):
                    raise CheckpointError("holds a dictionary whose keys are not texts")
                stack[-1][key] = value
        elif name in ("APPEND", "APPENDS"):
            items = self.pop(1) if name == "APPEND" else self.pop_to_mark()
            stack[-1].extend(items)
        elif name == "GLOBAL":
            stack.append(_Global(_allowed(argument)))
        elif name == "BINPERSID":
            stack.append(_storage(stack.pop()))
        elif name == "REDUCE":
            function, arguments = self.pop(2)
            stack.append(_call(function.name, arguments))
        elif name == "BUILD":
            # The `_metadata` of a state dict.
            stack.pop()
        elif name not in ("PROTO", "STOP"):
            raise CheckpointError(FOREIGN)

    def pop(self, count: int) -> list[Any]:
        """Take the last `count` items off the stack."""
        taken = self.stack[-count:]
        if len(taken) < count or any(item is _MARK for item in taken):
            raise ValueError("the stack is too short")
        del self.stack[-count:]
        return taken

    def pop_to_mark(self) -> list[Any]:
        """Take the items after the last mark off the stack, and the mark."""
        at = len(self.stack) - 1 - next(i for i, item in enumerate(reversed(self.stack)) if item is _MARK)
        taken = self.stack[at + 1 :]
        del self.stack[at:]
        return taken


_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": lambda: _Tuple(()),
    "MARK": lambda: _MARK,
}
_ARGUMENTS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"}


def _allowed(name: str) -> str:
    module, _, attribute = name.partition(" ")
    kind = getattr(torch, attribute, None) if module == "torch" else None
    if isinstance(kind, torch.dtype) or (
        attribute.endswith("Storage") and module in ("torch", "torch.storage")
    ):
        return name
    if name in _PLAIN or name in _TENSOR or name in (_PARAMETER, _META):
        return name
    raise CheckpointError(
        f"not a file of tensors alone; reading it would run {name[:80].replace(' ', '.')}: refused"
    )


def _storage(name: Any) -> Storage:
    """Return the storage of a persistent name: ('storage', type, key, device, number of elements, ...)."""
    word, kind, key, _, numel = name[:5]
    if word != "storage" or not isinstance(key, str) or type(numel) is not int or numel < 0:
        raise ValueError("not the name of a storage")
    # An unknown type counts as one byte; torch.load refuses it.
    return Storage(key, numel, ITEMSIZES.get(kind.name.removesuffix("Storage").rpartition(" ")[2], 1))


def _call(function: str, arguments: Any) -> Any:
    if function in _TENSOR:
        storage, _, size = arguments[:3]
        if not isinstance(storage, Storage) or any(type(side) is not int or side < 0 for side in size):
            raise ValueError("not the arguments of a tensor")
        return Placeholder(storage, tuple(size))
    if function == _PARAMETER:
        return arguments[0]
    if function == "collections OrderedDict":
        # Python 2 gives all entries as a list of pairs.
        pairs = [tuple(pair) for pair in arguments[0]] if arguments else []
        if any(not isinstance(key, (str, int)) for key, _ in pairs):
            raise CheckpointError("holds a dictionary whose keys are not texts")
        return dict(pairs)
    if function == _META:
        return _OPAQUE
    if function not in _PLAIN or any(isinstance(item, (_Tuple, _Global)) for item in arguments[1:]):
        raise CheckpointError(FOREIGN)
    return _OPAQUE
