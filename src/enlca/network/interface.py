"""What a super-resolution network is to inference, evaluation, the explorer and export.

Ours, a method of Table 1 or a community model: each is an `SRModel`. Only exact streaming and correlation
maps look inside `SRNetwork`.

Letters:  B batch   H, W height and width of the LR image   S scale
"""

import shutil
import weakref
from math import ceil
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from enlca.errors import DeviceError

# Side of the image on which the memory of an unknown model is measured.
PROBE_SIDE = 48


class SRModel(nn.Module):
    """A network that upscales `B 3 H W` in [0, 1] to `B 3 SH SW`; values may leave [0, 1] slightly.

    A subclass sets `scale`, implements `forward`, and overrides the facts that differ. What else a method
    needs (luma only, bicubic first, 0..255, mean shift) happens inside its `forward`.

    Attributes:
        scale: the upscaling factor S.
        name: for messages and reports.
        streamable: can be streamed exactly, stage by stage.
        input_multiple: H and W must be multiples of this; inference pads and crops.
        smallest_input: H and W must be at least this; inference pads and crops.
        tile_overlap: LR pixels that a tile computes beyond each of its sides.
        half_safe: convolutions may run in 16 bits without a visible difference.
        workspace_elements: tensor elements that a forward pass needs whatever the size of the image.
    """

    scale: int
    streamable = False
    input_multiple = 1
    smallest_input = 1
    tile_overlap = 16
    half_safe = True
    workspace_elements = 0
    _elements_per_pixel: int | None = None

    @property
    def name(self) -> str:
        """The name of the class."""
        return type(self).__name__

    @property
    def elements_per_pixel(self) -> int:
        """Tensor elements alive for each LR pixel at the widest point of a forward pass, measured once."""
        if self._elements_per_pixel is None:
            self._elements_per_pixel = self.measure_elements()
        return self._elements_per_pixel

    def measure_elements(self, *, gradient: bool = False) -> int:
        """Run a probe image; return the most tensor elements alive for each LR pixel, weights not counted.

        With `gradient` the gradient of the input is computed, too.
        """
        side = ceil(max(PROBE_SIDE, self.smallest_input) / self.input_multiple) * self.input_multiple
        tensor = next(iter((*self.parameters(), *self.buffers(), torch.empty(0))))
        with torch.set_grad_enabled(gradient), PeakMemory() as memory:
            lr = torch.rand(1, 3, side, side, dtype=tensor.dtype, device=tensor.device)
            sr = self(lr.requires_grad_(gradient))
            if gradient:
                torch.autograd.grad(sr.sum(), lr)
        return ceil(memory.peak / (tensor.dtype.itemsize * side * side))

    @property
    def parts_to_compile(self) -> list[nn.Module]:
        """Modules that `compile_convolutions` compiles, each by itself."""
        return [self]

    def compile_convolutions(self) -> None:
        """Compile the model, so that its convolutions get faster; the first image pays for it, for all sizes.

        Raises:
            DeviceError: there is no C++ compiler, which `torch.compile` needs for a processor.
        """
        tensor = next(iter((*self.parameters(), torch.empty(0))))
        if tensor.device.type == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++", "cl"))):
            hint = "install one, or leave it out"
            raise DeviceError(f"compiling needs a C++ compiler, and none was found; {hint}")
        for part in self.parts_to_compile:
            part.compile(dynamic=True)

    def forward(self, lr: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 SH SW"]:
        """Return the SR images."""
        raise NotImplementedError


class PeakMemory(TorchDispatchMode):
    """Track the bytes of storages that operations allocate, and their peak, while this context is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.seen = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._track(tensor.untyped_storage())
        return out

    def _track(self, storage: torch.UntypedStorage) -> None:
        # Views share their storage, which is one object while any of them is alive.
        if storage not in self.seen:
            self.seen.add(storage)
            size = storage.nbytes()
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.now -= size
