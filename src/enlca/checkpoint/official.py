"""The authors' released checkpoints (`.pt`): their names to ours and back, strictly.

Their body is one list, where ours has stages:

    theirs  body.0      body.1 .. body.8         body.9      ...  body.36     body.37
    ours    body.0      body.1.0 .. body.1.7     body.2      ...  body.8      fuse
            attention   residual blocks          attention        attention   convolution

Their MeanShift layers are 1 x 1 convolutions that shift by a constant; ours is `SRConfig.mean`.

Settings that the shapes do not show are fixed in the released code: they are assumed on reading, and a
network that differs in one of them is refused on writing.
"""

import io
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from enlca.checkpoint.edsr import mean_shifts, to_edsr
from enlca.checkpoint.torch_file import read_tensors, unwrapped
from enlca.errors import CheckpointError
from enlca.network.sr import DIV2K_MEAN, SRConfig, SRNetwork
from enlca.network.state_dict import misfits
from enlca.runtime.files import write_atomically

# NOTE(released): the 1e-4 floor and eps 5e-5 are not in the paper.
RELEASED: dict[str, Any] = {
    "attention": "linear",
    "blocks_per_stage": 8,
    "amplification": 6.0,
    "embed_kernel": 1,
    "embed_eps": 5e-5,
    "feature_floor": 1e-4,
    "res_scale": 0.1,
    "attention_scale": 0.1,
    "upsampler": "stepwise",
    "skip": "none",
    "mean": DIV2K_MEAN,
}

# NOTE(released): how the released code trains; ranks are counts there, whatever N.
TRAINING = {
    "code": "released",
    "n1": 15,
    "n2": 50,
    "margin": 1.0,
    "hinge": True,
    "irrelevant_floor": 1e-6,
    "contrast_weight": 1e-3,
    "contrast_after_epoch": 100,
}

RENAMES = [  # ours, by position in their body (see `_by_position`) -> the authors'
    (r"head\.(\w+)", r"head.0.\1"),
    (r"body\.(\d+)\.embed\.query\.(\w+)", r"body.\1.conv_match1.0.\2"),
    (r"body\.(\d+)\.embed\.key\.(\w+)", r"body.\1.conv_match2.0.\2"),
    (r"body\.(\d+)\.embed\.value\.(\w+)", r"body.\1.conv_assembly.0.\2"),
    (r"body\.(\d+)\.attend\.projection", r"body.\1.attn_fn.projection_matrix"),
    (r"body\.(\d+)\.first\.(\w+)", r"body.\1.body.0.\2"),
    (r"body\.(\d+)\.second\.(\w+)", r"body.\1.body.2.\2"),
    (r"body\.(\d+)\.fuse\.(\w+)", r"body.\1.\2"),
    (r"upsampler\.(\d+)\.(\w+)", r"tail.0.\1.\2"),
    (r"to_rgb\.(\w+)", r"tail.1.\1"),
]


def load_official(path: str | os.PathLike[str]) -> SRNetwork:
    """Return the network of an authors' `.pt` file, in float32 and evaluation mode.

    Raises:
        CheckpointError: the file is missing, damaged, unsafe, or not a released ENLCN's.
    """
    state = read_tensors(Path(path))
    try:
        return network_of(state)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def network_of(state: Mapping[str, Tensor]) -> SRNetwork:
    """Return the network of an authors' state dict, in float32 and evaluation mode.

    Raises:
        CheckpointError: as `from_official`.
    """
    config, tensors = from_official(state)
    with torch.random.fork_rng(devices=[]):
        network = SRNetwork(config)
    network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return network.eval()


def save_official(network: SRNetwork, path: str | os.PathLike[str]) -> None:
    """Write `network` as its authors' code stores it (EDSR's without attention), whole or not at all.

    Raises:
        CheckpointError: that code has no such network.
    """
    try:
        if network.config.attention == "none":
            state = to_edsr(network)
        else:
            state = to_official(network.config, network.state_dict())
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    buffer = io.BytesIO()
    torch.save({name: x.detach().to("cpu", torch.float32).contiguous() for name, x in state.items()}, buffer)
    write_atomically(Path(path), buffer.getvalue())


