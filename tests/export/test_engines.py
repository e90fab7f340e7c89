"""An engine is called like a network, and refuses what it cannot do."""

import sys
import threading

import pytest
import torch

from enlca.errors import EngineError, MissingExtra
from enlca.export import engines
from enlca.export.engines import Engine, OnnxEngine, OpenVinoEngine, attention_precisions, load_engine
from enlca.export.graphs import ATTENTION, openvino_ir, precise_attention

KINDS = ["onnx", "openvino"]


@pytest.fixture
def exports(linear_graph, monkeypatch) -> list[str]:
    """Replaces the export, which takes seconds, and lists its calls."""
    calls = []

    def count(network):
        calls.append("export")
        return linear_graph.graph

    monkeypatch.setattr(engines, "onnx_graph", count)
    return calls


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_comes_back_in_its_own_type(exports, linear_graph, kind):
    engine = load_engine(kind, linear_graph.network)
    lr = torch.rand(3, 3, 5, 7, dtype=torch.float64)
    sr = engine(lr)
    assert sr.dtype == torch.float64
    with torch.no_grad():
        expected = linear_graph.network(lr.float()).double()
    torch.testing.assert_close(sr, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_result_is_not_overwritten_by_the_next_picture(exports, linear_graph, kind):
    engine = load_engine(kind, linear_graph.network)
    lr = torch.rand(1, 3, 5, 7)
    first = engine(lr)
    kept = first.clone()
    engine(1 - lr)
    assert torch.equal(first, kept)


@pytest.mark.parametrize("kind", KINDS)
def test_threads_may_share_an_engine(exports, linear_graph, kind):
    engine = load_engine(kind, linear_graph.network)
    pictures = [torch.rand(1, 3, 5 + i, 7) for i in range(4)]
    alone = [engine(lr) for lr in pictures]
    together: dict[int, torch.Tensor] = {}

    def run(index: int) -> None:
        for _ in range(5):
            together[index] = engine(pictures[index])

    threads = [threading.Thread(target=run, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, expected in enumerate(alone):
        torch.testing.assert_close(together[index], expected)


@pytest.mark.parametrize("kind", KINDS)
def test_an_engine_takes_as_many_threads_as_pytorch(exports, linear_graph, kind, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert load_engine(kind, linear_graph.network).threads == 3
    assert load_engine(kind, linear_graph.network, threads=1).threads == 1


def test_the_second_engine_of_a_network_is_not_exported_again(exports, linear_graph):
    for kind in [*KINDS, *KINDS]:
        assert isinstance(load_engine(kind, linear_graph.network), Engine)
    assert exports == ["export"]


def test_other_weights_are_exported_again(exports, linear_graph, small_network):
    load_engine("onnx", linear_graph.network)
    changed = small_network("linear")
    with torch.no_grad():
        changed.head.bias += 1e-3
    load_engine("onnx", changed)
    assert len(exports) == 2


def test_the_attention_is_marked_to_stay_in_float32(exported):
    ir = openvino_ir(exported.graph, {})
    attends = exported.network.config.attention != "none"
    assert (b'name="precise"' in ir.xml) == attends
    assert attention_precisions(OpenVinoEngine(ir)._compiled) <= {"f32", "i32"}
    if attends:
        assert "f32" in attention_precisions(OpenVinoEngine(ir)._compiled)


def test_every_rewritten_layer_between_two_of_the_attention_is_named_after_it(linear_graph):
    """A layer that OpenVINO rewrites must keep the attention's name, else it may lower its precision."""
    compiled = OpenVinoEngine(openvino_ir(linear_graph.graph, {}))._compiled
    kept = ("Convolution", "Input", "Const", "Reorder", "Output", "ShapeOf", "Broadcast")
    strays = set()
    for layer in compiled.get_runtime_model().get_ordered_ops():
        notes = layer.get_rt_info()
        name, kind = layer.get_friendly_name(), notes["layerType"].astype(str)
        real = notes["runtimePrecision"].astype(str) == "f32" and kind not in kept
        if real and not name.startswith((ATTENTION, "node_", "lr", "sr")) and "flatten_reshape" not in name:
            strays.add((kind, name))
    assert strays == set()


def test_marks_stand_on_the_attention_alone():
    xml = b'<net><layers><layer id="0" name="attention/a" type="Exp"><data/><output/></layer>'
    xml += (
        b'<layer id="1" name="attention/c" type="Const"/><layer id="2" name="b" type="Exp"/></layers></net>'
    )
    marked = precise_attention(xml).decode()
    assert marked.count("precise") == 1
    assert '<data /><rt_info><attribute name="precise" version="0" /></rt_info><output />' in marked


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_package_is_one_line_with_its_remedy(kind, linear_graph, monkeypatch):
    monkeypatch.setitem(sys.modules, {"onnx": "onnxruntime", "openvino": "openvino"}[kind], None)
    monkeypatch.setattr(engines, "onnx_graph", lambda network: linear_graph.graph)
    with pytest.raises(MissingExtra, match=r"pip install 'enlca\[export\]'$") as caught:
        load_engine(kind, linear_graph.network)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_unknown_engines_are_refused(small_network):
    with pytest.raises(ValueError, match="unknown engine 'tensorrt'; choose from onnx, openvino"):
        load_engine("tensorrt", small_network("none"))


def test_an_engine_says_what_it_is(linear_graph):
    engine = OnnxEngine(linear_graph.graph, threads=1)
    assert (engine.name, engine.threads) == ("onnx", 1)


def test_an_openvino_that_lowers_the_attention_is_refused(linear_graph, monkeypatch):
    monkeypatch.setattr(engines, "attention_precisions", lambda compiled: {"f32", "bf16"})
    with pytest.raises(EngineError, match="computes the attention in bf16: use engine torch or onnx"):
        OpenVinoEngine(openvino_ir(linear_graph.graph, {}))
