"""Read untrusted files of `torch.save`: tensors by name, without running code.

A pickle is a program. PyTorch's `weights_only=True` runs only the part of it that rebuilds tensors; this
module turns its errors into one line and checks the result.
"""

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from enlca.errors import CheckpointError


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a state dict in a `.pt` file, on the CPU.

    Raises:
        CheckpointError: the file is missing, damaged or unsafe, or holds anything else.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint file")
    try:
        _check_container(path)
        with warnings.catch_warnings():
            # PyTorch warns of unusual pickles just before it refuses them.
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
        return _named_tensors(content)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    except pickle.UnpicklingError as error:
        # PyTorch's own message recommends to read it unsafely.
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        why = f"reading it would run {asked[1]}: refused" if asked else "its pickle is damaged or foreign"
        raise CheckpointError(f"{path}: not a file of tensors alone; {why}") from error
    except Exception as error:
        # A damaged pickle can cause any error.
        raise CheckpointError(f"{path}: damaged or cut short, get a whole copy") from error


def _check_container(path: Path) -> None:
    """Refuse all but zip archives and the bare pickles that PyTorch wrote before version 1.6."""
    with path.open("rb") as file:
        start = file.read(2)
    if not start:
        raise CheckpointError("the file is empty (0 bytes)")
    if start == b"PK":
        # torch.load itself does not look at the checksums.
        with zipfile.ZipFile(path) as archive:
            if broken := archive.testzip():
                raise zipfile.BadZipFile(broken)
    elif start[:1] != b"\x80":
        raise CheckpointError("not a file that PyTorch wrote")


def _named_tensors(content: object) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        raise CheckpointError(f"holds a {type(content).__name__}, not tensors by name")
    for name, value in content.items():
        if not isinstance(name, str):
            raise CheckpointError(f"holds something called {name!r}, which is not a text")
        if not isinstance(value, Tensor):
            raise CheckpointError(f"holds {name!r}, which is not a tensor but of type {type(value).__name__}")
        if not value.is_floating_point() or value.layout != torch.strided or value.is_meta:
            raise CheckpointError(f"holds {name!r}, which is not a dense tensor of floating-point numbers")
    return dict(content)
