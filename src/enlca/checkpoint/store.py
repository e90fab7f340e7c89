"""Any model by its name: the weights in the package, files of any known kind, runs, repositories."""

import os
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch

from enlca.checkpoint.file import MOST_HEADER, SUFFIX, Card, one_line, read, read_card, rebuild
from enlca.checkpoint.repository import CONFIG, FOLDER, HUB, fetch, last_name
from enlca.checkpoint.repository import WEIGHTS as WEIGHTS_OF_REPOSITORY
from enlca.errors import CheckpointError
from enlca.models import REGISTERED, CustomConfig, build_custom, split
from enlca.network.interface import SRModel
from enlca.network.sr import SRConfig, SRNetwork

WEIGHTS = Path(__file__).parent / "weights"
# The files that a model can be, by their ends; what they are is decided by their content.
SUFFIXES = (SUFFIX, ".pt", ".pth", ".ckpt", ".mat", ".bin")
BEST = "best.safetensors"


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
    return path.stem


def _file_of_repository(model: str) -> Path:
    """Return the checkpoint of a repository, after comparing its card with `config.json`."""
    folder = fetch(model)
    path, config = folder / WEIGHTS_OF_REPOSITORY, folder / CONFIG
    card = read_card(path)
    try:
        if config.stat().st_size > MOST_HEADER:
            raise CheckpointError(f"{model}: its {CONFIG} describes far more than a network")
        said = Card.from_json(config.read_text("utf-8"))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise CheckpointError(f"{model}: its {CONFIG} is not a card ({one_line(error)})") from error
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
        network = rebuild(path, card.network, tensors)
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
    # By its path, as a name would mean weights of enlca's own; `Path` drops the dot.
    file = locate(os.path.join(os.curdir, file))
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
        return read(path, with_tensors=True)
    from enlca.checkpoint import recognise

    return None, recognise.read(path)


def scale_of(model: str | os.PathLike[str]) -> tuple[int, SRModel | None]:
    """Return the scale of a model, and the model too if no card says it. Raises as `load_model`."""
    text = os.fspath(model)
    if _custom(text) is None:
        path = locate(text)
        if _is_safetensors(path) and (card := read(path, with_tensors=False)[0]):
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
