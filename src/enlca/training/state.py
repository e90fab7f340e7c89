"""The saved state of a run: one file that is written whole or not at all.

Random choices are functions of (seed, step), so a step number stands for all generators and for the
place in the data; the learning rate is a function of the step, too. What remains are tensors.
"""

import io
import os
import sys
from pathlib import Path
from typing import Any

import torch

from enlca.errors import StateError
from enlca.runtime.files import write_atomically

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
FORMAT = 1


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Write `last.ckpt`; what it was before becomes `previous.ckpt`.

    Raises:
        OSError: if it cannot be written; both files are then as they were.
    """
    buffer = io.BytesIO()
    torch.save(_plain({"format": FORMAT, **state}), buffer)
    new = folder / ".next.ckpt"
    write_atomically(new, buffer.getvalue())
    if (folder / LAST).exists():
        os.replace(folder / LAST, folder / PREVIOUS)
    os.replace(new, folder / LAST)


def _plain(value: Any) -> Any:
    """Copy the content into new objects, so that equal states are equal bytes.

    A pickle says of two strings whether they are one object, and objects change when they are loaded.
    """
    if isinstance(value, str):
        return sys.intern(value)
    if isinstance(value, dict):
        return {_plain(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(inner) for inner in value)
    return value


def read_state(folder: Path) -> tuple[dict[str, Any] | None, str | None]:
    """Return the newest readable state, and a remark if that is not `last.ckpt`; None if nothing was saved.

    Raises:
        StateError: if files are there but none can be read, a later version of enlca wrote them, or the step
            is no count.
    """
    problems = []
    # Between the two renames of `write_state` the newest is called `.next.ckpt`; it is complete.
    for name in (LAST, ".next.ckpt", PREVIOUS):
        path = folder / name
        if not path.exists():
            continue
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch.load has no error of its own for a damaged file
            problems.append(f"{path} is damaged ({' '.join(str(error).split())[:80]})")
            continue
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            found = state.get("format") if isinstance(state, dict) else None
            raise StateError(f"{path}: state format {found}, this version of enlca reads {FORMAT}")
        step = state.get("step")
        if type(step) is not int or step < 0:
            raise StateError(f"{path}: its step is {str(step)[:40]!r}, not a count of steps")
        remark = f"{problems[0]}; going on from {name}, step {state['step']}" if problems else None
        return state, remark
    if problems:
        raise StateError(f"{'; '.join(problems)}: nothing to go on from")
    return None, None
