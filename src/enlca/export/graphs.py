"""Build the file of a network for another runtime: an ONNX graph, or OpenVINO's IR made of it.

A graph takes any batch, height and width, and holds weights, settings and the checkpoint's card.
Nodes of the attention are named `attention/...` and marked `precise` in the IR, so that a runtime that lowers
the precision of a model can leave them in float32.

Letters:  B batch   H, W height and width of the LR image   S scale
"""

import logging
import sys
import tempfile
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch

import enlca
from enlca.checkpoint.file import KEY, Card
from enlca.errors import ExportError, require
from enlca.export.traceable import TraceableBlock, traceable
from enlca.network.sr import SRNetwork

INPUT, OUTPUT = "lr", "sr"
ATTENTION = "attention/"
VERSION_KEY = "enlca_version"
# What a program that runs a file has to know, in the file itself; S is the scale.
LAYOUT = {
    INPUT: "float32, B x 3 x H x W: any number of pictures of any one size; channels R, G, B, values 0 to 1",
    OUTPUT: "float32, B x 3 x {S} H x {S} W: as the input, times {S}; clip to 0 and 1 before rounding",
}
# Of 2022: every runtime in use reads it.
OPSET = 18
# The sizes of the example do not matter, but torch.export takes 1 for a constant.
EXAMPLE = (2, 3, 23, 29)
FREE = {0: "batch", 2: "height", 3: "width"}
CONSTANT = ("Const", "Parameter", "Result")


class IR(NamedTuple):
    """The content of the two files of an OpenVINO model, `.xml` and `.bin`."""

    xml: bytes
    weights: bytes


def onnx_graph(network: SRNetwork, card: Card | None = None) -> bytes:
    """Return the content of an `.onnx` file: input `lr` B 3 H W in [0, 1], output `sr` B 3 SH SW, float32.

    Args:
        network: any network but NLSN.
        card: the checkpoint's card, written into the metadata of the file (`enlca`, `enlca_version`).

    Raises:
        ExportError: for NLSN, or where this version of PyTorch fails.
        MissingExtra: onnx or onnxscript are not installed.
    """
    copied = traceable(network)
    import_extra("onnx")
    import_extra("onnxscript")
    sizes = {axis: torch.export.Dim(name, min=1) for axis, name in FREE.items()}
    try:
        with _quiet():
            program = torch.onnx.export(
                copied,
                (torch.zeros(EXAMPLE),),
                dynamo=True,
                dynamic_shapes=(sizes,),
                input_names=[INPUT],
                output_names=[OUTPUT],
                opset_version=OPSET,
                verbose=False,
            )
    except Exception as error:
        # The exporter raises errors of many types; only another version of PyTorch helps against any of them.
        reason = f"{type(_root_cause(error)).__name__}: {_root_cause(error)}".splitlines()[0]
        raise ExportError(f"PyTorch {torch.__version__} cannot export this network ({reason})") from error
    assert program is not None
    model = program.model_proto
    blocks = [name for name, module in copied.named_modules() if isinstance(module, TraceableBlock)]
    _name_attention(model.graph, tuple(blocks))
    facts = metadata(network, card)
    for name, text in facts.items():
        model.metadata_props.add(key=name, value=text)
    for value in (*model.graph.input, *model.graph.output):
        value.doc_string = facts[value.name]
    return model.SerializeToString()


def openvino_ir(graph: bytes, metadata: dict[str, str]) -> IR:
    """Convert an ONNX graph to OpenVINO's IR in float32; `metadata` goes into its rt_info under `enlca`.

    Raises:
        MissingExtra: OpenVINO is not installed.
    """
    openvino = import_extra("openvino")
    model = openvino.Core().read_model(graph)
    for name, text in metadata.items():
        model.set_rt_info(text, ["enlca", name])
    with tempfile.TemporaryDirectory() as folder:
        xml, weights = Path(folder, "model.xml"), Path(folder, "model.bin")
        openvino.serialize(model, str(xml), str(weights))
        return IR(precise_attention(xml.read_bytes()), weights.read_bytes())


def precise_attention(xml: bytes) -> bytes:
    """Mark the attention's layers of an IR as `precise`: OpenVINO keeps marked layers in float32."""
    root = ET.fromstring(xml)
    for layer in root.iter("layer"):
        if layer.get("name", "").startswith(ATTENTION) and layer.get("type") not in CONSTANT:
            info = layer.find("rt_info")
            if info is None:
                info = ET.Element("rt_info")
                # After `data`, before the ports.
                layer.insert(int(layer.find("data") is not None), info)
            ET.SubElement(info, "attribute", name="precise", version="0")
    return ET.tostring(root, encoding="utf-8", xml_declaration=True)


def metadata(network: SRNetwork, card: Card | None) -> dict[str, str]:
    """Return the metadata of a file: the checkpoint's card with the SRConfig, our version, the layouts."""
    layouts = {name: text.format(S=network.scale) for name, text in LAYOUT.items()}
    return {KEY: (card or Card(network=network.config)).to_json(), VERSION_KEY: enlca.__version__, **layouts}


def import_extra(package: str) -> ModuleType:
    """Import a package of the extra `export`.

    Raises:
        MissingExtra: it is not installed, or cannot be loaded.
    """
    with require("export", feature="export"):
        return _import_openvino() if package == "openvino" else import_module(package)


def _import_openvino() -> ModuleType:
    """Import OpenVINO with `openvino_telemetry` hidden: its import sends a usage report to its makers."""
    if "openvino" in sys.modules or "openvino_telemetry" in sys.modules:
        return import_module("openvino")
    hidden: dict[str, ModuleType | None] = {"openvino_telemetry": None}
    sys.modules.update(hidden)  # type: ignore[arg-type]
    try:
        return import_module("openvino")
    finally:
        del sys.modules["openvino_telemetry"]


def _name_attention(graph: Any, blocks: tuple[str, ...], *, inside: bool = False) -> None:
    """Prefix the names of the attention's nodes, and drop the source files and lines that PyTorch notes."""
    for node in graph.node:
        scopes = next((p.value for p in node.metadata_props if p.key == "pkg.torch.onnx.name_scopes"), "")
        # The embedding convolutions count as the network's, what is computed from them as attention.
        attends = inside or (any(f"'{block}'" in scopes for block in blocks) and node.op_type != "Conv")
        if attends:
            node.name = ATTENTION + node.name
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _name_attention(attribute.g, blocks, inside=attends)
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.ClearField("metadata_props")
        value.ClearField("doc_string")
    graph.ClearField("metadata_props")
    graph.ClearField("doc_string")


def _root_cause(error: BaseException) -> BaseException:
    """Return the first error of a chain; the last one's message is a page of advice by PyTorch."""
    return _root_cause(error.__cause__) if error.__cause__ else error


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporter's warnings: deprecations inside PyTorch, and the absence of torchvision."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
