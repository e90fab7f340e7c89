"""The packages of the extra `export`: imported late, by name, and missed in one line."""

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from enlca.errors import require

# What each engine runs on, and what writes its file.
PACKAGES = {"onnx": ("onnxruntime", "onnx", "onnxscript"), "openvino": ("openvino", "onnx", "onnxscript")}


def installed(engine: str) -> bool:
    """Whether the packages of "onnx" or "openvino" are here; nothing is imported."""
    return all(sys.modules.get(name) or _findable(name) for name in PACKAGES[engine])


def need(package: str) -> ModuleType:
    """Import a package of the extra.

    Raises:
        MissingExtra: it is not installed, or cannot be loaded.
    """
    with require("export", feature="export"):
        return _import_openvino() if package == "openvino" else import_module(package)


def _findable(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:
        # A module that says of itself that it is not there.
        return False


def _import_openvino() -> ModuleType:
    """OpenVINO, without the report that its import sends to its makers where nobody has forbidden it.

    It does without where its package for that is missing, so for a moment it is.
    """
    if "openvino" in sys.modules or "openvino_telemetry" in sys.modules:
        return import_module("openvino")
    hidden: dict[str, ModuleType | None] = {"openvino_telemetry": None}
    sys.modules.update(hidden)  # type: ignore[arg-type]
    try:
        return import_module("openvino")
    finally:
        del sys.modules["openvino_telemetry"]
