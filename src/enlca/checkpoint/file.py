"""A checkpoint: one `.safetensors` file with the card of its network.

Its metadata key `enlca` holds JSON that rebuilds the network. Programs that drop metadata (spandrel) find the
same text in a tensor, if it was embedded.

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
from enlca.models import CustomConfig, CustomModel
from enlca.network.sr import SRConfig, SRNetwork
from enlca.network.state_dict import misfits, nonfinite
from enlca.runtime.files import write_atomically

FORMAT = 1
KEY = "enlca"
# The name of the tensor that holds the card's text, where it is embedded.
EMBEDDED = "enlca.card"
SUFFIX = ".safetensors"
# Bytes of a header: 1,000 tensors have 0.1 MB.
MOST_HEADER = 4 << 20


@dataclass(frozen=True, kw_only=True)
class Card:
    """The description of a checkpoint.

    Attributes:
        network: settings that rebuild the network.
        variant: "paper" or "released": which description of the method the network follows.
        training: how it was trained (data, steps, loss, seed); empty if unknown.
        scores: measured scores: {data set: {"psnr_y": .., "ssim_y": .., "n": ..}}.
    """

    network: SRConfig | CustomConfig
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
        try:
            body = json.loads(text)
            # Half a surrogate pair can be written in JSON, but not printed.
            json.dumps(body, ensure_ascii=False).encode()
        except RecursionError as error:
            raise ValueError("card is nested too deep") from error
        if not isinstance(body, dict) or not isinstance(body.get("network"), dict):
            raise ValueError("card is not a JSON object with a network in it")
        if (version := body.pop("format", None)) != FORMAT:
            raise ValueError(f"checkpoint format {version}, this version of enlca reads format {FORMAT}")
        expected = {"network", "variant", "training", "scores"}
        if body.keys() != expected:
            raise ValueError(f"card has entries {sorted(body)}, expected {sorted(expected)}")
        for entry in ("training", "scores"):
            if not isinstance(body[entry], dict):
                raise ValueError(f"card has {entry} {str(body[entry])[:40]!r}, which is not an object")
        if not isinstance(body["variant"], str) or not all(
            isinstance(mean, dict) for mean in body["scores"].values()
        ):
            raise ValueError("card has a variant that is no text, or scores that are no objects")
        kind = CustomConfig if "build" in body["network"] else SRConfig
        return cls(**{**body, "network": kind.from_dict(body["network"])})


def save(
    network: SRNetwork | CustomModel,
    path: str | os.PathLike[str],
    *,
    variant: str = "paper",
    training: dict[str, Any] | None = None,
    scores: dict[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    embed_card: bool = False,
) -> None:
    """Write `network` and its card; the file appears whole or not at all.

    Args:
        network: what to store.
        path: the file's name, ending in `.safetensors`.
        variant: see `Card`.
        training: see `Card`.
        scores: see `Card`.
        dtype: store tensors in this type (float16 for the package's own weights); None keeps theirs.
        embed_card: store the card as a tensor, too, for programs that drop metadata.
    """
    card = Card(network=network.config, variant=variant, training=training or {}, scores=scores or {})
    state = network.module.state_dict() if isinstance(network, CustomModel) else network.state_dict()
    # Copies, since weights may be shared, and a safetensors file holds each under one name only.
    tensors = {
        name: tensor.detach().to("cpu", dtype, copy=True).contiguous() for name, tensor in state.items()
    }
    if embed_card:
        tensors[EMBEDDED] = torch.tensor(list(card.to_json().encode()), dtype=torch.uint8)
    write_atomically(Path(path), serialise(tensors, metadata={KEY: card.to_json()}))


def read_card(path: str | os.PathLike[str]) -> Card:
    """Read the card alone, without the weights.

    Raises:
        CheckpointError: if the file is missing, damaged or not one of ours.
    """
    card, _ = read(Path(path), with_tensors=False)
    return _ours(card, Path(path))


def load_file(path: str | os.PathLike[str]) -> tuple[SRNetwork, Card]:
    """Return the network of a checkpoint, in float32 and evaluation mode, and its card.

    Raises:
        CheckpointError: if the file is missing, damaged, not one of ours, or its tensors do not fit.
    """
    card, tensors = read(Path(path), with_tensors=True)
    card = _ours(card, Path(path))
    if isinstance(card.network, CustomConfig):
        raise CheckpointError(f"{path}: of a network of {card.network.build}, not one of enlca's own")
    return rebuild(Path(path), card.network, tensors), card


def from_embedded(tensors: dict[str, torch.Tensor]) -> tuple[SRNetwork, Card]:
    """Return the network and the card of a state dict that holds its card as a tensor.

    Raises:
        CheckpointError: a damaged card, or tensors that do not fit it.
    """
    try:
        card = Card.from_json(_text(tensors[EMBEDDED]))
        weights = {name: tensor for name, tensor in tensors.items() if name != EMBEDDED}
        if isinstance(card.network, CustomConfig):
            raise ValueError(f"of a network of {card.network.build}, not one of enlca's own")
        return rebuild(Path("state dict"), card.network, weights), card
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise CheckpointError(f"state dict: {one_line(error)}") from error


def _text(tensor: torch.Tensor) -> str:
    return bytes(tensor.byte().tolist()).decode()


def rebuild(path: Path, config: SRConfig, tensors: dict[str, torch.Tensor]) -> SRNetwork:
    """Return the network of these settings with these weights. Raises CheckpointError: they do not fit."""
    widest = max((side for tensor in tensors.values() for side in tensor.shape), default=0)
    if config.widest > widest or config.n_blocks > len(tensors):
        sizes = f"{config.n_blocks} blocks of up to {config.widest} channels"
        raise CheckpointError(
            f"{path}: does not fit its own settings: {sizes} in {len(tensors)} tensors of up to {widest}"
        )
    try:
        with torch.random.fork_rng(devices=[]):
            # Shapes are compared before memory is allocated.
            with torch.device("meta"):
                expected = {name: tensor.shape for name, tensor in SRNetwork(config).state_dict().items()}
            if {name: tensor.shape for name, tensor in tensors.items()} != expected:
                raise CheckpointError(f"{path}: does not fit its own settings: {misfits(tensors, expected)}")
            network = SRNetwork(config)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise CheckpointError(f"{path}: no network can have its settings ({one_line(error)})") from error
    if not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise CheckpointError(f"{path}: its {nonfinite(tensors)} holds NaN or infinity")
    network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return network.eval()


def _ours(card: Card | None, path: Path) -> Card:
    if card is None:
        raise CheckpointError(f"{path}: a safetensors file, but not one that enlca wrote (no card)")
    return card


def read(path: Path, *, with_tensors: bool) -> tuple[Card | None, dict[str, torch.Tensor]]:
    """Return the card of a `.safetensors` file, None if it has none, and its other tensors.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint file")
    try:
        with path.open("rb") as file:
            header = int.from_bytes(file.read(8), "little")
        if MOST_HEADER < header < path.stat().st_size:
            raise CheckpointError(f"{path}: its header of {header:,} bytes describes far more than a network")
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(KEY)
            names = file.keys() if with_tensors or text is None else ()
            if text is None and EMBEDDED in names:
                text = _text(file.get_tensor(EMBEDDED))
            card = None if text is None else Card.from_json(text)
            tensors = {name: file.get_tensor(name) for name in names if name != EMBEDDED and with_tensors}
    except CheckpointError:
        raise
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable .safetensors file ({error})") from error
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise CheckpointError(f"{path}: {one_line(error)}") from error
    for name, tensor in tensors.items():
        if card is not None and isinstance(card.network, SRConfig) and not tensor.is_floating_point():
            raise CheckpointError(f"{path}: holds {name[:60]!r}, which is not of floating-point numbers")
    return card, tensors


def one_line(error: Exception) -> str:
    """Return what an error says, on one line and shortened."""
    return " ".join(str(error).split())[:300]
