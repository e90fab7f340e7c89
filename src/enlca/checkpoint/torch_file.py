"""Read untrusted files of `torch.save`: tensors by name, without running code.

A pickle is a program. PyTorch's `weights_only=True` runs only the part of it that rebuilds tensors;
`pickle_reader` checks beforehand what it describes; this module turns errors into one line and takes the
state dict out of what training code stores around it.
"""

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from enlca.checkpoint.pickle_reader import DAMAGED, FOREIGN, inspect_file
from enlca.errors import CheckpointError

# The entries under which training code keeps weights: the average before the last ones.
WRAPPERS = ("params_ema", "params", "state_dict", "model_state_dict", "model")
# DataParallel puts this before every name.
PREFIX = "module."


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a state dict in a `.pt` file, on the CPU.

    Raises:
        CheckpointError: the file is missing, damaged or unsafe, or holds anything else.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint file")
    try:
        _check_start(path)
        inspect_file(path)
        with warnings.catch_warnings():
            # PyTorch warns of unusual pickles just before it refuses them.
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
        return _named_tensors(unwrapped(content))
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    except pickle.UnpicklingError as error:
        # PyTorch's own message recommends to read it unsafely.
        asked = re.search(r"GLOBAL ([\w.]{1,80})", str(error)[:1000])
        why = f"not a file of tensors alone; reading it would run {asked[1]}: refused" if asked else FOREIGN
        raise CheckpointError(f"{path}: {why}") from error
    except Exception as error:
        # A damaged pickle can cause any error.
        raise CheckpointError(f"{path}: {DAMAGED}") from error


def unwrapped(content: Any) -> Any:
    """Return the state dict inside a training state, its names without DataParallel's prefix."""
    for _ in range(3):
        inner = [content[key] for key in WRAPPERS if key in content] if isinstance(content, Mapping) else []
        if not inner or not isinstance(inner[0], Mapping):
            break
        content = inner[0]
    if isinstance(content, Mapping) and content and all(str(name).startswith(PREFIX) for name in content):
        return {str(name).removeprefix(PREFIX): value for name, value in content.items()}
    return content


def shown(name: object) -> str:
    """Return a name from an untrusted file, cut to a length that fits a line."""
    text = repr(name[:60] if isinstance(name, str) else name)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _check_start(path: Path) -> None:
    """Refuse all but zip archives and the bare pickles that PyTorch wrote before version 1.6."""
    with path.open("rb") as file:
        start = file.read(2)
    if not start:
        raise CheckpointError("the file is empty (0 bytes)")
    if start != b"PK" and start[:1] != b"\x80":
        raise CheckpointError(
            "not a file that PyTorch wrote, nor .safetensors, MatConvNet's or ncnn's weights"
        )


def _named_tensors(content: object) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        raise CheckpointError(f"holds a {type(content).__name__}, not tensors by name")
    for name, value in content.items():
        if not isinstance(name, str):
            raise CheckpointError(f"holds something called {shown(name)}, which is not a text")
        if not isinstance(value, Tensor):
            kind = type(value).__name__
            raise CheckpointError(f"holds {shown(name)}, which is not a tensor but of type {kind}")
        if value.is_complex() or value.layout != torch.strided or value.is_meta:
            raise CheckpointError(f"holds {shown(name)}, which is not a dense tensor of real numbers")
    refuse_empty(content)
    return dict(content)


def refuse_empty(tensors: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError for an empty tensor: sizes of a network are deduced from shapes."""
    for name, tensor in tensors.items():
        if not tensor.numel():
            raise CheckpointError(f"holds {shown(name)} of shape {list(tensor.shape)}, which is empty")
