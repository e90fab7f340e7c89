"""Networks of one's own: any `nn.Module`, by a name or as `module:function`, wherever a model is taken.

    enlca.models.register("srcnn", SRCNN)      # then enlca.Upscaler("srcnn@best.safetensors")
    enlca evaluate --model my_module:SRCNN@best.safetensors --data Set5 --scale 3

`SRCNN(scale=3)` returns a module from `B 3 H W` in [0, 1] to `B 3 SH SW`. A checkpoint names its function,
but a file is never a reason to run code: the function must be registered, or given beside the file.
"""

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, cast

from jaxtyping import Float
from torch import Tensor, nn

from enlca.errors import CheckpointError
from enlca.network.interface import SRModel
from enlca.network.state_dict import misfits, nonfinite

Build = Callable[..., nn.Module]
# Functions by the names that they were registered under.
REGISTERED: dict[str, Build] = {}
# What a module may say of itself by attributes; see `SRModel`.
FACTS = ("input_multiple", "smallest_input", "tile_overlap", "half_safe")
_SPEC = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def register(name: str, build: Build) -> None:
    """Make `name` mean the networks that `build(scale=S)` returns, in this process.

    Args:
        name: a new name, without `@`.
        build: returns an `nn.Module` from `B 3 H W` in [0, 1] to `B 3 SH SW`; a class will do. The module may
            have attributes `input_multiple`, `smallest_input`, `tile_overlap` and `half_safe`; see `SRModel`.

    Raises:
        ValueError: no text, or one with `@`.
    """
    if not name or "@" in name:
        raise ValueError(f"a name must be a text without @, got {name!r}")
    REGISTERED[name] = build


@dataclass(frozen=True, kw_only=True)
class CustomConfig:
    """Everything needed to rebuild a network of one's own, beside its code.

    Args:
        build: `module:function`, or a registered name.
        scale: upscaling factor.
        settings: further arguments of the function.

    Raises:
        ValueError: for invalid values.
    """

    build: str
    scale: int
    settings: dict[str, Any] = field(default_factory=dict)
    # The contrastive loss and new random features are for networks of enlca.
    attention: ClassVar[str] = "none"

    def __post_init__(self):
        if not self.build:
            raise ValueError("build must be module:function or a registered name; it is empty")
        if not 1 < self.scale <= 16:
            raise ValueError(f"scale must be a whole number from 2 to 16, got {self.scale}")

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as JSON values."""
        return {"build": self.build, "scale": self.scale, "settings": dict(self.settings)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "CustomConfig":
        """Rebuild a config from `to_dict`. Raises ValueError for missing or unknown fields."""
        if values.keys() != {"build", "scale", "settings"}:
            raise ValueError("a card of a custom network has build, scale and settings, and this one others")
        if [type(values[name]) for name in ("build", "scale", "settings")] != [str, int, dict]:
            raise ValueError(
                "in a card of a custom network build must be a text, scale a number, settings an object"
            )
        return cls(**values)


class CustomModel(SRModel):
    """An `nn.Module` as an `SRModel`.

    Args:
        module: the network.
        config: how it was built.
    """

    def __init__(self, module: nn.Module, config: CustomConfig):
        super().__init__()
        self.module, self.config, self.scale = module, config, config.scale
        for fact in FACTS:
            if (value := getattr(module, fact, None)) is not None:
                setattr(self, fact, value)

    @property
    def name(self) -> str:
        """The name of the module's class."""
        return type(self.module).__name__

    def forward(self, lr: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 SH SW"]:
        """Return the SR images. Raises CheckpointError if the module returns another shape."""
        sr = self.module(lr)
        expected = (*lr.shape[:2], self.scale * lr.shape[2], self.scale * lr.shape[3])
        if not isinstance(sr, Tensor) or tuple(sr.shape) != expected:
            got = tuple(sr.shape) if isinstance(sr, Tensor) else type(sr).__name__
            raise CheckpointError(
                f"{self.config.build} returns {got} for {tuple(lr.shape)} at x{self.scale}, not {expected}"
            )
        return sr


def build_custom(config: CustomConfig, tensors: Mapping[str, Tensor] | None = None) -> CustomModel:
    """Build a network by its registered name or `module:function`; importing the module runs its code.

    Args:
        config: how.
        tensors: the state dict of the module, loaded strictly; None keeps what the function made.

    Raises:
        CheckpointError: there is no such function, it fails, does not return a module, or the tensors do
            not fit.
    """
    build = REGISTERED.get(config.build) or _import(config.build)
    try:
        module = build(scale=config.scale, **config.settings)
    except Exception as error:
        raise CheckpointError(
            f"{config.build}(scale={config.scale}) fails: {type(error).__name__}: {_line(error)}"
        ) from error
    if not isinstance(module, nn.Module):
        raise CheckpointError(f"{config.build} returns a {type(module).__name__}, not a torch.nn.Module")
    if tensors is not None:
        expected = {name: tensor.shape for name, tensor in module.state_dict().items()}
        if problems := misfits(tensors, expected):
            raise CheckpointError(f"does not fit {config.build}: it {problems}")
        if wrong := nonfinite(tensors):
            raise CheckpointError(f"its {wrong} holds NaN or infinity")
        module.load_state_dict(dict(tensors))
    return CustomModel(module, config)


def split(model: str) -> tuple[str, Path | None] | None:
    """Return function and file of `NAME`, `module:function`, or either with `@FILE`; None for others."""
    build, _, file = model.partition("@")
    if build in REGISTERED or (_SPEC.fullmatch(build) and not Path(model).exists()):
        return build, Path(file) if file else None
    return None


def _import(spec: str) -> Build:
    if not _SPEC.fullmatch(spec):
        known = ", ".join(sorted(REGISTERED)) or "none"
        raise CheckpointError(f"no network is registered as {spec!r} (registered: {known})")
    name, _, attribute = spec.partition(":")
    # As `python -m` does, so that a file in the current folder is found.
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = import_module(name)
    except Exception as error:
        where = f"{Path.cwd()} or the installed packages"
        if isinstance(error, ModuleNotFoundError) and error.name == name.partition(".")[0]:
            raise CheckpointError(f"{spec}: there is no module {name} in {where}") from error
        raise CheckpointError(
            f"{spec}: importing {name} fails: {type(error).__name__}: {_line(error)}"
        ) from error
    finally:
        sys.path.pop(0)
    build = getattr(module, attribute, None)
    if not callable(build):
        raise CheckpointError(f"{spec}: {name} has no function {attribute}")
    return cast(Build, build)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
