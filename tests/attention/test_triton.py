"""The Triton kernels equal their PyTorch twin, interpreted and on a GPU, and compile for three cards."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed: pip install triton (Linux) checks its kernels")


FILE = Path(__file__).with_name("triton_cases.py")


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python, with compiled kernels unless `environment` sets TRITON_INTERPRET."""
    inherited = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        env={**inherited, **environment},
        check=False,
    )


CASES = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(FILE))


def test_kernels_are_their_twin_under_the_interpreter():
    done = run(*CASES, TRITON_INTERPRET="1", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_kernels_are_their_twin_on_a_gpu():
    # Without the runtime checks of shapes, which are not part of a kernel.
    done = run(*CASES, "-o", "addopts=")
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
import inspect, torch, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from enlca.attention.triton import kernels, launch
outer = {"k", "v", "q", "y", "g_k", "g_v", "g_q", "g_y"}
numbers = {"n", "span"}
for name in ("summarise_parts", "read", "summarise_gradient", "read_gradient", "read_parts"):
    kernel = getattr(kernels, name)
    names = list(inspect.signature(kernel.fn).parameters)
    for dtype, kind, e, floor in ((torch.float32, "fp32", 64, 0), (torch.bfloat16, "bf16", 256, 1)):
        tile = launch.tile_of(e, gradients=name not in ("summarise_parts", "read"))
        fixed = launch.constants(tile, (64, 128, e), (dtype, dtype), floor=floor)
        # The last axis lies side by side, and addresses are whole lines, as a launch would find out.
        fixed |= {one: 1 for one in names if one.endswith("_n")}
        kinds = {}
        for one in names:
            stride = one in numbers or one[-2:] in ("_b", "_d", "_e")
            kinds[one] = "i32" if stride else "*" + kind if one in outer else "*fp32"
        kinds |= dict.fromkeys(fixed, "constexpr")
        kinds |= {one: "fp32" for one in ("share", "log_floor") if one in kinds}
        places = {(names.index(one),): value for one, value in fixed.items()}
        whole = [index for index, one in enumerate(names) if one not in fixed and kinds[one] != "fp32"]
        lines = {(index,): [["tt.divisibility", 16]] for index in whole}
        source = ASTSource(fn=kernel, signature=kinds, constexprs=places, attrs=lines)
        for capability in (80, 86, 90):
            options = {"num_stages": 1, "num_warps": tile.warps}
            made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
            assert made.asm["cubin"] and made.metadata.shared <= 99 * 1024, (name, kind, made.metadata.shared)
            assert "mma" in made.asm["ptx"], (name, kind, capability)
print("compiled")
"""


@pytest.mark.slow
def test_kernels_compile_for_tensor_cores_and_fit_the_memory_of_small_cards(tmp_path):
    done = run("-c", COMPILE, TRITON_CACHE_DIR=str(tmp_path))
    assert done.stdout.strip() == "compiled", done.stderr
