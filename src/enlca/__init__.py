"""Image super-resolution with efficient non-local contrastive attention (ENLCA, AAAI 2022).

    import enlca
    up = enlca.Upscaler("enlcn-tiny", scale=4)
    up("photo.jpg").save("photo_x4.png")

Names are loaded when first used, so that `import enlca` and `enlca --help` cost nothing.
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from enlca.attention.block import NonLocalBlock
    from enlca.attention.exact import ExactAttend
    from enlca.attention.linear import LinearAttend
    from enlca.checkpoint.file import save
    from enlca.checkpoint.store import load
    from enlca.inference.upscaler import Upscaler
    from enlca.network.sr import SRConfig, SRNetwork

__version__ = "0.1.0"

# Loggers like `enlca.inference.upscaler` say what is decided; nothing is printed without a handler.
logging.getLogger("enlca").addHandler(logging.NullHandler())

_PLACES = {
    "ExactAttend": "enlca.attention.exact",
    "LinearAttend": "enlca.attention.linear",
    "NonLocalBlock": "enlca.attention.block",
    "SRConfig": "enlca.network.sr",
    "SRNetwork": "enlca.network.sr",
    "Upscaler": "enlca.inference.upscaler",
    "load": "enlca.checkpoint.store",
    "save": "enlca.checkpoint.file",
}
__all__ = [  # noqa: RUF022 - the order a reader meets them in
    "Upscaler",
    "load",
    "save",
    "SRConfig",
    "SRNetwork",
    "NonLocalBlock",
    "LinearAttend",
    "ExactAttend",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'enlca' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
