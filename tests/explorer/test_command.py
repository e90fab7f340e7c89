"""`enlca explore` where it cannot run: one line each, and quickly."""

import subprocess
import sys

import pytest

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


def test_what_the_explorer_knows_without_a_page_needs_no_gradio():
    program = (
        "import sys; sys.modules['gradio'] = None; "
        "import enlca.explorer.actions, enlca.explorer.html, enlca.explorer.server"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
