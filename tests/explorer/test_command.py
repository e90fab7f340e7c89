"""`enlca explore` where it cannot run: one line each, and quickly."""

import subprocess
import sys

import pytest

from enlca.explorer.shortcut import write_shortcut

HIDDEN = """
import sys
sys.modules["gradio"] = None
sys.argv = ["enlca", "explore"]
from enlca.cli import main
main()
"""


def test_without_the_extra_it_says_how_to_install_it():
    done = subprocess.run([sys.executable, "-c", HIDDEN], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "enlca: the page needs gradio: pip install 'enlca[explore]'\n"


def test_a_model_that_is_none_is_one_line(command, tmp_path):
    path = tmp_path / "no.safetensors"
    done = command("explore", "--model", path)
    assert done.code == 2
    assert done.err.startswith(f"enlca: {path}: ")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("option", [("--port", "0"), ("--port", "70000"), ("--max-megapixels", "0")])
def test_impossible_settings_are_refused(command, option):
    assert command("explore", *option).code == 2


@pytest.mark.parametrize("number", ["inf", "nan"])
def test_a_limit_that_is_not_finite_is_one_line(command, number):
    done = command("explore", "--max-megapixels", number)
    assert done.code == 2
    assert "--max-megapixels" in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("platform", "name", "line"),
    [
        ("linux", "enlca-explorer.desktop", "Exec={python} -m enlca explore --open"),
        ("darwin", "enlca explorer.command", "{python} -m enlca explore --open || read -r _"),
        ("win32", "enlca explorer.bat", '"{python}" -m enlca explore --open || pause'),
    ],
)
def test_a_shortcut_starts_the_page_and_opens_it(tmp_path, platform, name, line):
    path = write_shortcut(tmp_path, platform=platform)
    assert path == tmp_path / name
    assert line.format(python=sys.executable) in path.read_text().splitlines()
    assert path.stat().st_mode & 0o111


def test_the_shortcut_is_written_where_the_command_says(command, tmp_path):
    done = command("explore", "--shortcut", tmp_path)
    assert (done.code, done.err) == (0, "")
    [path] = tmp_path.iterdir()
    assert done.out == f"{path}: double-click it\n"
    assert command("explore", "--shortcut", tmp_path / "nowhere").code == 1


def test_open_opens_the_address_that_is_served(command, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr(
        "enlca.explorer.server.serve_until_interrupted",
        lambda on_ready, **settings: on_ready(f"http://{settings['host']}:{settings['port']}"),
    )
    assert command("explore", "--port", 7999).code == 0
    assert opened == []
    assert command("explore", "--port", 7999, "--open").code == 0
    assert opened == ["http://127.0.0.1:7999"]


def test_what_the_explorer_knows_without_a_page_needs_no_gradio():
    program = (
        "import sys; sys.modules['gradio'] = None; "
        "import enlca.explorer.actions, enlca.explorer.html, enlca.explorer.server"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
