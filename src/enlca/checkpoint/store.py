"""Checkpoints: their format, their card, and the ones that the package contains, by name.

A checkpoint is one `.safetensors` file; its metadata key `enlca` holds JSON that rebuilds the network.
Programs that drop metadata (spandrel) find the same text in a tensor, if it was embedded.

Loading is strict: an unknown version, a missing, unexpected or mis-shaped tensor, or settings that do
not fit are errors that say which.
"""

import json
import os
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise

from enlca.checkpoint.repository import CONFIG, FOLDER, HUB, fetch, last_name
from enlca.checkpoint.repository import WEIGHTS as WEIGHTS_OF_REPOSITORY
from enlca.errors import CheckpointError
from enlca.models import REGISTERED, CustomConfig, CustomModel, build_custom, split
from enlca.network.interface import SRModel
from enlca.network.sr import SRConfig, SRNetwork
from enlca.network.state_dict import misfits, nonfinite
from enlca.runtime.files import write_atomically

FORMAT = 1
KEY = "enlca"
# The name of the tensor that holds the card's text, where it is embedded.
EMBEDDED = "enlca.card"
WEIGHTS = Path(__file__).parent / "weights"
SUFFIX = ".safetensors"
# The files that a model can be, by their ends; what they are is decided by their content.
SUFFIXES = (SUFFIX, ".pt", ".pth", ".ckpt", ".mat", ".bin")
BEST = "best.safetensors"
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
    tensors = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in state.items()}
    if embed_card:
        tensors[EMBEDDED] = torch.tensor(list(card.to_json().encode()), dtype=torch.uint8)
    write_atomically(Path(path), serialise(tensors, metadata={KEY: card.to_json()}))


def read_card(path: str | os.PathLike[str]) -> Card:
    """Read the card alone, without the weights.

    Raises:
        CheckpointError: if the file is missing, damaged or not one of ours.
    """
    card, _ = _read(Path(path), with_tensors=False)
    return _ours(card, Path(path))


def load_file(path: str | os.PathLike[str]) -> tuple[SRNetwork, Card]:
    """Return the network of a checkpoint, in float32 and evaluation mode, and its card.

    Raises:
        CheckpointError: if the file is missing, damaged, not one of ours, or its tensors do not fit.
    """
    card, tensors = _read(Path(path), with_tensors=True)
    card = _ours(card, Path(path))
    if isinstance(card.network, CustomConfig):
        raise CheckpointError(f"{path}: of a network of {card.network.build}, not one of enlca's own")
    return _rebuild(Path(path), card.network, tensors), card


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
        return _rebuild(Path("state dict"), card.network, weights), card
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"state dict: {_line(error)}") from error


def _text(tensor: torch.Tensor) -> str:
    return bytes(tensor.byte().tolist()).decode()


def _rebuild(path: Path, config: SRConfig, tensors: dict[str, torch.Tensor]) -> SRNetwork:
    widest = max((side for tensor in tensors.values() for side in tensor.shape), default=0)
    if config.widest > widest or config.n_blocks > len(tensors):
        sizes = f"{config.n_blocks} blocks of up to {config.widest} channels"
        raise CheckpointError(
            f"{path}: does not fit its own settings: {sizes} in {len(tensors)} tensors of up to {widest}"
        )
    try:
        # Shapes are compared before memory is allocated.
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            expected = {name: tensor.shape for name, tensor in SRNetwork(config).state_dict().items()}
        if {name: tensor.shape for name, tensor in tensors.items()} != expected:
            raise CheckpointError(f"{path}: does not fit its own settings: {misfits(tensors, expected)}")
        network = SRNetwork(config)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise CheckpointError(f"{path}: no network can have its settings ({_line(error)})") from error
    if not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise CheckpointError(f"{path}: its {nonfinite(tensors)} holds NaN or infinity")
    network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return network.eval()


