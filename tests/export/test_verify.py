"""Every kind of network that can be exported, by both engines, against PyTorch."""

import pytest
import torch

from enlca.errors import ParityError
from enlca.export.engines import Engine, OnnxEngine, OpenVinoEngine
from enlca.export.graphs import openvino_ir
from enlca.export.verify import SIZES, check_parity


def engine_of(kind: str, graph: bytes) -> Engine:
    return OnnxEngine(graph) if kind == "onnx" else OpenVinoEngine(openvino_ir(graph, {}))


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_an_engine_computes_what_the_network_computes_at_any_size(exported, kind):
    engine = engine_of(kind, exported.graph)
    # One engine for all, small after large and back: state kept from one size must not affect another.
    sizes = [*SIZES, (1, 61, 53), (1, 1, 1), (5, 2, 3), (1, 97, 11), (2, 32, 32), (1, 7, 11)]
    assert check_parity(engine, exported.network, sizes=sizes) < 2e-5


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
@torch.no_grad()
def test_a_picture_of_100_000_positions_agrees(linear_graph, kind):
    engine = engine_of(kind, linear_graph.graph)
    assert check_parity(engine, linear_graph.network, sizes=[(1, 331, 307)]) < 2e-5


@pytest.mark.parametrize("wrong", [1.01, float("nan")])
def test_an_engine_that_computes_something_else_is_found(wrong, small_network):
    network = small_network("none")
    with pytest.raises(ParityError, match=r"differs from PyTorch by .* for pictures of 1 x 3 x 7 x 11"):
        check_parity(lambda lr: wrong * network(lr), network)


@pytest.mark.parametrize("part", [(slice(1), slice(1)), (slice(5), slice(None))])
def test_an_engine_whose_pictures_have_another_size_is_found(small_network, part):
    network = small_network("none")
    with pytest.raises(
        ParityError, match=r"makes 1 x 3 x . x \d+ of pictures of 1 x 3 x 7 x 11, PyTorch 1 x"
    ):
        check_parity(lambda lr: network(lr)[..., *part], network)
