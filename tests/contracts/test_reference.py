"""The reference names everything public; checked on what the site is made from, without building it."""

import csv
import json
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

import enlca
from enlca.checkpoint.store import bundled
from enlca.cli.app import app

ROOT = Path(__file__).parents[2]
# Rooms that serve commands only.
BEHIND_COMMANDS = {"bulk", "cli", "explorer", "serve"}


@pytest.fixture(scope="module")
def pages() -> Iterator[dict[str, str]]:
    """The generated pages by name."""
    sys.path.insert(0, str(ROOT / "docs"))
    import pages

    yield pages.pages()
    sys.path.remove(str(ROOT / "docs"))


def test_every_public_name_is_in_the_reference(pages):
    lines = pages["enlca.rst"].splitlines()
    for name in enlca.__all__:
        assert any(line.startswith(".. ") and line.endswith(f":: {name}") for line in lines), name


def test_every_room_is_in_the_reference_or_behind_a_command(pages):
    source = ROOT / "src" / "enlca"
    rooms = {path.stem for path in source.glob("[a-z]*.py")} | {
        path.parent.name for path in source.glob("*/__init__.py")
    }
    assert rooms - BEHIND_COMMANDS == {Path(name).stem for name in pages} & rooms


def test_every_module_of_a_room_is_documented(pages):
    for path in (ROOT / "src" / "enlca").rglob("*.py"):
        place = path.relative_to(ROOT / "src").with_suffix("").parts
        if len(place) > 1 and not place[1].startswith("__") and place[1] not in BEHIND_COMMANDS:
            name = ".".join(part for part in place if part != "__init__")
            assert f".. automodule:: {name}\n" in pages[f"{place[1]}.rst"], name


def test_every_command_and_option_is_in_the_reference(pages):
    text = pages["commands.rst"]

    def look(command, name):
        for word, inner in getattr(command, "commands", {}).items():
            look(inner, f"{name} {word}")
        if not getattr(command, "commands", {}):
            assert f"\n{name}\n{'-' * len(name)}\n" in text, name
            section = text.partition(f".. program:: {name}\n")[2].partition(".. program::")[0]
            for parameter in command.params:
                is_option = parameter.opts[0].startswith("-")
                named = parameter.opts if is_option else [parameter.metavar or parameter.name]
                assert all(one in section for one in named), (name, named)

    look(typer.main.get_command(app), "enlca")


def test_every_generated_page_is_in_a_table_of_contents(pages):
    listed = (ROOT / "docs" / "reference.md").read_text().splitlines()
    assert {f"reference/{Path(name).stem}" for name in pages} <= set(listed)


def test_the_zoo_has_all_weights_with_their_scores(pages):
    for item in bundled():
        start = f"| [`{item.name}`](#{item.name}) | x{item.scale} |"
        [row] = [line for line in pages["zoo.md"].splitlines() if line.startswith(start)]
        for mean in item.card.scores.values():
            assert f"{mean['psnr_y']:.2f}" in row


def test_the_benchmarks_have_all_results_by_processor(pages):
    text = pages["benchmarks.md"]
    for path in (ROOT / "benchmarks" / "results").glob("*.csv"):
        with path.open(newline="") as file:
            processors = {row["processor"] for row in csv.DictReader(file)}
        for processor in processors:
            assert f"\n### {path.stem}\n" in text.partition(f"\n## {processor}\n")[2].partition("\n## ")[0]


def test_the_switcher_of_versions_has_this_version():
    versions = json.loads((ROOT / "docs" / "_static" / "versions.json").read_text())
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    assert enlca.__version__ in [one["version"] for one in versions]
    assert all(one["url"].startswith(urls["Documentation"]) for one in versions)