def _ours(card: Card | None, path: Path) -> Card:
    if card is None:
        raise CheckpointError(f"{path}: a safetensors file, but not one that enlca wrote (no card)")
    return card


def _read(path: Path, *, with_tensors: bool) -> tuple[Card | None, dict[str, torch.Tensor]]:
    """Return the card of a `.safetensors` file, None if it has none, and its other tensors."""
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
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path}: {_line(error)}") from error
    for name, tensor in tensors.items():
        if card is not None and isinstance(card.network, SRConfig) and not tensor.is_floating_point():
            raise CheckpointError(f"{path}: holds {name[:60]!r}, which is not of floating-point numbers")
    return card, tensors


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


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


def locate(model: str | os.PathLike[str], scale: int | None = None) -> Path:
    """Return the file of a bundled name (with its scale), a repository, a run folder (its best) or a path.

    A name without a scale means x4, or the only scale there is.

    Raises:
        CheckpointError: for an unknown name, a scale that there are no weights for, or a repository that
            cannot be had or contradicts itself.
        MissingExtra: the hub's client is not installed.
    """
    text = os.fspath(model)
    if text.startswith((HUB, FOLDER)):
        return _file_of_repository(text)
    known = bundled()
    scales = {item.scale: item.path for item in known if item.name == text}
    if not scales:
        path = Path(text)
        if (path / BEST).is_file():
            return path / BEST
        if text.endswith(SUFFIXES) or os.sep in text or path.is_file():
            return path
        names = ", ".join(sorted({item.name for item in known})) or "none"
        kinds = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
        raise CheckpointError(f"unknown model {text!r}; known: {names}; or give a {kinds} file")
    wanted = scale or (4 if 4 in scales else next(iter(scales)))
    if wanted not in scales:
        available = ", ".join(f"x{s}" for s in sorted(scales))
        raise CheckpointError(f"{text} has no weights for x{wanted}; available: {available}")
    return scales[wanted]


def short_name(model: str) -> str:
    """Return what a model is called in tables: a run's best weights by the run, a file by its stem."""
    if custom := split(model):
        return custom[0].rpartition(":")[2]
    if model.startswith((HUB, FOLDER)):
        return last_name(model)
    path = Path(model)
    if path.is_dir() or path.name == BEST:
        return (path if path.is_dir() else path.parent).resolve().name
    return path.stem if path.suffix else model


def _file_of_repository(model: str) -> Path:
    """Return the checkpoint of a repository, after comparing its card with `config.json`."""
    folder = fetch(model)
    path, config = folder / WEIGHTS_OF_REPOSITORY, folder / CONFIG
    card = read_card(path)
    try:
        if config.stat().st_size > MOST_HEADER:
            raise CheckpointError(f"{model}: its {CONFIG} describes far more than a network")
        said = Card.from_json(config.read_text("utf-8"))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{model}: its {CONFIG} is not a card ({_line(error)})") from error
    for entry in fields(Card):
        if getattr(said, entry.name) != getattr(card, entry.name):
            raise CheckpointError(f"{model}: {CONFIG} and the card of {path.name} differ in {entry.name}")
    return path


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A model, in float32 and evaluation mode, and what is known of it.

    Attributes:
        model: the network.
        kind: what the file is, in words.
        card: None if the file tells less than a card has.
        path: the file; None for a custom network without weights.
    """

    model: SRModel
    kind: str
    card: Card | None
    path: Path | None


def load_model(model: str | os.PathLike[str], scale: int | None = None) -> Loaded:
    """Load any model: a bundled name, a file, a run folder, a repository, or a network of one's own.

    Raises:
        CheckpointError: there is none, it cannot be used, or its scale is not `scale`.
        MissingExtra: spandrel, which alone could know the file, or the hub's client is not installed.
    """
    text = os.fspath(model)
    if custom := _custom(text):
        return _load_custom(*custom, scale)
    path = locate(model, scale)
    card, tensors = _contents(path)
    if card is None:
        from enlca.checkpoint.recognise import recognise

        found = recognise(path, tensors, scale=scale)
        if isinstance(found.model, SRNetwork):
            card = Card(network=found.model.config, variant=found.variant, training=found.training)
        return Loaded(model=found.model, kind=found.kind, card=card, path=path)
    if scale not in (None, card.network.scale):
        raise CheckpointError(f"{path}: upscales x{card.network.scale}, not x{scale}")
    if isinstance(card.network, SRConfig):
        network = _rebuild(path, card.network, tensors)
        return Loaded(model=network, kind=f"{network.name}, a checkpoint of enlca", card=card, path=path)
    if card.network.build not in REGISTERED:
        outside = f"its network is built by {card.network.build}, which is code outside enlca"
        raise CheckpointError(f"{path}: {outside}; to run it, give {card.network.build}@{path}")
    return _load_custom(card.network.build, path, scale)


def _custom(text: str) -> tuple[str, Path | None] | None:
    """Return function and file of a network of one's own; None for other models."""
    return split(text) if text in REGISTERED or ":" in text or "@" in text else None


