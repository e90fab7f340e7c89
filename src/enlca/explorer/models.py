"""The networks to choose from: the bundled ones, and the files that the command line names."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from enlca.checkpoint.store import bundled, read_card
from enlca.errors import CheckpointError
from enlca.inference.upscaler import Upscaler
from enlca.network.sr import SRNetwork

# Networks that stay loaded.
MAX_LOADED = 4


class Models:
    """Names, the scales of each name, and the networks, which are loaded when they are needed.

    Args:
        files: checkpoints beside the bundled ones; their paths are their names.

    Attributes:
        default: chosen at first: the first of the files, or enlcn-tiny.

    Raises:
        CheckpointError: a file is no checkpoint.
    """

    def __init__(self, files: Sequence[Path] = ()):
        self._paths: dict[str, dict[int, Path]] = {}
        for item in bundled():
            self._paths.setdefault(item.name, {})[item.scale] = item.path
        self.default = "enlcn-tiny"
        # With its suffix, so that no file has the name of bundled weights.
        for path in reversed(files):
            self.default = str(path)
            self._paths[self.default] = {read_card(path).network.scale: path}
        self._loaded: OrderedDict[tuple[str, int], Upscaler] = OrderedDict()
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

    def load(self, name: str, scale: int) -> Upscaler:
        """Return a network that streams where it can, so that it reports progress and can be stopped.

        Raises:
            CheckpointError: no such model, or not for that scale.
        """
        if scale not in self.scales(name):
            raise CheckpointError(f"{name} has no weights for x{scale}")
        with self._guard:
            if (name, scale) not in self._loaded:
                path = self._paths[name][scale]
                upscaler = Upscaler(path)
                if upscaler.network.streamable:
                    upscaler.mode = "stream"
                upscaler.network.requires_grad_(False)
                self._loaded[name, scale] = upscaler
            self._loaded.move_to_end((name, scale))
            if len(self._loaded) > MAX_LOADED:
                self._loaded.popitem(last=False)
            return self._loaded[name, scale]


def count_blocks(upscaler: Upscaler) -> int:
    """Return the number of non-local blocks of a network."""
    network = upscaler.network
    return len(network.non_local_blocks) if isinstance(network, SRNetwork) else 0


def sr_network(upscaler: Upscaler) -> SRNetwork:
    """Return the network of an upscaler whose attention is shown."""
    network = upscaler.network
    assert isinstance(network, SRNetwork)
    return network
