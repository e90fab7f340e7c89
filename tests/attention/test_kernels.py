"""The Triton kernels: equal to their PyTorch twin under Triton's interpreter, and they compile for a GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed: pip install triton (Linux) checks its kernels")


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A Python that compiles kernels, unless `environment` says that it interprets them."""
    inherited = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        env={**inherited, **environment},
        check=False,
    )


def test_kernels_are_their_twin_on_a_gpu_or_under_the_interpreter():
    interpreted = {} if torch.cuda.is_available() else {"TRITON_INTERPRET": "1"}
    file = Path(__file__).with_name("kernels_and_twin.py")
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(file), **interpreted)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_a_processor_is_refused_unless_it_interprets():
    program = (
        "import torch; from enlca import LinearAttend\n"
        "a = LinearAttend(3, n_features=5); a.kernel = 'triton'\n"
        "try: a(*torch.zeros(3, 1, 3, 7))\n"
        "except ValueError as error: print(error)"
    )
    done = run("-c", program)
    expected = 'kernel "triton" needs a CUDA device, not cpu; "torch" runs everywhere\n'
    assert (done.returncode, done.stdout) == (0, expected), done.stderr


COMPILE = """
import inspect, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from enlca.attention import kernels, tile_gradients, tiles
outer = {"k", "v", "q", "y", "g_k", "g_v", "g_q", "g_y"}
numbers = {"n", "span"}
for name in ("summarise_parts", "read", "summarise_gradient", "read_gradient", "read_parts"):
    kernel = getattr(tiles, name, None) or getattr(tile_gradients, name)
    for dtype, (d, m, e), floor in (("fp32", (64, 128, 64), False), ("bf16", (64, 128, 256), True)):
        fixed = dict(D=d, M=m, E=e, HAS_FLOOR=floor, TD=kernels._side(d), TM=kernels.TILE_M)
        fixed |= dict(TE=kernels._side(e), TN=kernels._tile_n(e))
        names = list(inspect.signature(kernel.fn).parameters)
        kinds = {}
        for one in names:
            stride = one in numbers or one[-2:] in ("_b", "_d", "_n", "_e")
            kinds[one] = "i32" if stride else "*" + dtype if one in outer else "*fp32"
        kinds |= dict.fromkeys(fixed, "constexpr")
        kinds |= {one: "fp32" for one in ("share", "log_floor") if one in kinds}
        places = {(names.index(one),): value for one, value in fixed.items()}
        source = ASTSource(fn=kernel, signature=kinds, constexprs=places)
        made = triton.compile(source, target=GPUTarget("cuda", 86, 32), options={"num_stages": 1})
        assert made.asm["cubin"] and made.metadata.shared <= 99 * 1024, (name, dtype, made.metadata.shared)
print("compiled")
"""


@pytest.mark.slow
def test_kernels_compile_for_a_small_gpu_and_fit_its_memory(tmp_path):
    done = run("-c", COMPILE, TRITON_CACHE_DIR=str(tmp_path))
    assert done.stdout.strip() == "compiled", done.stderr
