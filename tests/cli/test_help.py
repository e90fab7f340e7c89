"""`--help` tells a newcomer what there is, in groups and with examples that work."""

import logging
import os
import shlex
import subprocess
import sys

import numpy as np
import pytest
import typer.main
from PIL import Image

import enlca
from enlca.cli import help
from enlca.cli.app import app

ROOT = typer.main.get_command(app)
COMMANDS = ROOT.commands  # pyright: ignore[reportAttributeAccessIssue]


def section(text: str, title: str) -> list[str]:
    """Return the lines below a title."""
    return text.partition(f"\n{title}:\n")[2].partition("\n\n")[0].splitlines()


def test_enlca_alone_shows_three_examples_before_all_else(command):
    done = command()
    assert (done.code, done.err) == (2, "")
    examples = section(done.out, "Examples")
    assert len(examples) == 3
    assert all(line.startswith("  enlca ") for line in examples)
    assert done.out.index("Examples:") < done.out.index("Pictures:")


def test_commands_are_listed_in_groups_with_whole_sentences(command):
    out = command("--help").out
    assert [out.index(f"\n{title}:\n") for title in help.GROUPS] == sorted(
        out.index(f"\n{title}:\n") for title in help.GROUPS
    )
    listed = [line.split()[0] for title in help.GROUPS for line in section(out, title) if line[2] != " "]
    assert sorted(listed) == sorted(COMMANDS)
    # Typer cuts them at the width of the terminal.
    assert "..." not in out.partition("Pictures:")[2]
    assert "and where they are" in out


@pytest.mark.parametrize("line", [line for lines in help.EXAMPLES.values() for line, _ in lines])
def test_an_example_in_the_help_is_a_command_with_its_options(line):
    name, *words = shlex.split(line.partition(" > ")[0])[1:]
    COMMANDS[name].make_context(name, words)


def test_upscale_explains_common_options_first_and_exit_codes_last(command):
    out = command("upscale", "--help").out
    assert {"--out", "--model", "--scale"} <= {
        word for line in section(out, "Options") for word in line.split()
    }
    assert "--max-pixels" in out.partition("More options:")[2]
    assert out.rstrip().endswith("130\ninterrupted.")
    assert section(out, "Examples")[0].startswith("  enlca upscale photo.jpg")


@pytest.mark.parametrize("name", help.COMMON)
def test_common_options_exist(name):
    known = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    assert known >= set(help.COMMON[name])


@pytest.mark.parametrize("words", [("upscale", "x.png"), ("bulk", "a", "b")], ids=["upscale", "bulk"])
def test_the_first_of_two_models_is_not_dropped_silently(command, words):
    done = command(*words, "--model", "bicubic", "--model", "enlcn-tiny")
    assert done.code == 2
    assert f"--model is given twice, but {words[0]} takes one model" in done.err


def test_the_version_is_the_packages(command):
    done = command("--version")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"enlca {enlca.__version__} (Python 3.")


def test_a_shell_completes_commands_and_models():
    def completed(line: str) -> list[str]:
        words = line.split(" ")
        settings = {"_ENLCA_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
        program = "import sys; sys.argv = ['enlca']; from enlca.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | settings,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.split()

    assert completed("enlca ev") == ["evaluate"]
    assert completed("enlca info enlcn-l") == ["enlcn-light"]


def test_the_library_logs_what_it_decides_and_prints_nothing_by_itself(tiny_model, caplog, capfd):
    picture = np.zeros((7, 5, 3), np.uint8)
    enlca.Upscaler(tiny_model, device="cpu")(picture)
    assert capfd.readouterr() == ("", "")
    with caplog.at_level(logging.INFO, logger="enlca"):
        enlca.Upscaler(tiny_model, device="cpu")(picture)
    assert {record.name for record in caplog.records} == {"enlca.inference.upscaler"}
    assert any("x4 on cpu" in record.message for record in caplog.records)
    assert any("5x7: whole" in record.message for record in caplog.records)


def test_log_level_prints_that_on_stderr(tmp_path, tiny_model):
    Image.fromarray(np.zeros((7, 5, 3), np.uint8)).save(tmp_path / "a.png")
    words = ["--log-level", "info", "upscale", str(tmp_path / "a.png"), "--model", str(tiny_model)]
    done = subprocess.run([sys.executable, "-m", "enlca", *words], capture_output=True, text=True, check=True)
    assert "INFO enlca.inference.upscaler: 5x7: whole" in done.stderr
    assert "INFO" not in done.stdout
