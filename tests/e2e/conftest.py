"""What the tests of the command with files may ask for."""

import pytest
from places import GOOD


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with one good picture."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.png").write_bytes(GOOD)
    return tmp_path


@pytest.fixture
def upscale(command, tmp_path, monkeypatch):
    """Upscales files, given as {name: bytes}, into the folder `out`, or as -o says; the lines on stdout."""
    monkeypatch.chdir(tmp_path)

    def run(files, *words, model="enlcn-tiny"):
        for name, data in files.items():
            (tmp_path / name).write_bytes(data)
        out = () if "-o" in words else ("-o", "out")
        done = command("upscale", *files, "--model", model, *out, *words)
        assert (done.code, done.err) == (0, "")
        assert not list(tmp_path.rglob(".*"))
        lines = done.out.splitlines()
        assert len(lines) == len(files)
        return lines

    return run
