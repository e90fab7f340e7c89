"""However packing ends: nothing has the pack's name before it is complete; resuming does what is missing."""

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from enlca.data.packing import write_pack
from enlca.data.pairs import training_pairs

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
    assert len(made) == 2 * N + 1
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
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def last(work, side):
    """The file of the last picture that was packed."""
    return max((work / side).iterdir(), key=lambda path: path.stat().st_mtime_ns)


def rename_all(work):
    for path in [*work.glob("*/*.npy")]:
        path.rename(path.with_name(f"{'f' * 16}{path.name[16:]}"))


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
def test_after_an_interruption_only_missing_pictures_are_packed(folder, tmp_path, whole, at):
    half_done(folder, tmp_path / "out", at)
    assert packed(folder, tmp_path / "out") == list(range(at, N + 1))
    assert contents(tmp_path / "out") == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "pictures", "whole"]


@pytest.mark.parametrize(
    ("damage", "left"),
    [
        # Killed between the two files of a picture, or inside one.
        (lambda work: last(work, "hr").unlink(), 2),
        (lambda work: os.truncate(last(work, "hr"), last(work, "hr").stat().st_size - 1), 2),
        (lambda work: os.truncate(last(work, "lr"), 40), 2),
        # A power cut can leave a file without content, or without its folder.
        (lambda work: os.truncate(last(work, "lr"), 0), 2),
        (lambda work: shutil.rmtree(work / "lr"), 0),
        # Another version worked here before.
        (lambda work: rename_all(work), 0),
        (lambda work: (work / "journal.jsonl").write_text("{}"), 3),
        (lambda work: (work / "lr" / "notes.txt").write_text("?"), 3),
        # Killed while the index was written.
        (lambda work: (work / "pack.json").write_text("{"), 3),
    ],
)
def test_what_a_kill_leaves_is_put_right(folder, tmp_path, whole, damage, left):
    damage(half_done(folder, tmp_path / "out"))
    assert packed(folder, tmp_path / "out")[0] == left
    assert contents(tmp_path / "out") == whole


def test_pixels_that_changed_on_disk_are_not_trusted(folder, tmp_path, whole):
    path = last(half_done(folder, tmp_path / "out"), "lr")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert packed(folder, tmp_path / "out") == list(range(2, N + 1))
    assert contents(tmp_path / "out") == whole


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
from enlca.data import packing
from enlca.data.pairs import training_pairs
folder, out, place, count = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
save = packing.np.save
def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
def save_half(path, pixels):
    save(path, pixels)
    os.truncate(path, 200)
    kill()
def save_lr_only(path, pixels):
    save(path, pixels) if path.parent.name == "lr" else kill()
def listen(done, total):
    if done == count:
        if place == "between":
            kill()
        if place == "inside":
            packing.np.save = save_lr_only
        if place == "torn":
            packing.np.save = save_half
        if place == "rename":
            os.replace = kill
if place == "end":
    packing.Path.unlink = kill
packing.write_pack(folder, training_pairs(folder, 2), out, scale=2, on_progress=listen)
"""


@pytest.mark.parametrize(
    ("place", "count", "left"),
    [
        ("between", 4, [4, 5, 6, 7]),
        ("inside", 2, [2, 3, 4, 5, 6, 7]),
        ("torn", 5, [5, 6, 7]),
        ("rename", N, [7]),
        ("end", N, []),
    ],
)
def test_killed_and_started_again_it_ends_in_the_same_bytes(folder, tmp_path, whole, place, count, left):
    out = tmp_path / "out"
    words = [sys.executable, "-c", KILLED, folder, out, place, str(count)]
    assert subprocess.run(words).returncode == -signal.SIGKILL
    assert out.exists() == (place == "end")
    assert packed(folder, out) == left
    assert contents(out) == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "pictures", "whole"]
