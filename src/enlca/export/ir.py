"""The same graph for OpenVINO: an `.xml` of layers and a `.bin` of weights beside it.

OpenVINO computes in bfloat16 or float16 wherever a processor is faster at it. The layers of the attention
are marked `precise`, which it honours on every device: they stay in float32.
"""

import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import NamedTuple

from enlca.export.extras import need
from enlca.export.graph import ATTENTION

CONSTANT = ("Const", "Parameter", "Result")


class IR(NamedTuple):
    """The two files of an OpenVINO model."""

    xml: bytes
    weights: bytes


def openvino_ir(graph: bytes, metadata: dict[str, str]) -> IR:
    """The IR of an ONNX graph, in float32; `metadata` goes into its rt_info under `enlca`.

    Raises:
        MissingExtra: OpenVINO is not installed.
    """
    openvino = need("openvino")
    model = openvino.Core().read_model(graph)
    for name, text in metadata.items():
        model.set_rt_info(text, ["enlca", name])
    with tempfile.TemporaryDirectory() as folder:
        xml, weights = Path(folder, "model.xml"), Path(folder, "model.bin")
        openvino.serialize(model, str(xml), str(weights))
        return IR(precise_attention(xml.read_bytes()), weights.read_bytes())


def precise_attention(xml: bytes) -> bytes:
    """Mark the attention's layers: lower precision is not for them."""
    root = ET.fromstring(xml)
    for layer in root.iter("layer"):
        if layer.get("name", "").startswith(ATTENTION) and layer.get("type") not in CONSTANT:
            notes = layer.find("rt_info")
            if notes is None:
                notes = ET.Element("rt_info")
                # After `data`, before the ports.
                layer.insert(int(layer.find("data") is not None), notes)
            ET.SubElement(notes, "attribute", name="precise", version="0")
    return ET.tostring(root, encoding="utf-8", xml_declaration=True)