def from_official(state: Mapping[str, Tensor]) -> tuple[SRConfig, dict[str, Tensor]]:
    """Return the settings and our state dict of an authors' state dict; sizes follow from the shapes.

    Raises:
        CheckpointError: missing, unexpected or mis-shaped tensors, or images of another mean or range.
    """
    state = unwrapped(state)
    try:
        config = _deduce(state)
    except ValueError as error:
        raise CheckpointError(f"not a released ENLCN: {error}") from error
    names, shapes, shifts = official_names(config), _shapes(config), mean_shifts(1.0)
    expected = {name: tensor.shape for name, tensor in shifts.items()}
    expected |= {names[name]: shape for name, shape in shapes.items()}
    _check(state, expected, what="a released ENLCN")
    for name, tensor in state.items():
        if not tensor.is_floating_point():
            raise CheckpointError(f"holds {name!r}, which is not a tensor of floating-point numbers")
    for name, shift in shifts.items():
        if not torch.equal(state[name].cpu(), shift.to(state[name].dtype)):
            raise CheckpointError(
                f"{name} is {_numbers(state[name])} instead of {_numbers(shift)}: only networks for pictures"
                " in [0, 1] (rgb_range 1) less DIV2K's mean can be read"
            )
    return config, {ours: state[theirs] for ours, theirs in names.items()}


def to_official(config: SRConfig, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the authors' state dict of a network with these settings and our state dict.

    Raises:
        CheckpointError: the released code has no such network, or `state` is not one with these settings.
    """
    strange = [
        f"{setting} {fixed!r}, and this network {getattr(config, setting)!r}"
        for setting, fixed in RELEASED.items()
        if getattr(config, setting) != fixed
    ]
    if strange:
        raise CheckpointError(f"no place in the authors' layout, which has {'; '.join(strange)}")
    _check(state, _shapes(config), what="the state dict of these settings")
    return mean_shifts(1.0) | {theirs: state[ours] for ours, theirs in official_names(config).items()}


def official_names(config: SRConfig) -> dict[str, str]:
    """Return the authors' name of each tensor in our state dict."""
    names = {}
    for ours in _shapes(config):
        by_position = _by_position(ours, config)
        [names[ours]] = (
            match.expand(theirs)
            for pattern, theirs in RENAMES
            if (match := re.fullmatch(pattern, by_position))
        )
    return names


def _by_position(name: str, config: SRConfig) -> str:
    """Return our `name` with its position in their body; `to_rgb` is the upsampler's last convolution."""
    period = config.blocks_per_stage + 1
    if name.startswith("fuse."):
        return f"body.{period * (config.n_blocks // config.blocks_per_stage) + 1}.{name}"
    if match := re.fullmatch(r"body\.(\d+)\.(?:(\d+)\.)?(\D.*)", name):
        stage, block, rest = match.groups()
        return f"body.{period * (int(stage) // 2) + (0 if block is None else 1 + int(block))}.{rest}"
    return name.replace(f"upsampler.{4 if config.scale == 4 else 2}.", "to_rgb.")


def _deduce(state: Mapping[str, Tensor]) -> SRConfig:
    """Return settings from some of the shapes; the caller checks whether all tensors fit."""

    def rows(name: str) -> int:
        if name not in state:
            raise ValueError(f"it lacks {name}")
        return state[name].shape[0] if state[name].ndim else 0

    positions = (re.match(r"body\.([0-9]{1,9})\.", name) for name in state)
    last = max((int(match[1]) for match in positions if match), default=0)
    if last > len(state):
        raise ValueError(f"it has an unexpected body.{last}")
    channels = rows("head.0.weight")
    four = any(name.startswith("tail.0.2.") for name in state)
    return SRConfig(
        scale=3 if rows("tail.0.0.weight") == 9 * channels else 4 if four else 2,
        channels=channels,
        # Nine entries to a stage, then attention and the last convolution; rounded up, so that a file
        # without its end is told what it lacks.
        n_blocks=8 * max(1, -(-(last - 1) // 9)),
        embed_channels=rows("body.0.conv_match1.0.weight"),
        n_features=rows("body.0.attn_fn.projection_matrix"),
        **RELEASED,
    )


@lru_cache(maxsize=4)
def _shapes(config: SRConfig) -> dict[str, torch.Size]:
    # On the meta device; random features are drawn all the same, without effect on the global generator.
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return {name: tensor.shape for name, tensor in SRNetwork(config).state_dict().items()}


def _check(found: Mapping[str, Tensor], expected: Mapping[str, torch.Size], *, what: str) -> None:
    if problems := misfits(found, expected):
        raise CheckpointError(f"not {what}: it {problems}")


def _numbers(tensor: Tensor) -> str:
    return f"({', '.join(f'{x:.4g}' for x in tensor.flatten().tolist())})"
