"""EDSR's published checkpoints (Lim et al. 2017): their names and pictures in 0..255 to ours and back.

    theirs  head.0   body.0 .. body.31   body.32       tail.0.{0,2}   tail.1
    ours    head     body.0.0 ..         fuse          upsampler.{0,2}, ..
            conv     residual blocks     convolution   pixel shuffles conv to RGB

Their network sees 0..255 less the mean, ours [0, 1]: f(255 x) / 255 is the same network with 255 times the
first convolution's weights, and the last convolution's weights and bias over 255. MeanShift layers are 1 x 1
convolutions that shift by a constant.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from enlca.errors import CheckpointError
from enlca.network.sr import DIV2K_MEAN, SRConfig, SRNetwork
from enlca.network.state_dict import misfits

RANGES = (255.0, 1.0)


def looks_like(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has EDSR's residual blocks, and not those of RCAN or ENLCN."""
    return {"head.0.weight", "body.0.body.0.weight", "body.0.body.2.weight"} <= state.keys() and not any(
        re.match(r"body\.\d+\.(body\.[^02]|conv_match1)", name) for name in state
    )


def from_edsr(state: Mapping[str, Tensor]) -> SRNetwork:
    """Return the network of a published state dict, in float32 and evaluation mode; sizes follow from shapes.

    The weight of the residual branches does not: it is 0.1 for 256 channels or more, else 1, as published.

    Raises:
        CheckpointError: missing, unexpected or mis-shaped tensors, or pictures of another mean or range.
    """
    try:
        config = _deduce(state)
    except ValueError as error:
        raise CheckpointError(f"not an EDSR: {error}") from error
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in SRNetwork(config).state_dict().items()}
    names, shifts = edsr_names(config), mean_shifts(255.0)
    expected = {name: tensor.shape for name, tensor in shifts.items()}
    expected |= {names[name]: shape for name, shape in shapes.items()}
    if problems := misfits(state, expected):
        raise CheckpointError(f"not an EDSR: it {problems}")
    full = _range_of(state)
    with torch.random.fork_rng(devices=[]):
        network = SRNetwork(config)
    tensors = {ours: state[theirs].float() for ours, theirs in names.items()}
    network.load_state_dict(_rescaled(tensors, config, full))
    return network.eval()


def to_edsr(network: SRNetwork) -> dict[str, Tensor]:
    """Return the published state dict of a network, for pictures in 0..255.

    Raises:
        CheckpointError: EDSR's code has no such network.
    """
    config = network.config
    needed = {"attention": "none", "upsampler": "stepwise", "skip": "none", "mean": DIV2K_MEAN}
    needed["res_scale"] = _res_scale(config.channels)
    for setting, fixed in needed.items():
        if (found := getattr(config, setting)) != fixed:
            raise CheckpointError(
                f"no place in EDSR's layout, which has {setting} {fixed!r}, and this network {found!r}"
            )
    state = _rescaled(network.state_dict(), config, 1 / 255)
    return mean_shifts(255.0) | {theirs: state[ours] for ours, theirs in edsr_names(config).items()}


def edsr_names(config: SRConfig) -> dict[str, str]:
    """Return the published name of each tensor in our state dict."""
    names = {"head": "head.0", "fuse": f"body.{config.n_blocks}", _to_rgb(config): "tail.1"}
    names["upsampler.0"] = "tail.0.0"
    if config.scale == 4:
        names["upsampler.2"] = "tail.0.2"
    for block in range(config.n_blocks):
        ours = f"body.{block // config.blocks_per_stage}.{block % config.blocks_per_stage}"
        names |= {f"{ours}.first": f"body.{block}.body.0", f"{ours}.second": f"body.{block}.body.2"}
    return {
        f"{ours}.{kind}": f"{theirs}.{kind}" for ours, theirs in names.items() for kind in ("weight", "bias")
    }


def _to_rgb(config: SRConfig) -> str:
    return f"upsampler.{4 if config.scale == 4 else 2}"


def _res_scale(channels: int) -> float:
    return 0.1 if channels >= 256 else 1.0


def _deduce(state: Mapping[str, Tensor]) -> SRConfig:
    def rows(name: str) -> int:
        if name not in state:
            raise ValueError(f"it lacks {name}")
        return state[name].shape[0] if state[name].ndim else 0

    blocks = sum(bool(re.fullmatch(r"body\.[0-9]+\.body\.0\.weight", name)) for name in state)
    channels = rows("head.0.weight")
    return SRConfig(
        scale=3 if rows("tail.0.0.weight") == 9 * channels else 4 if "tail.0.2.weight" in state else 2,
        channels=channels,
        n_blocks=blocks,
        blocks_per_stage=8 if blocks % 8 == 0 else max(1, blocks),
        attention="none",
        res_scale=_res_scale(channels),
    )


def mean_shifts(full: float) -> dict[str, Tensor]:
    """Return the published tensors that take DIV2K's mean from pictures up to `full`, and put it back."""
    identity, mean = torch.eye(3).view(3, 3, 1, 1), full * torch.tensor(DIV2K_MEAN)
    return {
        "sub_mean.weight": identity,
        "sub_mean.bias": -mean,
        "add_mean.weight": identity.clone(),
        "add_mean.bias": mean,
    }


def _range_of(state: Mapping[str, Tensor]) -> float:
    """Return the largest level of the pictures, which the mean shifts tell."""
    for full in RANGES:
        shifts = mean_shifts(full).items()
        if all(torch.allclose(state[name].float(), shift, rtol=1e-3, atol=1e-5) for name, shift in shifts):
            return full
    raise CheckpointError("an EDSR for another mean or range of pictures than DIV2K's in 0..255 or [0, 1]")


def _rescaled(state: Mapping[str, Tensor], config: SRConfig, full: float) -> dict[str, Tensor]:
    """Return the tensors of the network x -> f(full x) / full, f being `state`'s."""
    changed = dict(state)
    changed["head.weight"] = state["head.weight"] * full
    for kind in ("weight", "bias"):
        changed[f"{_to_rgb(config)}.{kind}"] = state[f"{_to_rgb(config)}.{kind}"] / full
    return changed
