"""A command whose standard streams are closed does its work all the same."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from enlca.image.picture import read_image

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash to close streams")
CLOSED = ["2>&-", ">&-", "<&-", "<&- >&- 2>&-"]


def run(words: str, closed: str, folder) -> subprocess.CompletedProcess[str]:
    return shell(f'exec "$0" -m enlca {words} {closed}', folder)


def shell(line: str, folder) -> subprocess.CompletedProcess[str]:
    """What a line of bash gives, whose $0 is Python."""
    return subprocess.run(
        ["bash", "-c", line, sys.executable],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture
def folder(tmp_path):
    """A folder with a picture of few pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path


@pytest.mark.parametrize("closed", CLOSED)
def test_a_picture_is_made_where_streams_are_closed(closed, folder, tiny_model):
    done = run(f"upscale a.png -o b.png --model {tiny_model}", closed, folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert read_image(folder / "b.png").size == (28, 20)
    assert done.stdout == ("" if ">&-" in closed.split() else "a.png -> b.png (28x20)\n")


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-"])
def test_a_failure_keeps_its_exit_code_where_its_line_cannot_be_shown(closed, folder):
    assert run("upscale none.png", closed, folder).returncode == 1
    assert run("upscale a.png --scale nonsense", closed, folder).returncode == 2


def test_a_reader_that_leaves_stops_nothing(folder, tiny_model):
    pixels = np.random.default_rng(1).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "b.png")
    line = f'"$0" -m enlca upscale a.png b.png --model {tiny_model} | head -c0; exit ${{PIPESTATUS[0]}}'
    done = shell(line, folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [read_image(folder / f"{name}_x4.png").size for name in "ab"] == [(28, 20)] * 2
