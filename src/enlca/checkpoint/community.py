"""Networks of the community (ESRGAN, SwinIR, HAT, SPAN, ...), which spandrel recognises by their tensors.

spandrel gets tensors, never a file: what is unsafe in a file has been refused before.
"""

import sys
from importlib.util import find_spec
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from enlca.errors import CheckpointError, MissingExtra
from enlca.network.interface import SRModel

EXTRA = "pip install 'enlca[community]'"


class CommunityModel(SRModel):
    """A model that spandrel read, as an `SRModel`; one for grey pictures gets each colour by itself.

    Args:
        descriptor: spandrel's `ImageModelDescriptor`.

    Raises:
        CheckpointError: it does not upscale, or takes something else than grey or RGB.
    """

    def __init__(self, descriptor: Any):
        super().__init__()
        self.method = descriptor.architecture.name
        channels = (descriptor.input_channels, descriptor.output_channels)
        if descriptor.purpose != "SR" or descriptor.scale < 2:
            purpose = f"for {descriptor.purpose}, x{descriptor.scale}"
            raise CheckpointError(f"a {self.method} {purpose}: only networks that upscale can be used here")
        if channels not in ((1, 1), (3, 3)):
            raise CheckpointError(f"a {self.method} from {channels[0]} to {channels[1]} channels, not RGB")
        needs = descriptor.size_requirements
        self.scale = descriptor.scale
        self.network = descriptor.model.float()
        self.call = descriptor._call_fn
        self.grey = channels == (1, 1)
        self.input_multiple = needs.multiple_of
        self.smallest_input = max(1, needs.minimum)
        self.square = needs.square
        self.half_safe = descriptor.supports_half and descriptor.supports_bfloat16
        # Models that look at the whole picture (tiling discouraged) differ most at the edges of tiles.
        self.tile_overlap = 32 if descriptor.tiling.name == "SUPPORTED" else 64

    @property
    def name(self) -> str:
        """The architecture's name."""
        return self.method

    def forward(self, lr: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 SH SW"]:
        """Return the SR images."""
        batch, _, height, width = lr.shape
        if self.square and height != width:
            side = max(height, width)
            lr = pad(lr, (0, side - width, 0, side - height), mode="replicate")
        x = lr.reshape(3 * batch, 1, *lr.shape[2:]) if self.grey else lr
        sr = self.call(self.network, x)[..., : self.scale * height, : self.scale * width]
        return sr.reshape(batch, 3, *sr.shape[2:])


def identify(tensors: dict[str, Tensor]) -> CommunityModel | None:
    """Return the model that spandrel finds in a state dict, in float32 and evaluation mode; None if none.

    Raises:
        CheckpointError: spandrel knows the architecture, and the tensors do not fit, or it does not upscale.
        MissingExtra: spandrel, or torchvision, which it needs, cannot be imported.
    """
    registry, unsupported = _import()
    with torch.random.fork_rng(devices=[]):
        try:
            descriptor = registry.load(dict(tensors))
        except unsupported:
            return None
        except Exception as error:
            # Its architectures trust the shapes that they deduce sizes from.
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(f"spandrel cannot read it: {type(error).__name__}: {reason}") from error
    return CommunityModel(descriptor).eval()


def _import() -> tuple[Any, type[Exception]]:
    needs = (
        f"community models need spandrel ({EXTRA}) and a torchvision that fits PyTorch {torch.__version__}"
    )
    # Looked for first, since spandrel's import fails only after a second without it.
    if "torchvision" not in sys.modules and find_spec("torchvision") is None:
        raise MissingExtra(f"{needs}, which is not installed")
    try:
        from spandrel import MAIN_REGISTRY, UnsupportedModelError
    except Exception as error:
        # A torchvision that was built for another PyTorch raises RuntimeError.
        raise MissingExtra(f"{needs}: {' '.join(str(error).split())[:200]}") from error
    return MAIN_REGISTRY, UnsupportedModelError
