"""`enlca upscale --watch`: what comes into a folder is upscaled once it is complete."""

import os
import threading
from contextlib import nullcontext

import numpy as np
import pytest
from PIL import Image

from enlca.cli import watch
from enlca.cli.watch import Arrivals

PIXELS = np.random.default_rng(0).integers(0, 256, (13, 11, 3), dtype=np.uint8)


def put(path, *, pixels=PIXELS, time=1):
    Image.fromarray(pixels).save(path)
    os.utime(path, (time, time))


def test_a_file_is_taken_once_when_it_does_not_change_any_more(tmp_path):
    arrivals, path = Arrivals(), tmp_path / "a"
    steps = [("part", 1, False), ("whole", 2, False), ("whole", 2, True), ("whole", 2, False)]
    for text, time, ready in [*steps, ("other", 3, False), ("other", 3, True)]:
        path.write_text(text)
        os.utime(path, (time, time))
        assert arrivals.look([str(path)]) == ({str(path)} if ready else set())
    assert arrivals.changed == {str(path)}
    path.unlink()
    assert arrivals.look([str(path)]) == set()


@pytest.fixture
def watching(tmp_path, monkeypatch, tiny_model, command):
    """Runs the command while steps happen, one before each look into the folder; then it is told to stop."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()

    def run(*steps, words=()):
        todo = [*steps, lambda: None, lambda: None]

        class Asked(threading.Event):
            def wait(self, timeout=None):
                if todo:
                    todo.pop(0)()
                else:
                    self.set()
                return self.is_set()

        monkeypatch.setattr("enlca.runtime.signals.stop_politely", lambda: nullcontext(Asked()))
        return command("upscale", "in", "--watch", "-o", "out", "--model", tiny_model, *words)

    return run


def test_what_comes_is_upscaled_and_what_is_there_is_kept(watching, tmp_path):
    put(tmp_path / "in" / "old.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old_x4.png").write_bytes(b"kept")
    (tmp_path / "in" / "broken.png").write_text("dear diary")
    first, second = tmp_path / "in" / "new.png", tmp_path / "in" / "new.tif"
    done = watching(lambda: None, lambda: put(first), lambda: None, lambda: put(second))
    assert done.code == 1
    lines = ["in/new.png -> out/new_x4.png (44x52)", "in/new.tif -> out/new_tif_x4.png (44x52)"]
    assert done.out.splitlines() == lines
    assert done.err.startswith("enlca: in/broken.png: not a picture")
    assert len(done.err.splitlines()) == 1
    assert (tmp_path / "out" / "old_x4.png").read_bytes() == b"kept"


def test_a_picture_that_changes_is_upscaled_again(watching, tmp_path):
    done = watching(
        lambda: put(tmp_path / "in" / "a.png"),
        lambda: None,
        lambda: None,
        lambda: put(tmp_path / "in" / "a.png", pixels=PIXELS[:5], time=2),
    )
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [f"in/a.png -> out/a_x4.png (44x{height})" for height in (52, 20)]


def test_it_looks_once_a_second():
    assert watch.SECONDS == 1
