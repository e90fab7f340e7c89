"""`docs/architecture.md` names files and functions that exist, and the files that a picture passes."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from enlca.checkpoint import DEFAULT_MODEL

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "enlca"
PAGE = (ROOT / "docs" / "architecture.md").read_text()
NAMES = sorted(set(re.findall(r"\b((?:\w+/)*\w+\.py)(?::(\w+(?:\.\w+)*))?", PAGE)))
MOST_FILES = 34

# Runs the command and prints the files of enlca whose functions ran, without those that an import calls.
TRACE = """
import sys, threading
from pathlib import Path
import enlca
# Loaded before, since each of its calls would be looked at.
import torch

root = str(Path(enlca.__file__).parent)
ran, is_import = set(), lambda code: code.co_name == "<module>" and code.co_filename.startswith(root)

def look(frame, event, arg):
    place = frame.f_code.co_filename
    if event != "call" or not place.startswith(root) or place in ran:
        return
    while frame is not None and not is_import(frame.f_code):
        frame = frame.f_back
    if frame is None:
        ran.add(place)

threading.setprofile(look)
sys.setprofile(look)
from enlca.cli import main
try:
    main()
finally:
    sys.setprofile(None)
    print(*sorted(Path(place).relative_to(root).as_posix() for place in ran), sep="\\n", file=sys.stderr)
"""


def defined(path: Path) -> set[str]:
    """Return the names of functions, classes, methods, fields and constants of a file."""
    names: set[str] = set()

    def look(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                names.add(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                look(node.body, f"{prefix}{node.name}.")
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            names.update(prefix + target.id for target in targets if isinstance(target, ast.Name))

    look(ast.parse(path.read_text()).body, "")
    return names


@pytest.mark.parametrize(("file", "name"), NAMES)
def test_what_the_page_names_exists(file, name):
    assert (SOURCE / file).is_file()
    assert not name or name in defined(SOURCE / file)


def test_every_room_has_a_paragraph():
    rooms = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert rooms == set(re.findall(r"^\*\*(\w+)\*\* ", PAGE, re.MULTILINE))


def listed(text: str) -> set[str]:
    """The files that a part of the page names."""
    return set(re.findall(r"`([\w/]+\.py)`", text))


TABLE = PAGE.partition("| room | files |")[2].partition("\n\n")[0]
OF_ENLA = PAGE.partition("(`--model enlcn-tiny`) they are ")[2].partition("\n\n")[0]
ENLA, _, WINDOWS = OF_ENLA.partition("instead of")


@pytest.mark.parametrize(
    ("model", "files", "sentence"),
    [
        (DEFAULT_MODEL, listed(TABLE), "Code of these {} files"),
        ("enlcn-tiny", listed(TABLE) - listed(WINDOWS) | listed(ENLA), "(`--model enlcn-tiny`) they are {}:"),
    ],
)
def test_a_picture_passes_the_files_that_the_page_lists(model, files, sentence, tmp_path):
    picture = ROOT / "docs" / "images" / "astronaut_crop.png"
    words = ["upscale", picture, "-o", tmp_path / "sr.png", "--device", "cpu", "--mode", "whole"]
    words += ["--model", model]
    done = subprocess.run(
        [sys.executable, "-c", TRACE, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stderr.splitlines() == sorted(files)
    assert sentence.format(len(files)) in PAGE
    assert len(files) <= MOST_FILES
