"""Compiled attention against eager attention; `test_ops.py` runs these in a subprocess."""

import pytest
import torch
from torch import Tensor

from enlca.attention.linear import LinearAttend
from enlca.attention.sharp import SharpAttend

B, N, D, M, E = 2, 4099, 13, 31, 7  # distinct primes; three chunks


@pytest.fixture
def module() -> LinearAttend:
    torch._dynamo.reset()
    return LinearAttend(D, n_features=M, floor=1e-4, generator=torch.Generator().manual_seed(7))


def embeddings(n: int = N) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(B, size, n, generator=generator).requires_grad_() for size in (D, D, E)]


def results(y: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    return [y, *torch.autograd.grad(y.square().sum(), inputs)]


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_it_compiles_without_graph_breaks_and_computes_the_same(module, backend):
    inputs = embeddings()
    compiled = torch.compile(module, fullgraph=True, backend=backend)
    found, expected = (results(form(*inputs), inputs) for form in (compiled, module))
    assert all(map(torch.equal, found, expected))
    with torch.inference_mode():
        assert torch.equal(compiled(*inputs), expected[0])


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_fitted_features_compile_without_graph_breaks(backend):
    torch._dynamo.reset()
    module = SharpAttend(D, n_features=M, generator=torch.Generator().manual_seed(7))
    inputs = embeddings()
    compiled = torch.compile(module, fullgraph=True, backend=backend)
    for found, expected in zip(*(results(form(*inputs), inputs) for form in (compiled, module)), strict=True):
        torch.testing.assert_close(found, expected)


def test_one_graph_serves_images_of_any_size(module):
    counter = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(module, fullgraph=True, backend=counter, dynamic=True)
    for n in (N, 613, 59):
        inputs = embeddings(n)
        assert torch.equal(compiled(*inputs), module(*inputs))
    assert counter.frame_count == 1