def _load_custom(build: str, file: Path | None, scale: int | None) -> Loaded:
    """Load a network of one's own, with the weights of a file if there is one."""
    if file is None:
        model = build_custom(CustomConfig(build=build, scale=scale or 4)).eval()
        return Loaded(model=model, kind=f"{model.name} of {build}, without weights", card=None, path=None)
    file = locate(file if file.is_absolute() else Path(os.curdir) / file)
    card, tensors = _contents(file)
    config = CustomConfig(build=build, scale=scale or 4)
    if card is not None:
        if not isinstance(card.network, CustomConfig):
            raise CheckpointError(f"{file}: a checkpoint of enlca's own, not of {build}")
        config = replace(card.network, build=build)
    if scale not in (None, config.scale):
        raise CheckpointError(f"{file}: upscales x{config.scale}, not x{scale}")
    try:
        model = build_custom(config, tensors).eval()
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}") from error
    return Loaded(model=model, kind=f"{model.name} of {build}", card=card, path=file)


def _contents(path: Path) -> tuple[Card | None, dict[str, torch.Tensor]]:
    """Return the card, if there is one, and the tensors of a file of PyTorch's or of safetensors."""
    if _is_safetensors(path):
        return _read(path, with_tensors=True)
    from enlca.checkpoint.recognise import read

    return None, read(path)


def scale_of(model: str | os.PathLike[str]) -> tuple[int, SRModel | None]:
    """Return the scale of a model, and the model too if no card says it. Raises as `load_model`."""
    text = os.fspath(model)
    if _custom(text) is None:
        path = locate(text)
        if _is_safetensors(path) and (card := _read(path, with_tensors=False)[0]):
            return card.network.scale, None
    loaded = load_model(text).model
    return loaded.scale, loaded


def _is_safetensors(path: Path) -> bool:
    """Whether a file is to be read as `.safetensors`, by its name or first bytes, or is missing."""
    if path.suffix == SUFFIX or not path.is_file():
        return True
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and start[:1] != b"\x80" and start[:2] != b"PK"


def load_with_card(model: str | os.PathLike[str], scale: int | None = None) -> tuple[SRNetwork, Card]:
    """Return a network of enlca's own, by bundled name or file, and its card.

    Raises:
        CheckpointError: if there is none, its scale is not `scale`, or it is another method's.
    """
    loaded = load_model(model, scale)
    if not isinstance(loaded.model, SRNetwork) or loaded.card is None:
        raise CheckpointError(
            f"{model}: {loaded.kind}; this needs a network of enlca's own (Upscaler takes any)"
        )
    return loaded.model, loaded.card


def load(model: str | os.PathLike[str], *, scale: int | None = None) -> SRNetwork:
    """Return a network of enlca's own, by bundled name or file, in float32 and evaluation mode.

    Raises:
        CheckpointError: see `load_with_card`.
    """
    return load_with_card(model, scale)[0]
