"""Find out what a foreign file of weights is, by its first bytes, its tensors' names and their shapes.

    ENLCN   EDSR   each of `peers.PEERS`   what spandrel knows

The first one that fits strictly is it. A file that almost fits is told what it lacks; one that fits nothing,
what is known.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from enlca.checkpoint import community, edsr, official
from enlca.checkpoint.torch_file import read_tensors, refuse_empty, shown, unwrapped
from enlca.errors import CheckpointError, MissingExtra
from enlca.network.interface import SRModel
from enlca.network.state_dict import nonfinite
from enlca.peers import PEERS
from enlca.peers.matconvnet import read_matconvnet
from enlca.peers.ncnn import FLOAT16, FLOAT32, read_ncnn

LAYOUTS = {".mat": "MatConvNet", ".bin": "ncnn", ".safetensors": "safetensors"}
NCNN = tuple(flag.to_bytes(4, "little") for flag in (FLOAT16, FLOAT32))


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """A foreign file.

    Attributes:
        model: with the file's weights, in float32 and evaluation mode.
        kind: what the file is: method, reference, layout.
        variant: whose reading of the method a card of it states.
        training: what is known about how it was trained.
    """

    model: SRModel
    kind: str
    variant: str = "paper"
    training: dict[str, Any] = field(default_factory=dict)


def recognise(path: Path, tensors: dict[str, Tensor], *, scale: int | None = None) -> Recognised:
    """Return the model that the tensors of a file are of, and what kind that is.

    Args:
        path: the file, for messages.
        tensors: what it holds.
        scale: wanted scale, where weights serve several.

    Raises:
        CheckpointError: they are of no known kind, do not fit it, are not finite, or for another scale.
        MissingExtra: only spandrel could know them, and that cannot be imported.
    """
    try:
        refuse_empty(tensors)
        found = _identify(unwrapped(tensors), LAYOUTS.get(path.suffix.lower(), "PyTorch"), scale)
        if scale not in (None, found.model.scale):
            raise CheckpointError(f"upscales x{found.model.scale}, not x{scale}")
        if wrong := nonfinite(tensors):
            raise CheckpointError(f"its {shown(wrong)} holds NaN or infinity")
    except (CheckpointError, MissingExtra) as error:
        raise type(error)(f"{path}: {error}") from error
    return found


def read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file of PyTorch's, of MatConvNet's or of ncnn's, told apart by their beginning.

    Raises:
        CheckpointError: it is damaged, unsafe, or holds anything else.
    """
    with path.open("rb") as file:
        start = file.read(16)
    if start.startswith(b"MATLAB 5.0 MAT"):
        return read_matconvnet(path)
    if start[:4] in NCNN:
        return read_ncnn(path)
    return read_tensors(path)


def _identify(tensors: dict[str, Tensor], layout: str, scale: int | None) -> Recognised:
    """Return what fits; raise CheckpointError with what almost fits, or with what is known."""
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    if any(".conv_match1." in name for name in tensors):
        return Recognised(
            model=official.network_of(tensors),
            kind="ENLCN as its authors released it (Xia et al. 2022, AAAI)",
            variant="released",
            training=dict(official.TRAINING),
        )
    almost = []
    if edsr.looks_like(tensors):
        try:
            return Recognised(
                model=edsr.from_edsr(tensors),
                kind=f"EDSR (Lim et al. 2017, CVPRW), {layout} file in its published layout",
            )
        except CheckpointError as error:
            almost.append(error)
    for peer in PEERS.values():
        try:
            peer.deduce(shapes)
        except ValueError:
            continue
        try:
            model = peer.read(tensors, scale=scale)
        except CheckpointError as error:
            almost.append(error)
        else:
            kind = f"{peer.name} ({peer.reference}), {layout} file in its published layout"
            return Recognised(model=model, kind=kind)
    return _elsewhere(tensors, layout, almost)


def _elsewhere(tensors: dict[str, Tensor], layout: str, almost: list[CheckpointError]) -> Recognised:
    """Ask spandrel for what is not known here."""
    known = ", ".join(["ENLCN", "EDSR", *(peer.name for peer in PEERS.values())])
    unknown = f"its tensors are of no known network ({known}"
    try:
        found = community.identify(tensors)
    except MissingExtra as error:
        if almost:
            raise almost[0] from error
        raise MissingExtra(f"{unknown}); {error}") from error
    if found is not None:
        return Recognised(model=found, kind=f"{found.name}, {layout} file, read by spandrel")
    if almost:
        raise almost[0]
    names = ", ".join(shown(name) for name in list(tensors)[:3])
    raise CheckpointError(f"{unknown}, and none that spandrel knows); it has {names or 'none'}")
