"""Checkpoints: their format, their card, and the ones that the package contains, by name.

A checkpoint is one `.safetensors` file; its metadata key `enlca` holds JSON that rebuilds the network.

Loading is strict: an unknown version, a missing, unexpected or mis-shaped tensor, or settings that do
not fit are errors that say which.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise

from enlca.errors import CheckpointError
from enlca.network.sr import SRConfig, SRNetwork
from enlca.network.state_dict import misfits
from enlca.runtime.files import write_atomically

FORMAT = 1
KEY = "enlca"
WEIGHTS = Path(__file__).parent / "weights"
SUFFIX = ".safetensors"


@dataclass(frozen=True, kw_only=True)
class Card:
    """The description of a checkpoint.

    Attributes:
        network: settings that rebuild the network.
        variant: "paper" or "released": which description of the method the network follows.
        training: how it was trained (data, steps, loss, seed); empty if unknown.
        scores: measured scores: {data set: {"psnr_y": .., "ssim_y": .., "n": ..}}.
    """

    network: SRConfig
    variant: str = "paper"
    training: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the text stored in the file."""
        body = {
            "format": FORMAT,
            "network": self.network.to_dict(),
            "variant": self.variant,
            "training": self.training,
            "scores": self.scores,
        }
        return json.dumps(body, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Card":
        """Parse the text that `to_json` returns.

        Raises:
            ValueError: another format version, missing or unknown entries.
        """
        body = json.loads(text)
        if not isinstance(body, dict) or not isinstance(body.get("network"), dict):
            raise ValueError("card is not a JSON object with a network in it")
        if (version := body.pop("format", None)) != FORMAT:
            raise ValueError(f"checkpoint format {version}, this version of enlca reads format {FORMAT}")
        expected = {"network", "variant", "training", "scores"}
        if body.keys() != expected:
            raise ValueError(f"card has entries {sorted(body)}, expected {sorted(expected)}")
        return cls(**{**body, "network": SRConfig.from_dict(body["network"])})


def save(
    network: SRNetwork,
    path: str | os.PathLike,
    *,
    variant: str = "paper",
    training: dict[str, Any] | None = None,
    scores: dict[str, Any] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write `network` and its card; the file appears whole or not at all.

    Args:
        network: what to store.
        path: the file's name, ending in `.safetensors`.
        variant: see `Card`.
        training: see `Card`.
        scores: see `Card`.
        dtype: store tensors in this type (float16 for the package's own weights); None keeps theirs.
    """
    card = Card(network=network.config, variant=variant, training=training or {}, scores=scores or {})
    tensors = {
        name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in network.state_dict().items()
    }
    write_atomically(Path(path), serialise(tensors, metadata={KEY: card.to_json()}))


def read_card(path: str | os.PathLike) -> Card:
    """Read the card alone, without the weights.

    Raises:
        CheckpointError: if the file is missing, damaged or not one of ours.
    """
    return _read(Path(path), with_tensors=False)[0]


def load_file(path: str | os.PathLike) -> tuple[SRNetwork, Card]:
    """Return the network of a checkpoint, in float32 and evaluation mode, and its card.

    Raises:
        CheckpointError: if the file is missing, damaged, not one of ours, or its tensors do not fit.
    """
    card, tensors = _read(Path(path), with_tensors=True)
    try:
        network = SRNetwork(card.network)
    except (ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path}: no network can have its settings ({error})") from error
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    if {name: tensor.shape for name, tensor in tensors.items()} != expected:
        raise CheckpointError(f"{path}: does not fit its own settings: {misfits(tensors, expected)}")
    network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return network.eval(), card


def _read(path: Path, *, with_tensors: bool) -> tuple[Card, dict[str, torch.Tensor]]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if KEY not in metadata:
                raise CheckpointError(f"{path}: a safetensors file, but not one that enlca wrote (no card)")
            card = Card.from_json(metadata[KEY])
            names = file.keys() if with_tensors else ()
            return card, {name: file.get_tensor(name) for name in names}
    except CheckpointError:
        raise
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable .safetensors file ({error})") from error
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path}: {' '.join(str(error).split())}") from error


@dataclass(frozen=True)
class Bundled:
    """Weights that the package contains."""

    name: str
    scale: int
    path: Path

    @property
    def card(self) -> Card:
        """Their description."""
        return read_card(self.path)


def bundled() -> list[Bundled]:
    """Return all weights in the package: files called `NAME_xSCALE.safetensors`."""
    found = []
    for path in sorted(WEIGHTS.glob(f"*{SUFFIX}")):
        name, _, scale = path.stem.rpartition("_x")
        found.append(Bundled(name, int(scale), path))
    return found


def locate(model: str | os.PathLike, scale: int | None = None) -> Path:
    """Return the checkpoint file of a bundled name (with its scale) or of a path.

    A name without a scale means x4, or the only scale there is.

    Raises:
        CheckpointError: for an unknown name, or a scale that there are no weights for.
    """
    text = os.fspath(model)
    if text.endswith(SUFFIX) or os.sep in text:
        return Path(text)
    known = bundled()
    scales = {item.scale: item.path for item in known if item.name == text}
    if not scales:
        names = ", ".join(sorted({item.name for item in known})) or "none"
        raise CheckpointError(f"unknown model {text!r}; known: {names}; or give a {SUFFIX} file")
    wanted = scale or (4 if 4 in scales else next(iter(scales)))
    if wanted not in scales:
        available = ", ".join(f"x{s}" for s in sorted(scales))
        raise CheckpointError(f"{text} has no weights for x{wanted}; available: {available}")
    return scales[wanted]


def load_with_card(model: str | os.PathLike, scale: int | None = None) -> tuple[SRNetwork, Card]:
    """Return the network of a bundled name or checkpoint file, and its card.

    Raises:
        CheckpointError: if there is none, or its scale is not `scale`.
    """
    path = locate(model, scale)
    network, card = load_file(path)
    if scale is not None and card.network.scale != scale:
        raise CheckpointError(f"{path}: upscales x{card.network.scale}, not x{scale}")
    return network, card


def load(model: str | os.PathLike, *, scale: int | None = None) -> SRNetwork:
    """Return a network by bundled name or checkpoint file, in float32 and evaluation mode.

    Raises:
        CheckpointError: see `load_with_card`.
    """
    return load_with_card(model, scale)[0]
