"""The same graph for OpenVINO: an `.xml` of layers and a `.bin` of weights beside it.

OpenVINO computes in bfloat16 or float16 wherever a processor is faster at it. The layers of the attention
are marked `precise`, to stay in float32; but where it rewrites a layer, the mark is lost. So for bfloat16 our
own engine asks for the types that are written in the model, and has them written for the convolutions alone.
"""

import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

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


def lower_convolutions(model: Any) -> None:
    """Let each convolution of an OpenVINO model, with its bias, take and give bfloat16, between float32."""
    openvino = need("openvino")
    ops = openvino.opset13
    half = openvino.Type.bf16
    for convolution in model.get_ordered_ops():
        if convolution.get_type_name() != "Convolution":
            continue
        bias = _bias_after(convolution)
        last = bias or convolution
        for given in (*convolution.inputs(), *(bias.inputs() if bias else ())):
            source = given.get_source_output()
            if source.get_node() == convolution:
                continue
            if source.get_node().get_type_name() == "Constant":
                lowered = ops.constant(source.get_node().data.astype(np.float32), dtype=half)
            else:
                lowered = ops.convert(source, half)
            given.replace_source_output(lowered.output(0))
        takers = list(last.output(0).get_target_inputs())
        restored = ops.convert(last.output(0), openvino.Type.f32)
        for taker in takers:
            taker.replace_source_output(restored.output(0))
    model.validate_nodes_and_infer_types()


def _bias_after(convolution: Any) -> Any | None:
    """The sum with its bias, if it has one and nobody takes what is before it."""
    takers = list(convolution.output(0).get_target_inputs())
    if len(takers) != 1 or takers[0].get_node().get_type_name() != "Add":
        return None
    other = takers[0].get_node().input(1 - takers[0].get_index()).get_source_output().get_node()
    return takers[0].get_node() if other.get_type_name() in ("Constant", "Reshape") else None
