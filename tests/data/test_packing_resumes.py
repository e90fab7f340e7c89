"""Whatever ends a packing: nothing stands under the pack's name, and going on does only what is missing."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from enlca.data.journal import JOURNAL
from enlca.data.layouts import training_pairs
from enlca.data.packing import write_pack

N = 7


def noise(*shape):
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pictures").mkdir()
    for number in range(N):
        Image.fromarray(noise(11 + number, 13, 3)).save(tmp_path / "pictures" / f"{number}.png")
    return tmp_path / "pictures"


@pytest.fixture
def whole(folder, tmp_path):
    """The bytes of the pack's files when it is made in one go."""
    packed(folder, tmp_path / "whole")
    made = contents(tmp_path / "whole")
    assert made.keys() == {"hr.bin", "lr.bin", "pack.json"}
    return made


def packed(folder, out, **settings):
    """Pack at x2; how many pictures were done after each step."""
    steps = []

    def listen(done, total):
        steps.append(done)
        settings.get("on_progress", lambda done, total: None)(done, total)

    write_pack(folder, training_pairs(folder, 2), out, scale=2, on_progress=listen)
    return steps


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def rewrite(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def half_done(folder, out, at=3):
    """A work folder with `at` pictures in it."""

    def interrupt(done, total):
        if done == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        packed(folder, out, on_progress=interrupt)
    assert not out.exists()
    return out.with_name(f".{out.name}.part")


@pytest.mark.parametrize("at", [0, 3, N - 1, N])
def test_after_an_interruption_only_what_is_missing_is_done(folder, tmp_path, whole, at):
    half_done(folder, tmp_path / "out", at)
    assert packed(folder, tmp_path / "out") == list(range(at, N + 1))
    assert contents(tmp_path / "out") == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "pictures", "whole"]


@pytest.mark.parametrize(
    ("damage", "left"),
    [
        # Killed after the pixels were written, and before the journal said so.
        (lambda work: (work / "lr.bin").open("ab").write(b"torn"), 3),
        (lambda work: (work / "hr.bin").open("ab").write(b"torn" * 999), 3),
        # Killed while the journal was written.
        (lambda work: os.truncate(work / JOURNAL, (work / JOURNAL).stat().st_size - 1), 2),
        (lambda work: os.truncate(work / JOURNAL, (work / JOURNAL).stat().st_size - 30), 2),
        (lambda work: os.truncate(work / JOURNAL, 5), 0),
        (lambda work: (work / JOURNAL).unlink(), 0),
        # Another version worked here before.
        (lambda work: rewrite(work / JOURNAL, '{"format": 2', '{"format": 1'), 0),
        # A power cut can take pixels away that the journal speaks of.
        (lambda work: os.truncate(work / "hr.bin", (work / "hr.bin").stat().st_size - 1), 2),
        (lambda work: (work / "lr.bin").unlink(), 0),
        # Killed while the journal was renewed.
        (lambda work: (work / f"{JOURNAL}.new").write_text("{"), 3),
    ],
)
def test_what_a_kill_leaves_is_put_right(folder, tmp_path, whole, damage, left):
    damage(half_done(folder, tmp_path / "out"))
    assert packed(folder, tmp_path / "out")[0] == left
    assert contents(tmp_path / "out") == whole


def test_pixels_that_changed_on_disk_are_not_trusted(folder, tmp_path):
    work = half_done(folder, tmp_path / "out")
    with open(work / "lr.bin", "r+b") as file:
        file.write(b"\x00\x01\x02")
    assert packed(folder, tmp_path / "out") == list(range(2, N + 1))


@pytest.mark.parametrize("change", ["content", "time"])
def test_a_picture_that_changed_meanwhile_is_done_again(folder, tmp_path, change):
    half_done(folder, tmp_path / "out")
    if change == "content":
        Image.fromarray(noise(20, 22, 3)).save(folder / "1.png")
    else:
        os.utime(folder / "1.png", ns=(1, 1))
    assert packed(folder, tmp_path / "out")[0] == 2


def test_another_scale_begins_anew(folder, tmp_path):
    half_done(folder, tmp_path / "out")
    seen = []
    write_pack(
        folder,
        training_pairs(folder, 3),
        tmp_path / "out",
        scale=3,
        on_progress=lambda done, total: seen.append(done),
    )
    assert seen[0] == 0
    assert json.loads((tmp_path / "out" / "pack.json").read_text())["scale"] == 3


KILLED = """
import os, signal, sys
from pathlib import Path
from enlca.data import journal
from enlca.data.layouts import training_pairs
from enlca.data.packing import write_pack
folder, out, place, count = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
def listen(done, total):
    if place == "between" and done == count:
        kill()
    if place == "inside" and done == count:
        # The next picture's pixels are written, its line is not.
        journal.zlib.crc32 = kill
    if place == "rename" and done == count:
        os.replace = kill
if place == "end":
    journal.Path.unlink = kill
write_pack(folder, training_pairs(folder, 2), out, scale=2, on_progress=listen)
"""


@pytest.mark.parametrize(
    ("place", "count", "left"),
    [("between", 4, [4, 5, 6, 7]), ("inside", 2, [2, 3, 4, 5, 6, 7]), ("rename", N, [7]), ("end", N, [])],
)
def test_killed_and_started_again_it_ends_in_the_same_bytes(folder, tmp_path, whole, place, count, left):
    out = tmp_path / "out"
    words = [sys.executable, "-c", KILLED, folder, out, place, str(count)]
    assert subprocess.run(words).returncode == -signal.SIGKILL
    assert out.exists() == (place == "end")
    assert packed(folder, out) == left
    assert contents(out) == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "pictures", "whole"]
