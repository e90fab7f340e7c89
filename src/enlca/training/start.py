"""The weights that a run begins with: another run's, also where its network differs a little."""

import torch

from enlca.checkpoint.file import load_file
from enlca.checkpoint.store import load_model, locate
from enlca.errors import ConfigError
from enlca.models import CustomConfig
from enlca.network.layers import residual_blocks
from enlca.network.sr import SRConfig, SRNetwork
from enlca.network.state_dict import misfits
from enlca.training.config import TrainConfig
from enlca.training.loop import Training
from enlca.training.objective import build_network


def load_weights(config: TrainConfig) -> dict[str, torch.Tensor]:
    """Return the tensors of `run.start_from`, under the names of the run's network.

    The upsampler may be another, and non-local blocks may be missing: then all are, and those of the run's
    network begin with an output of zero. Where the weight of a branch is another (`res_scale`,
    `attention_scale`), the convolution that the branch ends with, or its values, make up for it, so that the
    run begins with what the checkpoint computes.

    Raises:
        CheckpointError: if there is no such model, or the file is not a checkpoint.
        ConfigError: if it holds another network.
    """
    path = config.run.start_from
    assert path is not None
    with torch.random.fork_rng(devices=[]):
        # Inserted blocks begin as they would in a run of this seed.
        torch.manual_seed(config.run.seed)
        if isinstance(config.network, CustomConfig):
            spec = f"{config.network.build}@{path}"
            tensors = load_model(spec, config.network.scale).model.state_dict()
            own = {name: x.shape for name, x in build_network(config.network).state_dict().items()}
            if problems := misfits(tensors, own):
                raise ConfigError(f"run.start_from: {path} holds another network: it {problems}")
            return tensors
        source = load_file(locate(path, config.network.scale))[0]
        target = SRNetwork(config.network)
    found, own = _rescaled(source, config.network), target.state_dict()
    tensors = found
    if not source.non_local_blocks:
        tensors = {name: tensor for name, tensor in found.items() if not name.startswith("body.")}
        blocks, own_blocks = residual_blocks(source), residual_blocks(target)
        if len(blocks) != len(own_blocks):
            raise ConfigError(
                f"run.start_from: {path} holds another network ({len(blocks)} residual blocks there,"
                f" {len(own_blocks)} here)"
            )
        for own_name, (name, block) in zip(own_blocks, blocks.items(), strict=True):
            tensors |= {f"{own_name}.{key}": found[f"{name}.{key}"] for key in block.state_dict()}
        for name, tensor in own.items():
            if ".embed." in name or ".attend." in name:
                tensors[name] = torch.zeros_like(tensor) if ".embed.value." in name else tensor
    fitting = {
        name: tensor for name, tensor in tensors.items() if name in own and own[name].shape == tensor.shape
    }
    rest = (tensors.keys() | own.keys()) - fitting.keys()
    if rest := sorted(name for name in rest if not name.startswith("upsampler.")):
        raise ConfigError(f"run.start_from: {path} holds another network ({rest[0]} does not fit)")
    return fitting


def _rescaled(source: SRNetwork, target: SRConfig) -> dict[str, torch.Tensor]:
    """Return the tensors of `source`, for the weights that its branches have in `target`."""
    tensors = source.state_dict()
    for end, field in ((".second.", "res_scale"), (".embed.value.", "attention_scale")):
        old, new = getattr(source.config, field), getattr(target, field)
        if new not in (0, old):
            tensors |= {name: tensor * (old / new) for name, tensor in tensors.items() if end in name}
    return tensors


def begin_with(training: Training, tensors: dict[str, torch.Tensor]) -> None:
    """Copy weights into a run's network and its average."""
    for network in (training.network, training.averaged):
        network.load_state_dict(tensors, strict=False)
