"""Name what is wrong with the tensors of a file: what does not fit a network, and what is not finite."""

from collections.abc import Mapping

import torch


def misfits(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Size]) -> str:
    """Return the first three of the missing, unexpected and mis-shaped tensors; empty if there are none."""
    problems = [f"lacks {name}" for name in expected if name not in found]
    problems += [f"has an unexpected {name}" for name in found if name not in expected]
    problems += [
        f"has {name} of shape {list(found[name].shape)} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in found and found[name].shape != shape
    ]
    more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
    return "; ".join(problems[:3]) + more


def nonfinite(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the name of the first tensor that holds NaN or infinity; empty if none does."""
    return next((name for name, tensor in tensors.items() if not tensor.isfinite().all()), "")
