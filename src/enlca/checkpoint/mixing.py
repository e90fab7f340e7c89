"""Weights between two models of one ancestor: how much a picture is repaired, as one number.

Networks that were trained on from the same weights lie in one valley of the loss, and so does the line
between them (Wang et al. 2019, Deep Network Interpolation).
"""

import os

from enlca.checkpoint.store import load_model
from enlca.errors import CheckpointError
from enlca.network.sr import SRNetwork


def mix(
    base: str | os.PathLike[str], model: str | os.PathLike[str], *, strength: float, scale: int | None = None
) -> SRNetwork:
    """Return base + strength (model - base), of the weights of two networks with the same settings.

    Buffers such as random features, whose means would mean nothing, are those of the nearer model.

    Args:
        base: a name or a file, as `load_model` takes; `strength` 0 returns it.
        model: another; `strength` 1 returns it.
        strength: from 0 to 1.
        scale: of both.

    Raises:
        CheckpointError: a model cannot be loaded, is not a network of enlca's own, or the settings differ.
        ValueError: `strength` is outside [0, 1].
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must be in [0, 1], got {strength}")
    ends = [load_model(base, scale).model, load_model(model, scale).model]
    for name, network in zip((base, model), ends, strict=True):
        if not isinstance(network, SRNetwork):
            raise CheckpointError(f"{name}: strength mixes networks of enlca's own, and this is another")
    first, last = ends
    assert isinstance(first, SRNetwork)
    assert isinstance(last, SRNetwork)
    there, here = first.config.to_dict(), last.config.to_dict()
    if differ := [f"{key} {there[key]} and {here[key]}" for key in here if there[key] != here[key]]:
        raise CheckpointError(f"{base} and {model} cannot be mixed: they differ in {', '.join(differ)}")
    nearer = last if strength >= 0.5 else first
    others = dict((first if nearer is last else last).named_parameters())
    share = min(strength, 1 - strength)
    for name, parameter in nearer.named_parameters():
        parameter.data.lerp_(others[name].data, share)
    return nearer
