"""Every example runs, and says what its page in `examples/README.md` promises."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
PICTURE = EXAMPLES.parent / "docs" / "images" / "astronaut_crop.png"
SAYS = {
    "upscale_kinds.py": "160x160 -> 640x640",
    "stream_rows.py": "96 rows in, 384 rows out",
    "streaming_by_hand.py": "a summary takes 2112 numbers",
    "attention_in_your_network.py": "out (2, 3, 48, 48)",
    "correlation_maps.py": "as applied: the heaviest 1 % hold",
    "degradations.py": "CameraNoise(shot=",
    "comparing_methods.py": "enlcn-tiny | ",
    "srcnn.py": "SRCNN of 69,251 weights, trained for 3 steps",
}
# Steps of training; by default it takes a minute.
MORE = {"srcnn.py": ["3"]}


def test_every_example_is_tested_and_listed():
    assert {path.name for path in EXAMPLES.glob("*.py")} == SAYS.keys()
    page = (EXAMPLES / "README.md").read_text()
    assert all(f"`{name}`" in page for name in SAYS)


@pytest.mark.parametrize("name", SAYS)
def test_an_example_runs(name, tmp_path):
    # A process of its own: one of them has a limit of memory, which this one may have passed already.
    words = [
        sys.executable,
        str(EXAMPLES / name),
        str(PICTURE),
        str(tmp_path / "large.png"),
        *MORE.get(name, []),
    ]
    # In a folder of its own, without a window.
    env = os.environ | {"MPLBACKEND": "template"}
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path, env=env
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert SAYS[name] in done.stdout
