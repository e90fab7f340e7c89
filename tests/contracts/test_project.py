"""What people outside may rely on: cheap imports, and commands in the README that exist."""

import builtins
import dis
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest
import typer.main
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from enlca.cli.app import app

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
# What `enlca train` takes beside its own options and the fields of the configuration.
TRAIN_OPTIONS = {"--config", "--print_config"}


def modules_after(code: str) -> set[str]:
    """Top-level packages that a fresh interpreter holds after running `code`."""
    program = f"{code}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def readme_commands() -> list[str]:
    """Each command line in the README's shell blocks that runs `enlca`, as it stands there."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(?:bash|sh|shell|console)\n(.*?)^```", readme, flags=re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    lines = [re.sub(r"^\s*\$ ", "", line).strip() for line in lines]
    return [line for line in lines if re.search(r"(^|[\s/])enlca\s", line.partition("#")[0])]


def calls(line: str) -> list[list[str]]:
    """The words after `enlca`, for each time that the shell would run it on this line."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found, words = [], []
    for token in [*lexer, ";"]:
        if set(token) <= set("();<>|&"):
            command = [word for word in words if not re.fullmatch(r"[A-Z_]+=.*", word)]
            while command and command[0] in {"do", "then", "time"}:
                del command[0]
            if command and Path(command[0]).name == "enlca":
                found.append(command[1:])
            words = []
        else:
            words.append(token)
    return found


def overrides() -> set[str]:
    """`--section.field` for each field of the training configuration."""
    from enlca.training.parse import FIELDS

    return {f"--{section}.{field}" for section, fields in FIELDS.items() for field in fields}


def mistakes(words: list[str]) -> list[str]:
    """What is wrong with a call: a sub-command, an option or a configuration that does not exist."""
    command, path = typer.main.get_command(app), "enlca"
    while subcommands := getattr(command, "commands", None):
        if not words or words[0].startswith("-"):
            break
        if words[0] not in subcommands:
            return [f"{path} has no command {words[0]!r}, only {sorted(subcommands)}"]
        path = f"{path} {words[0]}"
        command, words = subcommands[words[0]], words[1:]
    known = {name for param in command.params for name in [*param.opts, *param.secondary_opts]}
    known |= {"--help", "-h"}
    named = [word.partition("=")[0] for word in words if re.match(r"--?[A-Za-z]", word)]
    unknown = [name for name in named if name not in known]
    if path in ("enlca train", "enlca resume"):
        unknown = [name for name in unknown if name not in TRAIN_OPTIONS | overrides()]
    missing = [word for word in words if word.startswith("configs/") and not (ROOT / word).is_file()]
    return [
        *(f"{path} has no option {name}, only {sorted(known)}" for name in unknown),
        *(f"there is no {word}" for word in missing),
    ]


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


def test_the_readme_shows_commands():
    assert readme_commands(), "README.md has no shell block that runs `enlca ...`"


def test_every_command_in_the_readme_exists_with_its_options():
    assert not [mistake for line in readme_commands() for call in calls(line) for mistake in mistakes(call)]


def test_every_readme_line_that_names_the_command_was_understood():
    not_run = ("pip ", "cd ", "git ", "uv ", "uvx ")
    unread = [line for line in readme_commands() if not calls(line) and not line.startswith(not_run)]
    assert not unread


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("enlca upscale 'a photo.jpg' -o x.png  # a comment", [["upscale", "a photo.jpg", "-o", "x.png"]]),
        ("DEVICE=cpu .venv/bin/enlca info x | less", [["info", "x"]]),
        ("enlca models && enlca info enlcn-tiny > info.txt", [["models"], ["info", "enlcn-tiny"]]),
        ("for f in *; do time enlca info $f; done", [["info", "$f"]]),
        ("pip install enlca", []),
    ],
)
def test_a_shell_line_is_taken_apart_as_the_shell_would(line, expected):
    assert calls(line) == expected


@pytest.mark.parametrize(
    "line",
    [
        "enlca no-such-command",
        "enlca upscale photo.jpg --no-such-option",
        "enlca train configs/no-such-file.yaml",
        "enlca train photos.yaml --run.no_such_field 10",
    ],
)
def test_a_wrong_command_is_noticed(line):
    [words] = calls(line)
    assert mistakes(words)


@pytest.mark.parametrize(
    "line",
    [
        "enlca --help",
        "enlca upscale photo.jpg --scale=4 -o out.png",
        "enlca train photos.yaml --run.steps 10 --print_config",
    ],
)
def test_a_right_command_is_accepted(line):
    [words] = calls(line)
    assert not mistakes(words)


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
