"""Every example runs, and says what its page in `examples/README.md` promises."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
PICTURE = EXAMPLES.parent / "docs" / "images" / "astronaut_crop.png"
SAYS = {
    "upscale_kinds.py": "160x160 -> 640x640",
    "stream_rows.py": "96 rows in, 384 rows out",
    "streaming_by_hand.py": "a summary takes 2112 numbers",
    "attention_in_your_network.py": "out (2, 3, 48, 48)",
}


def test_every_example_is_tested_and_listed():
    assert {path.name for path in EXAMPLES.glob("*.py")} == SAYS.keys()
    page = (EXAMPLES / "README.md").read_text()
    assert all(f"`{name}`" in page for name in SAYS)


@pytest.mark.parametrize("name", SAYS)
def test_an_example_runs(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [name, str(PICTURE), str(tmp_path / "large.png")])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    assert SAYS[name] in capsys.readouterr().out
