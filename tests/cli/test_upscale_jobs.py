"""Folders of pictures and exact sizes, through the command."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from enlca.image.picture import read_image


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder: three pictures in a tree."""
    generator = np.random.default_rng(0)
    for name in ("photos/1.png", "photos/2.png", "photos/deep/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (13, 11, 3), dtype=np.uint8)).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


TREE = ["1_x4.png", "2_x4.png", "deep/3_x4.png"]


def test_a_tree_is_upscaled_and_kept(folder, tiny_model, command):
    done = command("upscale", "photos", "--model", tiny_model, "-o", "out", "--recursive")
    assert (done.code, done.err) == (0, "")
    assert files_in(folder / "out") == TREE


def test_a_second_run_beside_the_inputs_does_what_is_missing(folder, tiny_model, command):
    words = ("upscale", "photos", "--model", tiny_model)
    assert command(*words).code == 0
    before = files_in(folder)
    done = command(*words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("enlca: photos/1_x4.png is an input and would be overwritten; ")
    assert "--skip-existing" in done.err
    assert "-o" in done.err
    (folder / "photos" / "2_x4.png").unlink()
    body = json.loads(command(*words, "--skip-existing", "--json").out)
    assert [(one["source"], one["skipped"]) for one in body["pictures"]] == [
        ("photos/1.png", True),
        ("photos/2.png", False),
    ]
    assert command(*words, "--overwrite").code == 0
    assert files_in(folder) == before


def test_when_all_is_there_nothing_is_loaded_and_every_picture_is_named(
    folder, tiny_model, command, monkeypatch
):
    words = ("upscale", "photos", "--model", tiny_model, "-o", "out")
    assert command(*words).code == 0
    monkeypatch.setattr("enlca.inference.upscaler.load_model", None)
    done = command(*words, "--skip-existing")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [f"photos/{n}.png -> out/{n}_x4.png exists: skipped" for n in (1, 2)]


def test_an_input_is_replaced_if_asked_and_only_then(folder, tiny_model, command):
    words = ("upscale", "photos/1.png", "--model", tiny_model, "-o", "photos/1.png")
    assert command(*words).code == 2
    assert read_image("photos/1.png").pixels.shape == (13, 11, 3)
    assert command(*words, "--overwrite").code == 0
    assert read_image("photos/1.png").pixels.shape == (52, 44, 3)


@pytest.mark.parametrize(
    ("words", "name", "size"),
    [
        ("--scale 3.5", "x3.5", (38, 46)),
        ("--scale 2", "x2", (22, 26)),
        ("--width 40", "w40", (40, 47)),
        ("--height 40", "h40", (34, 40)),
        ("--width 40 --height 20", "40x20", (40, 20)),
    ],
)
def test_sizes_are_exact_for_one_file_and_for_many(folder, tiny_model, command, words, name, size):
    settings = (*words.split(), "--model", tiny_model)
    done = command("upscale", "photos/1.png", *settings)
    assert done == (0, f"photos/1.png -> photos/1_{name}.png ({size[0]}x{size[1]})\n", "")
    assert command("upscale", "photos/1.png", "photos/2.png", *settings, "-o", "out").code == 0
    alone, among_others = read_image(f"photos/1_{name}.png"), read_image(f"out/1_{name}.png")
    assert alone.pixels.shape == (size[1], size[0], 3)
    np.testing.assert_array_equal(alone.pixels, among_others.pixels)


def test_sizes_that_no_network_makes_are_remarked(folder, tiny_model, command):
    settings = ("--model", tiny_model, "-o", "{stem}_{size}.png")
    assert command("upscale", "photos/1.png", *settings, "--width", 11).out == (
        "photos/1.png -> 1_w11.png (11x13): not larger than the picture was: resized without a network\n"
    )
    body = json.loads(command("upscale", "photos/1.png", *settings, "--width", 99, "--json").out)
    assert body["scale"] is None
    assert "beyond x4" in body["pictures"][0]["remark"]


# Waits where the second picture is encoded and partly written, for ever.
KILLED = """
import os, sys, time
from enlca.cli import main
fsync, calls = os.fsync, []
def stuck(handle):
    calls.append(handle)
    if len(calls) == 2:
        print("writing", flush=True)
        time.sleep(600)
    fsync(handle)
os.fsync = stuck
main()
"""


def test_a_killed_job_run_again_does_what_is_missing_and_leaves_no_trash(folder, tiny_model, command):
    words = ("upscale", "photos", "--model", tiny_model, "-o", "out", "--recursive")
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, *map(str, words)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        # Before it, the line of the first picture.
        assert "writing\n" in iter(process.stdout.readline, "")
        process.send_signal(signal.SIGKILL)
    made = folder / "out" / "1_x4.png"
    assert [path for path in (folder / "out").iterdir() if path.is_file()] == [made]
    assert len(list((folder / "out").glob(".enlca-*.part"))) == 1
    stamp = made.stat().st_mtime_ns
    done = command(*words, "--skip-existing", "--json")
    assert (done.code, done.err) == (0, "")
    assert [one["skipped"] for one in json.loads(done.out)["pictures"]] == [True, False, False]
    assert files_in(folder / "out") == TREE
    assert made.stat().st_mtime_ns == stamp
