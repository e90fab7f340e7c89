"""The fast path against the formulas of `linear.py`: values, gradients, types, compilers, memory."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from enlca.analysis.cost import count
from enlca.attention import chunked, ops, workspace
from enlca.attention.features import log_features, orthogonal_gaussian
from enlca.attention.linear import KeyValueSummary, LinearAttend, combine, read, summarise

B, N, NQ, D, M, E = 2, 613, 557, 13, 31, 7  # distinct primes: a swapped axis cannot hide
# Relative to the largest number: fp32 arithmetic on both sides, then rounding to the type.
ROUNDING = {torch.float64: 1e-12, torch.float32: 3e-6, torch.bfloat16: 2**-8, torch.float16: 2**-11}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """At most 256 positions per chunk: 613 of them are three chunks, the last one shorter."""
    monkeypatch.setattr(workspace, "CPU_FEATURES", 1)


@pytest.fixture(params=[(1, True), (3, True), (1, False), (3, False)], ids=str)
def paths(request, monkeypatch):
    """Every code path: one thread and several, with unshifted exponentials and with shifted ones."""
    threads, unshifted = request.param
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    if not unshifted:
        for name in ("summarise", "read"):
            monkeypatch.setattr(chunked, f"_{name}_unshifted", lambda *_: False)
    yield
    torch.set_num_threads(before)


def embeddings(
    dtype: torch.dtype = torch.float64,
    *,
    b: int = B,
    n: int = N,
    nq: int = NQ,
    d: int = D,
    length: float = 2.4,
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    shapes = ((b, d, nq), (b, d, n), (b, E, n))
    q, k, v = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    q, k = (length * u / u.norm(dim=1, keepdim=True) for u in (q, k))
    return [u.to(dtype).requires_grad_() for u in (q, k, v)]


def attend(d: int = D, m: int = M, *, floor: float = 0.0) -> LinearAttend:
    return LinearAttend(d, n_features=m, floor=floor, generator=torch.Generator().manual_seed(7))


def formulas(module: LinearAttend, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    f, floor = module.projection, module.floor
    image = summarise(log_features(k, f, floor=floor), v)
    return read(log_features(q, f, floor=floor), image).to(q.dtype)


def results(y: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    upstream = torch.randn(y.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return [y, *torch.autograd.grad(y, inputs, upstream.to(y.dtype))]


def assert_same(mine: list[Tensor], theirs: list[Tensor], rounding: float) -> None:
    """Equal but for rounding, in units of the largest number, or of one, which inputs are like."""
    for a, b in zip(mine, theirs, strict=True):
        assert a.shape == b.shape
        a, b = a.detach().double(), b.detach().double()
        assert float((a - b).abs().max()) <= rounding * max(1.0, float(b.abs().max()))


SIZES = {
    "three chunks": {},
    "one chunk": {"n": 59, "nq": 61},
    "one position": {"n": 1, "nq": 1},
    "four images in a chunk, and one": {"b": 5, "n": 59, "nq": 61},
    "parts that do not divide, and a rest": {"n": 1999, "nq": 1031},
    "more channels than features": {"d": 37},
    "far along the rows of F": {"length": 40.0},
}


@pytest.mark.parametrize("floor", [0.0, 1e-4])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.usefixtures("paths")
def test_chunks_are_the_formulas_in_value_and_gradient(sizes, floor):
    module, inputs = attend(sizes.get("d", D), floor=floor), embeddings(**sizes)
    assert_same(
        results(module(*inputs), inputs), results(formulas(module, *inputs), inputs), ROUNDING[torch.float64]
    )


@pytest.mark.parametrize("floor", [0.0, 1e-4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.usefixtures("paths")
def test_every_type_is_the_formulas_in_float64_but_for_rounding(dtype, floor):
    module, inputs = attend(floor=floor), embeddings(dtype)
    exact = [u.detach().double().requires_grad_() for u in inputs]
    mine = results(module(*inputs), inputs)
    assert {u.dtype for u in mine} == {dtype}
    # In the small types the gradient that arrives is rounded as well.
    rounding = ROUNDING[dtype] * (1 if dtype == torch.float32 else 2)
    assert_same(mine, results(formulas(module, *exact), exact), rounding)


@pytest.mark.usefixtures("paths")
def test_summary_and_reading_are_differentiable_on_their_own():
    module, (q, k, v) = attend(floor=1e-4), embeddings()
    f, floor = module.projection, module.floor
    for part in (0, 1):
        mine, theirs = module.summarise(k, v), summarise(log_features(k, f, floor=floor), v)
        assert_same(results(mine[part], [k]), results(theirs[part], [k]), ROUNDING[torch.float64])
    image = KeyValueSummary(*(u.detach().requires_grad_() for u in module.summarise(k, v)))
    mine, theirs = module.read(q, image), read(log_features(q, f, floor=floor), image)
    assert_same(results(mine, [q, *image]), results(theirs, [q, *image]), ROUNDING[torch.float64])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("b", [1, B])
@pytest.mark.parametrize("floor", [0.0, 1e-4])
@pytest.mark.usefixtures("paths")
def test_channels_last_give_the_same_and_so_are_the_results(b, dtype, floor):
    module, inputs = attend(floor=floor), embeddings(dtype, b=b)
    channels_last = [u.detach().mT.contiguous().mT.requires_grad_() for u in inputs]
    found, expected = (results(module(*given), given) for given in (channels_last, inputs))
    assert [u.stride(1) for u in found] == [u.stride(2) for u in expected] == [1] * 4
    assert_same(found, expected, 2 * ROUNDING[dtype])


@pytest.mark.usefixtures("paths")
def test_keys_may_be_one_and_the_same_memory():
    module, (q, k, v) = attend(), embeddings()
    one = k[..., :1].detach()
    torch.testing.assert_close(
        module(q, one.expand(-1, -1, N), v), v.mean(dim=-1, keepdim=True).expand(-1, -1, NQ)
    )


@pytest.mark.usefixtures("paths")
def test_the_same_call_gives_the_same_bits():
    module, inputs = attend(), embeddings(torch.float32)
    for first, second in zip(*(results(module(*inputs), inputs) for _ in range(2)), strict=True):
        assert torch.equal(first, second)


def test_inference_mode_gives_the_same_bits():
    module, inputs = attend(), embeddings(torch.float32)
    with torch.inference_mode():
        y = module(*inputs)
    assert torch.equal(y, module(*inputs))


def test_calls_of_several_threads_do_not_share_buffers():
    module = attend()
    given = [[u.detach() + i for u in embeddings(torch.float32)] for i in range(8)]
    alone = [module(*inputs) for inputs in given]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            assert all(map(torch.equal, pool.map(lambda inputs: module(*inputs), given), alone))


def test_buffers_made_in_inference_mode_can_be_used_in_training():
    module, inputs = attend(), embeddings(torch.float32)
    expected = results(module(*inputs), inputs)

    def both() -> list[Tensor]:
        with torch.inference_mode():
            module(*inputs)
        return results(module(*inputs), inputs)

    with ThreadPoolExecutor(1) as pool:  # a new thread: its first call is the one in inference mode
        assert all(map(torch.equal, pool.submit(both).result(), expected))


def test_autocast_reaches_neither_values_nor_gradients():
    module, inputs = attend(), embeddings(torch.float32)
    expected = results(module(*inputs), inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = results(module(*inputs), inputs)
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("floor", [0.0, 1e-4])
@pytest.mark.usefixtures("paths")
def test_tiles_add_up_to_the_image(dtype, floor):
    module, (q, k, v) = attend(floor=floor), embeddings(dtype)
    cuts = (0, 1, 300, 300, N)  # the third tile is empty
    tiles = [module.summarise(k[..., a:b], v[..., a:b]) for a, b in pairwise(cuts)]
    parts = combine(combine(combine(tiles[0], tiles[1]), tiles[2]), tiles[3])
    assert_same(list(parts), list(module.summarise(k, v)), ROUNDING[torch.float32])
    assert_same([module.read(q, parts)], [module(q, k, v)], ROUNDING[dtype])


@pytest.mark.parametrize("floor", [0.0, 1e-4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.usefixtures("paths")
def test_any_finite_input_gives_a_finite_output(dtype, floor):
    module, largest = attend(floor=floor), torch.finfo(dtype).max
    signs = [u.detach().sign() for u in embeddings(dtype)]
    for scale in (largest, 1e4, 1.0, torch.finfo(dtype).tiny, 0.0):
        q, k = (u * scale for u in signs[:2])
        for v in (signs[2], signs[2] * largest, torch.full_like(signs[2], largest)):
            assert bool(module(q, k, v).isfinite().all()), scale


@pytest.mark.usefixtures("paths")
def test_one_far_key_does_not_disturb_the_others():
    # Its features are zero beside the others': an average over what is left.
    module, (q, k, v) = attend(), embeddings(torch.float32)
    far = torch.cat([k, torch.full_like(k[..., :1], 3e38)], dim=-1)
    assert_same(
        [module(q, far, torch.cat([v, v[..., :1]], dim=-1))], [module(q, k, v)], ROUNDING[torch.float32]
    )


def test_it_compiles():
    # Without the runtime checks of shapes, which break graphs.
    file = Path(__file__).with_name("compiled_cases.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts=", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "5 passed" in done.stdout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_operators_keep_what_they_promise_to_compilers(dtype):
    f, (q, k, v) = attend().projection, embeddings(dtype)
    torch.library.opcheck(torch.ops.enlca.summarise.default, (k, v, f, 1e-4, "torch"))
    mean, log_total = (u.detach().requires_grad_() for u in torch.ops.enlca.summarise(k, v, f, 1e-4, "torch"))
    torch.library.opcheck(torch.ops.enlca.read.default, (q, mean, log_total, f, 1e-4, "torch"))


def test_an_exported_graph_holds_operations_of_pytorch_for_any_number_of_positions():
    module, inputs = attend(), [u.detach() for u in embeddings(torch.float32)]
    sizes = {name: {2: torch.export.Dim(f"n_{name}")} for name in "qk"}
    exported = torch.export.export(
        module, tuple(inputs), dynamic_shapes={**sizes, "v": sizes["k"]}, strict=False
    )
    names = {str(node.target) for node in exported.graph.nodes if node.op == "call_function"}
    assert names
    assert not [name for name in names if not name.startswith("aten.")]
    for n, nq in ((N, NQ), (59, 61)):
        inputs = [u.detach() for u in embeddings(torch.float32, n=n, nq=nq)]
        assert_same([exported.module()(*inputs)], [module(*inputs)], ROUNDING[torch.float32])


def test_a_projection_that_learns_takes_the_formulas():
    module, inputs = attend(), embeddings()
    module.projection = orthogonal_gaussian(M, D).double().requires_grad_()
    mine, theirs = module(*inputs), formulas(module, *inputs)
    assert_same(results(mine, [module.projection]), results(theirs, [module.projection]), 1e-12)


def test_a_second_derivative_is_refused_rather_than_wrong():
    module, inputs = attend(), embeddings()
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(module(*inputs).sum(), inputs, create_graph=True)


def test_an_unknown_kernel_is_refused():
    module = attend()
    module.kernel = "cudnn"
    with pytest.raises(ValueError, match=r"unknown kernel 'cudnn'; choose from \['torch', 'triton'\]"):
        module(*embeddings())
    assert ops.KERNELS == ("torch", "triton")


class Gradients(nn.Module):
    """The two backward steps by themselves."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        f = q.new_zeros(128, q.shape[1])
        image = chunked.summarise_forward(k, v, f, 0.0)
        g_q, *upstream = chunked.read_backward(v, q, *image, f, 0.0)
        return g_q, *chunked.summarise_backward(upstream[0], upstream[1], k, v, f, *image, 0.0)


@pytest.mark.parametrize(("build", "outputs"), [(lambda: attend(64, 128), 1), (Gradients, 3)])
def test_memory_is_that_of_a_chunk_for_any_number_of_positions(monkeypatch, build, outputs):
    monkeypatch.undo()
    shape = (1, 64, 200_003)
    beside = count(build, *[shape] * 3).activation_bytes - (3 + outputs) * 4 * shape[1] * shape[2]
    assert 0 < beside <= 8 * 2**20  # the features alone would be 100 MB
