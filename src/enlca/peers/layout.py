"""Methods of other papers and the layout of their published weights.

Each file of this room writes one method as an `SRModel` from its paper, and ends with a `Peer`: how it is
built, how its sizes follow from the shapes of a published file, and what its tensors are called there. Names
are mapped by tables, and loading is strict: missing, unexpected and mis-shaped tensors are all named.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from enlca.errors import CheckpointError
from enlca.network.interface import SRModel
from enlca.network.state_dict import misfits

Shapes = Mapping[str, torch.Size]


def no_check(_: SRModel) -> None:
    """Accept all numbers."""


def no_constants(_: SRModel) -> dict[str, Tensor]:
    """Return no tensors: every published tensor of the method is one of ours."""
    return {}


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A published method: how to build it, recognise its files, read and write them.

    Attributes:
        name: as in the literature, "RCAN".
        reference: authors, year and venue.
        build: returns the model: `build(scale=4, **sizes)`; the defaults are the paper's. Must work on the
            meta device.
        deduce: keyword arguments of `build` from the names and shapes of a published file. Without "scale"
            if weights serve any scale. Shapes may be hostile: counts must be bounded by the number of tensors
            and widths by the shapes of tensors that the file holds. Raises ValueError, in one line, if the
            file is not of this method.
        published: the published name of each tensor in a model's state dict.
        constants: published tensors that are no weights (mean shifts), by published name; compared on
            reading, written on writing.
        check: raises ValueError, in one line, if numbers that were read are not those of the method.
    """

    name: str
    reference: str
    build: Callable[..., SRModel]
    deduce: Callable[[Shapes], dict[str, Any]]
    published: Callable[[SRModel], dict[str, str]]
    constants: Callable[[SRModel], dict[str, Tensor]] = no_constants
    check: Callable[[SRModel], None] = no_check

    def read(self, tensors: Mapping[str, Tensor], *, scale: int | None = None) -> SRModel:
        """Return the model with the published `tensors`, in float32 and evaluation mode.

        Args:
            tensors: a published state dict.
            scale: wanted upscaling factor; None is the file's own, or the paper's if weights serve any.

        Raises:
            CheckpointError: the tensors are not this method's, or of another scale.
        """
        sizes = self._sizes(tensors)
        if scale is not None and sizes.setdefault("scale", scale) != scale:
            raise CheckpointError(f"{self.name}: upscales x{sizes['scale']}, not x{scale}")
        # Shapes are compared before memory is allocated.
        blank, shapes = self._expected(sizes)
        if problems := misfits(tensors, shapes):
            raise CheckpointError(f"not {self.name}: it {problems}")
        with torch.random.fork_rng(devices=[]):
            model = self.build(**sizes)
        names = self.published(blank)
        model.load_state_dict({ours: tensors[theirs].float() for ours, theirs in names.items()})
        for name, constant in self.constants(model).items():
            found = tensors[name].float()
            if not torch.allclose(found, constant.float(), rtol=1e-3, atol=1e-5):
                raise CheckpointError(
                    f"{self.name}: {name} is {_numbers(found)} instead of {_numbers(constant)}"
                )
        try:
            self.check(model)
        except ValueError as error:
            raise CheckpointError(f"not {self.name}: {error}") from error
        return model.eval()

    def write(self, model: SRModel) -> dict[str, Tensor]:
        """Return the published state dict of a model that `build` made."""
        state = model.state_dict()
        weights = {theirs: state[ours] for ours, theirs in self.published(model).items()}
        return self.constants(model) | weights

    def _sizes(self, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        try:
            return dict(self.deduce({name: tensor.shape for name, tensor in tensors.items()}))
        except ValueError as error:
            raise CheckpointError(f"not {self.name}: {error}") from error

    def _expected(self, sizes: dict[str, Any]) -> tuple[SRModel, dict[str, torch.Size]]:
        """Return the model on the meta device and the shapes of its published tensors."""
        try:
            with torch.random.fork_rng(devices=[]), torch.device("meta"):
                model = self.build(**sizes)
                constants = self.constants(model)
        except (ValueError, TypeError, RuntimeError, OverflowError) as error:
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(f"{self.name}: no model can have its sizes ({reason})") from error
        state = model.state_dict()
        shapes = {theirs: state[ours].shape for ours, theirs in self.published(model).items()}
        return model, shapes | {name: constant.shape for name, constant in constants.items()}


def _numbers(tensor: Tensor) -> str:
    first = [f"{x:.4g}" for x in tensor.flatten()[:4].tolist()]
    return f"({', '.join(first)}{', ...' if tensor.numel() > 4 else ''})"
