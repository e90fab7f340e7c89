"""The same graph for OpenVINO: an `.xml` of layers and a `.bin` of weights beside it.

OpenVINO computes in bfloat16 or float16 wherever a processor is faster at it. The layers of the attention
are marked `precise`, to stay in float32; but where it rewrites a layer, the mark is lost. So for bfloat16 our
own engine asks for the types that are written in the model, and has them written for the convolutions alone,
with what PyTorch's autocast computes: bias and ReLU belong to them, and numbers are rounded to the nearest.
"""

import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from enlca.export.extras import need
from enlca.export.graph import ATTENTION

# Of 24 bits, 16 go where this is multiplied by and taken away again (Veltkamp 1968), and 8 stay: bfloat16's.
SPLIT = np.float32(2**16 + 1)
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
    """Convolutions of an OpenVINO model, with bias and ReLU, in bfloat16; all else stays in float32."""
    openvino = need("openvino")
    ops = openvino.opset13
    half = openvino.Type.bf16
    lowered: dict[tuple[str, int], Any] = {}

    def lower(source: Any) -> Any:
        node = source.get_node()
        if node.get_type_name() == "Convert" and node.input(0).get_element_type() == half:
            return node.input(0).get_source_output()
        # Queries, keys and values are made of the same features.
        key = node.get_name(), source.get_index()
        if key not in lowered:
            lowered[key] = ops.convert(_rounding(source), half).output(0)
        return lowered[key]

    for convolution in model.get_ordered_ops():
        if convolution.get_type_name() != "Convolution":
            continue
        features, weights = (given.get_source_output() for given in convolution.inputs())
        filters = ops.constant(_rounded(weights.get_node().data), dtype=half)
        last = convolution
        result = ops.convolution(lower(features), filters, **convolution.get_attributes())
        if add := _taker(last, "Add"):
            bias = _constant_of(add, last)
            if bias is not None:
                shaped = _rounded(bias).reshape(1, -1, 1, 1)
                last, result = add, ops.add(result, ops.constant(shaped, dtype=half))
        if relu := _taker(last, "Relu"):
            last, result = relu, ops.relu(result)
        takers = list(last.output(0).get_target_inputs())
        restored = ops.convert(result, openvino.Type.f32)
        for taker in takers:
            taker.replace_source_output(restored.output(0))
    model.validate_nodes_and_infer_types()


def _taker(node: Any, kind: str) -> Any | None:
    """What takes a layer's result, if it is one of this kind, and alone but for a look at the shape."""
    nodes = [taker.get_node() for taker in node.output(0).get_target_inputs()]
    nodes = [taker for taker in nodes if taker.get_type_name() != "ShapeOf"]
    return nodes[0] if len(nodes) == 1 and nodes[0].get_type_name() == kind else None


def _constant_of(add: Any, other: Any) -> np.ndarray | None:
    """What is added to `other`, if it is a constant, brought into shape or not."""
    for given in add.inputs():
        node = given.get_source_output().get_node()
        if node == other:
            continue
        if node.get_type_name() == "Reshape":
            node = node.input(0).get_source_output().get_node()
        return node.data if node.get_type_name() == "Constant" else None
    return None


def _rounded(values: np.ndarray) -> np.ndarray:
    """The nearest numbers of bfloat16, in float32."""
    single = values.astype(np.float32)
    scaled = single * SPLIT
    return scaled - (scaled - single)


def _rounding(source: Any) -> Any:
    """The same, as layers of a model.

    OpenVINO 2026.4 goes to the nearest bfloat16 only from numbers whose last bit there would be 1; from
    others towards zero, which cost 0.04 dB. What is rounded already stays as it is.
    """
    ops = need("openvino").opset13
    scaled = ops.multiply(source, SPLIT)
    return ops.subtract(scaled, ops.subtract(scaled, source))
