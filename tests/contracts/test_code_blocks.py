"""Every code block of the README and the documentation runs, or says in a comment before it why not.

    <!-- not run: needs two GPUs -->

Lines of a shell are read by the parsers of the commands that they call; Python is run in a folder with a
small picture.
"""

import re
import shlex
import tomllib
from contextlib import chdir
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import typer.main
import yaml
from PIL import Image

from enlca.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
BLOCK = re.compile(
    r"(?:<!-- not run: (?P<why>.+?) -->\n\s*)?^```(?P<kind>\S*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
# What is not code, and directives of the site.
NO_CODE = {"", "text", "bibtex", "mermaid", "{include}", "{toctree}"}
# Programs of others, which are only named.
FOREIGN = {"cd", "cp", "curl", "docker", "export", "git", "pipx", "pre-commit", "source", "uv", "uvx"}
# Programs that start ours, which follows their own options.
LAUNCHERS = {"srun", "torchrun"}
# What `enlca train` takes beside its own options and the fields of the configuration.
TRAIN_OPTIONS = {"--config", "--print_config"}


class Block(NamedTuple):
    """A fenced block of a page, and why it is not run, if it is not."""

    page: Path
    kind: str
    text: str
    why: str | None

    def __str__(self) -> str:
        return f"{self.page.name}:{' '.join(self.text.split())[:30]}"


BLOCKS = [
    Block(page, found["kind"], found["text"], found["why"])
    for page in PAGES
    for found in BLOCK.finditer(page.read_text(encoding="utf-8"))
]
LINES = [
    (block, line)
    for block in BLOCKS
    if block.kind == "bash" and not block.why
    for line in block.text.replace("\\\n", " ").splitlines()
    if line.partition("#")[0].strip()
]


def commands_of(line: str) -> list[list[str]]:
    """The words of each program that the shell would run on this line."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found, words = [], []
    tokens = iter([*lexer, ";"])
    for token in tokens:
        if set(token) <= set("<>"):
            # The file that is read or written.
            next(tokens)
        elif set(token) <= set("();<>|&"):
            command = [word for word in words if not re.fullmatch(r"[A-Z_]+=.*", word)]
            while command and command[0] in {"do", "then", "time"}:
                del command[0]
            if command:
                found.append(command)
            words = []
        else:
            words.append(token)
    return found


def calls(line: str) -> list[list[str]]:
    """The words after `enlca`, for each time that the shell would run it on this line."""
    return [words[1:] for words in commands_of(line) if Path(words[0]).name == "enlca"]


def overrides() -> set[str]:
    """`--section.field` for each field of the training configuration."""
    from enlca.training.parse import FIELDS

    return {f"--{section}.{field}" for section, fields in FIELDS.items() for field in fields}


def mistakes(words: list[str]) -> list[str]:
    """What is wrong with a call of `enlca`: what does not exist, and what its parser says."""
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
    found = [
        *(f"{path} has no option {name}, only {sorted(known)}" for name in unknown),
        *(f"there is no {word}" for word in missing),
    ]
    if not found and not subcommands and not {"--help", "-h"} & {*words}:
        try:
            command.make_context(path, [*words])
        except typer.TyperException as error:
            found.append(f"{path}: {error.format_message()}")
    return found


def wrong(words: list[str]) -> list[str]:
    """What is wrong with a command of any program that the project knows."""
    if words[0] in LAUNCHERS and "enlca" in words:
        words = words[words.index("enlca") :]
    name, rest = words[0], words[1:]
    if Path(name).name == "enlca":
        return mistakes(rest)
    if name == "make":
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
        return [f"make has no {word}" for word in rest if "=" not in word and word not in targets]
    if Path(name).name.startswith("python") and rest[0] == "-m":
        module = rest[1].replace(".", "/")
        places = [f"{module}.py"] if module.startswith(("benchmarks", "experiments")) else []
        if rest[1] == "benchmarks.run":
            places += [f"benchmarks/{word}.py" for word in rest[2:3]]
        return [f"there is no {place}" for place in places if not (ROOT / place).is_file()]
    if name == "pip" and rest[0] == "install":
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        asked = [extra for word in rest for extra in re.findall(r"(?:^\.|enlca)\[(.+)\]", word)]
        known = project["optional-dependencies"]
        return [f"no extra {one}" for extras in asked for one in extras.split(",") if one not in known]
    return [] if Path(name).name in FOREIGN or (ROOT / name).is_file() else [f"unknown program {name}"]


def test_every_block_is_code_that_is_checked_or_no_code():
    kinds = {str(block): block.kind for block in BLOCKS if not block.kind.startswith(":")}
    assert {kind for kind in kinds.values() if kind not in {"bash", "python", "yaml"} | NO_CODE} == set()


def test_every_page_that_shows_commands_is_read():
    shown = {block.page.name for block, _ in LINES}
    assert {"README.md", "CONTRIBUTING.md", "tutorial.md", "how_to.md", "models.md", "scale.md"} <= shown
    assert len(LINES) > 100


@pytest.mark.parametrize(("block", "line"), LINES, ids=lambda value: str(value)[:60])
def test_a_line_of_a_shell_is_right(block, line):
    assert [mistake for words in commands_of(line) for mistake in wrong(words)] == []


@pytest.mark.parametrize("block", [one for one in BLOCKS if one.kind == "yaml"], ids=str)
def test_yaml_can_be_read(block):
    assert yaml.safe_load(block.text)


PYTHON = sorted({one.page for one in BLOCKS if one.kind == "python" and not one.why})


@pytest.mark.parametrize("page", PYTHON, ids=lambda page: page.name)
def test_python_runs(page, tmp_path):
    pixels = np.arange(24 * 20 * 3, dtype=np.uint8).reshape(24, 20, 3)
    for name in ("photo.jpg", "huge.tif"):
        Image.fromarray(pixels).save(tmp_path / name)
    # What the text around a block speaks of.
    names: dict[str, Any] = {"bands": [pixels[:8], pixels[8:]], "send": lambda rows: None}
    names["bands_of_a_camera"] = names["bands"]
    with chdir(tmp_path):
        for block in BLOCKS:
            if block.page == page and block.kind == "python" and not block.why:
                exec(compile(block.text, str(page), "exec"), names)


def test_a_block_that_is_not_run_says_why():
    assert {block.why for block in BLOCKS if block.why}
    assert all(len(block.why) > 10 for block in BLOCKS if block.why)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("enlca upscale 'a photo.jpg' -o x.png  # a comment", [["upscale", "a photo.jpg", "-o", "x.png"]]),
        ("DEVICE=cpu .venv/bin/enlca info x | less", [["info", "x"]]),
        ("enlca models && enlca info enlcn-tiny > info.txt", [["models"], ["info", "enlcn-tiny"]]),
        ("enlca upscale - -o - < a.jpg > b.png", [["upscale", "-", "-o", "-"]]),
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
        "enlca upscale photo.jpg --width wide",
        "enlca upscale",
        "enlca train configs/no-such-file.yaml",
        "enlca train photos.yaml --run.no_such_field 10",
        "make no-such-target",
        "python -m benchmarks.run no_such_benchmark",
        "pip install '.[no-such-extra]'",
        "no-such-program",
    ],
)
def test_a_wrong_line_is_noticed(line):
    [words] = commands_of(line)
    assert wrong(words)


@pytest.mark.parametrize(
    "line",
    [
        "enlca --help",
        "enlca upscale photo.jpg --scale=4 -o out.png",
        "enlca train photos.yaml --run.steps 10 --print_config",
        "make test PYTHON=python3.12",
    ],
)
def test_a_right_line_is_accepted(line):
    [words] = commands_of(line)
    assert not wrong(words)
