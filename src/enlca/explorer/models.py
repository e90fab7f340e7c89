"""The networks of the page: their names, and those that stay loaded."""

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from enlca.checkpoint import BASE, DEFAULT_MODEL, PHOTO
from enlca.checkpoint.mixing import mix
from enlca.checkpoint.store import bundled, scale_of
from enlca.errors import CheckpointError
from enlca.inference.upscaler import Upscaler
from enlca.network.sr import SRConfig, SRNetwork

# Networks that stay loaded.
MAX_LOADED = 4


class Models:
    """Names, the scales of each name, and the networks, which are loaded when they are needed.

    Args:
        files: checkpoints and repositories beside the bundled ones, called as they are given.

    Attributes:
        default: chosen at first: the first of the files, or DEFAULT_MODEL.

    Raises:
        CheckpointError: one of them is no checkpoint.
    """

    def __init__(self, files: Sequence[str | os.PathLike[str]] = ()):
        self._paths: dict[str, dict[int, str | Path]] = {}
        for item in bundled():
            self._paths.setdefault(item.name, {})[item.scale] = item.path
        self.default = DEFAULT_MODEL
        # With its suffix, so that no file has the name of bundled weights.
        for file in reversed(files):
            self.default = os.fspath(file)
            self._paths[self.default] = {scale_of(file)[0]: self.default}
        self._loaded: OrderedDict[tuple[str, int, float], Upscaler] = OrderedDict()
        self._guard = threading.Lock()

    @property
    def names(self) -> list[str]:
        """All names, the default first."""
        return [self.default, *(name for name in self._paths if name != self.default)]

    def scales(self, name: str) -> list[int]:
        """Return the scales with weights for a name. Raises CheckpointError: unknown name."""
        if name not in self._paths:
            raise CheckpointError(f"no model {name!r} here; choose from {', '.join(self.names)}")
        return sorted(self._paths[name])

    def has_strength(self, name: str, scale: int) -> bool:
        """Whether it is the model for photographs, whose weights can be mixed with those of BASE."""
        return name == PHOTO and scale in self._paths.get(PHOTO, {}) and scale in self._paths.get(BASE, {})

    def load(self, name: str, scale: int, strength: float = 1.0) -> Upscaler:
        """Return a network that streams where it can, so that it reports progress and can be stopped.

        `strength` from 0 to 1 mixes the model for photographs with BASE; other models have none.

        Raises:
            CheckpointError: no such model, or not for that scale.
        """
        if scale not in self.scales(name):
            raise CheckpointError(f"{name} has no weights for x{scale}")
        strength = round(min(max(strength, 0.0), 1.0), 2) if self.has_strength(name, scale) else 1.0
        key = name, scale, strength
        with self._guard:
            if key not in self._loaded:
                path = self._paths[name][scale]
                if strength < 1:
                    upscaler = Upscaler(mix(self._paths[BASE][scale], path, strength=strength, scale=scale))
                else:
                    upscaler = Upscaler(path)
                if upscaler.network.streamable:
                    upscaler.mode = "stream"
                upscaler.network.requires_grad_(False)
                self._loaded[key] = upscaler
            self._loaded.move_to_end(key)
            if len(self._loaded) > MAX_LOADED:
                self._loaded.popitem(last=False)
            return self._loaded[key]


def count_blocks(upscaler: Upscaler) -> int:
    """Return the number of non-local blocks of a network."""
    network = upscaler.network
    return len(network.non_local_blocks) if isinstance(network, SRNetwork) else 0


def sr_network(upscaler: Upscaler) -> SRNetwork:
    """Return the network of an upscaler whose attention is shown."""
    network = upscaler.network
    assert isinstance(network, SRNetwork)
    return network


def config_of(upscaler: Upscaler) -> SRConfig:
    """Return the settings of a network; of another method's, those of a network without attention."""
    network = upscaler.network
    return network.config if isinstance(network, SRNetwork) else SRConfig(scale=4, attention="none")
