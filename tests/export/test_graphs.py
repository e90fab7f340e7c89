"""The content of an exported file."""

import json

import numpy as np
import pytest
import torch

import enlca
from enlca.checkpoint.file import Card
from enlca.errors import ExportError
from enlca.export import graphs
from enlca.export.graphs import ATTENTION, metadata, onnx_graph, openvino_ir
from enlca.network.sr import SRConfig


def test_an_onnx_file_holds_the_settings_and_the_version(exported):
    import onnx

    model = onnx.load_from_string(exported.graph)
    onnx.checker.check_model(model, full_check=True)
    notes = {entry.key: entry.value for entry in model.metadata_props}
    assert SRConfig.from_dict(json.loads(notes["enlca"])["network"]) == exported.network.config
    assert notes["enlca_version"] == enlca.__version__


def test_the_file_states_layout_range_and_names(exported):
    import onnx

    model = onnx.load_from_string(exported.graph)
    notes = {entry.key: entry.value for entry in model.metadata_props}
    scale = exported.network.scale
    [taken], [given] = model.graph.input, model.graph.output
    assert (taken.name, given.name) == ("lr", "sr")
    assert taken.doc_string == notes["lr"]
    assert given.doc_string == notes["sr"]
    assert notes["lr"].startswith("float32, B x 3 x H x W: any number of pictures of any one size")
    assert f"B x 3 x {scale} H x {scale} W" in notes["sr"]


def test_batch_height_and_width_are_free_and_all_weights_are_inside(exported):
    import onnx

    model = onnx.load_from_string(exported.graph)
    sizes = [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    assert sizes == ["batch", 3, "height", "width"]
    assert not any(tensor.external_data for tensor in model.graph.initializer)


def test_nothing_of_this_machine_is_in_the_file(exported):
    for secret in (b".py", b"site-packages", b"/home", b"stack_trace"):
        assert secret not in exported.graph
        assert secret not in openvino_ir(exported.graph, {}).xml


def test_the_attention_is_named_and_its_convolutions_are_not(exported):
    import onnx

    nodes = onnx.load_from_string(exported.graph).graph.node
    named = {node.op_type for node in nodes if node.name.startswith(ATTENTION)}
    other = {node.op_type for node in nodes if not node.name.startswith(ATTENTION)}
    assert "Conv" not in named
    if exported.network.config.attention == "none":
        assert named == set()
    else:
        assert named >= {"Exp", "Log", "ReduceMax", "Concat"} or named >= {"Scan", "Exp", "Log"}
        assert not other & {"Exp", "Log", "ReduceMax", "MatMul", "Gemm", "Softmax", "Scan"}


def test_an_ir_holds_the_card_that_the_checkpoint_had(linear_graph):
    import openvino

    card = Card(network=linear_graph.network.config, variant="released", scores={"Set5": {"psnr_y": 30.5}})
    ir = openvino_ir(linear_graph.graph, metadata(linear_graph.network, card))
    model = openvino.Core().read_model(ir.xml, openvino.Tensor(np.frombuffer(ir.weights, np.uint8)))
    assert Card.from_json(model.get_rt_info(["enlca", "enlca"]).astype(str)) == card
    assert model.get_rt_info(["enlca", "enlca_version"]).astype(str) == enlca.__version__


def test_a_failure_inside_pytorch_is_one_line(monkeypatch, small_network):
    pytest.importorskip("onnxscript", reason="no onnxscript: pip install 'enlca[export]'")

    def fail(*args, **kwargs):
        try:
            raise KeyError("a line\nand many more")
        except KeyError as error:
            raise RuntimeError("a page of advice") from error

    monkeypatch.setattr(torch.onnx, "export", fail)
    says = r"^PyTorch .* cannot export this network \(KeyError: .*\)$"
    with pytest.raises(ExportError, match=says) as caught:
        onnx_graph(small_network("none"))
    assert "\n" not in str(caught.value)


def test_the_export_prints_nothing(capfd, export_once, small_network):
    graphs.onnx_graph(small_network("none"))
    assert capfd.readouterr() == ("", "")
