"""What people outside may rely on: cheap imports, pinned versions, names that exist."""

import builtins
import dis
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
HEAVY = {
    "PIL",
    "gradio",
    "lightning",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "openvino",
    "pytorch_lightning",
    "pyvips",
    "scipy",
    "skimage",
    "tensorboard",
    "torchmetrics",
    "torchvision",
}


def modules_after(code: str) -> set[str]:
    """Top-level packages that a fresh interpreter holds after running `code`."""
    program = f"{code}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_taking_the_attention_loads_nothing_heavier_than_torch():
    loaded = modules_after("import enlca; enlca.NonLocalBlock; enlca.LinearAttend")
    assert "torch" in loaded
    assert not loaded & HEAVY


def test_what_ci_installs_is_pinned_within_what_the_package_asks_for():
    file = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = file["project"]
    extras = project["optional-dependencies"] | file["dependency-groups"]
    # Triton is PyTorch's to choose.
    wanted = [line for name, lines in extras.items() if name != "kernels" for line in lines]
    asked = [Requirement(line) for line in [*project["dependencies"], *wanted]]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    loose = [str(one) for one in asked if pins.get(canonicalize_name(one.name), "0") not in one.specifier]
    assert not loose


def test_the_demo_and_the_readme_say_how_a_fresh_shell_finds_the_command():
    done = subprocess.run(
        ["make", "--dry-run", "demo", "VENV=some/where"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "some/where/bin/enlca" in done.stdout.partition("upscale photo.jpg")[2]
    assert "source %s" in done.stdout
    assert "some/where/bin/activate" in done.stdout
    before = (ROOT / "README.md").read_text("utf-8").partition("enlca upscale holiday/")[0]
    for way in ("source .venv/bin/activate", ".venv/bin/enlca upscale", "pipx install", "uvx --from ."):
        assert way in before


def test_the_readme_s_pictures_are_shown_on_pypi_which_has_no_files_beside_it():
    readme = (ROOT / "README.md").read_text("utf-8")
    pictures = re.findall(r"!\[[^]]*\]\(([^)]*)\)|<img[^>]* src=\"([^\"]*)\"", readme)
    assert pictures
    for address in map("".join, pictures):
        assert address.startswith("https://raw.githubusercontent.com/enlca/enlca/main/"), address
        assert (ROOT / address.partition("/main/")[2]).is_file(), address


# The last versions that have what CVE-2026-24747, and CVE-2025-68146 and CVE-2026-22701, describe.
@pytest.mark.parametrize(("name", "last"), [("torch", "2.9.1"), ("filelock", "3.20.2")])
def test_no_version_with_a_hole_that_undermines_our_promises_is_accepted(name, last):
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    [specifier] = [one.specifier for one in map(Requirement, asked) if one.name == name]
    used = re.search(rf"^{name}==(\S+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)
    assert used is not None
    assert used[1] in specifier
    assert last not in specifier


def code_objects(code: CodeType) -> Iterator[CodeType]:
    """Yield the code of a module and of everything that is defined in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from code_objects(constant)


def test_functions_use_no_undefined_names():
    # The linters cannot tell: jaxtyping's shapes look like undefined names to them.
    undefined = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        module = compile(path.read_text(encoding="utf-8"), str(path), "exec")
        known = {"__file__", "__name__", "__path__", "__doc__", *dir(builtins)}
        # STORE_GLOBAL where a function declares the name global.
        stores = ("STORE_NAME", "STORE_GLOBAL")
        known |= {step.argval for step in dis.get_instructions(module) if step.opname in stores}
        for code in code_objects(module):
            used = {step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"}
            undefined += [f"{path.name}: {code.co_name} uses {name}" for name in sorted(used - known)]
    assert undefined == []
