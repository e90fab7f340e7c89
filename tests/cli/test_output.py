import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import typer.main
from PIL import Image

import enlca
from enlca.checkpoint import DEFAULT_MODEL, store
from enlca.cli.app import app
from enlca.image.picture import read_image

COMMANDS = typer.main.get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue]
TRAINING = {"data": "somewhere", "steps": 20, "n1": 0.02, "n2": 0.08}
SCORES = {"Set5": {"psnr_y": 31.414, "ssim_y": 0.8765, "n": 5}, "Set14": {"psnr_y": 28.1}}


def texture(*shape):
    return (128 + 100 * np.sin(np.indices(shape).sum(axis=0) / 3)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with pictures of several kinds."""
    for name, shape in {"a.png": (13, 11, 3), "grey.png": (7, 5), "clear.png": (5, 7, 4)}.items():
        Image.fromarray(texture(*shape)).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def weights(tiny_network, tmp_path, monkeypatch):
    """A package whose only weights are those of the tiny network, under the name of the default model."""
    file = tmp_path / f"{DEFAULT_MODEL}_x4.safetensors"
    enlca.save(tiny_network, file, training=TRAINING, scores=SCORES)
    monkeypatch.setattr(store, "WEIGHTS", tmp_path)
    return file


def test_a_picture_in_and_a_larger_picture_out(folder, weights, command):
    done = command("upscale", "a.png")
    assert done == (0, "a.png -> a_x4.png (44x52)\n", "")
    np.testing.assert_array_equal(
        read_image("a_x4.png").pixels, enlca.Upscaler(DEFAULT_MODEL, scale=4)("a.png").pixels
    )


def test_grey_and_transparent_pictures_keep_their_kind(folder, tiny_model, command):
    assert command("upscale", "grey.png", "clear.png", "--model", tiny_model, "-o", "out").code == 0
    assert read_image("out/grey_x4.png").pixels.shape == (28, 20, 1)
    alpha = read_image("out/clear_x4.png").alpha
    assert alpha is not None
    assert alpha.shape == (20, 28)


def test_quality_and_format_are_heeded(folder, tiny_model, command):
    sizes = []
    for quality in (10, 95):
        command("upscale", "a.png", "--model", tiny_model, "--format", "webp", "--quality", quality)
        assert (folder / "a_x4.webp").read_bytes()[8:12] == b"WEBP"
        sizes.append((folder / "a_x4.webp").stat().st_size)
    assert sizes[0] < sizes[1]


def test_json_is_one_object_and_nothing_else(folder, tiny_model, command):
    done = command("upscale", "a.png", "grey.png", "--model", tiny_model, "--json", "-o", "out")
    assert (done.code, done.err) == (0, "")
    body = json.loads(done.out)
    assert (body["scale"], body["model"]) == (4, str(tiny_model))
    assert [(one["source"], one["target"], one["width"], one["height"]) for one in body["pictures"]] == [
        ("a.png", "out/a_x4.png", 44, 52),
        ("grey.png", "out/grey_x4.png", 20, 28),
    ]


def test_progress_goes_to_a_terminal_only(folder, tiny_model, command, monkeypatch):
    words = ("upscale", "a.png", "grey.png", "--model", tiny_model, "--json", "-o", "out")
    assert command(*words).err == ""
    # pytest's stand-in for stderr has a class of its own in each test.
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda self: True)
    monkeypatch.setenv("TERM", "xterm")
    done = command(*words)
    assert "grey.png" in done.err
    assert "2/2" in done.err
    assert len(json.loads(done.out)["pictures"]) == 2


def test_info_tells_what_a_checkpoint_is(weights, command):
    done = command("info", DEFAULT_MODEL)
    assert (done.code, done.err) == (0, "")
    words = [" ".join(line.split()) for line in done.out.splitlines()]
    for fact in ("amplification (k) 6.0000", "n_features (m) 8", "n1 0.02", "n2 0.08", "steps 20"):
        assert fact in words
    assert "Set5 n 5, psnr_y 31.4140, ssim_y 0.8765" in words
    assert "variant paper" in done.out


def test_info_in_json_is_the_card_and_the_file(weights, tiny_network, command):
    body = json.loads(command("info", DEFAULT_MODEL, "--json").out)
    assert body["file"] == str(weights)
    assert body["bytes"] == weights.stat().st_size
    assert body["parameters"] == sum(parameter.numel() for parameter in tiny_network.parameters())
    assert (body["training"], body["scores"], body["variant"]) == (TRAINING, SCORES, "paper")
    assert (body["network"]["scale"], body["network"]["n_features"]) == (4, 8)


def test_models_lists_the_weights_in_the_package_with_their_scores(weights, tiny_network, command):
    shutil.copy(weights, weights.with_name("other-one_x4.safetensors"))
    done = command("models")
    assert (done.code, done.err) == (0, "")
    _, first, second = done.out.splitlines()
    count = sum(parameter.numel() for parameter in tiny_network.parameters())
    assert first.split()[:3] == [DEFAULT_MODEL, "x4", f"{count:,}"]
    assert first.endswith("Set14 28.10, Set5 31.41 / 0.8765")
    assert second.startswith("other-one ")


def test_degrade_and_score_work_together(folder, command):
    Image.fromarray(texture(62, 59, 3)).save(folder / "a.png")
    (folder / "large").mkdir()
    (folder / "a.png").rename(folder / "large" / "a.png")
    assert command("degrade", "large", "small", "--scale", 2) == (0, "small: 1 made\n", "")
    assert read_image("small/a.png").pixels.shape == (31, 29, 3)
    assert command("evaluate", "--model=bicubic", "--data=large", "--scale=2", "--save-images=made").code == 0
    done = command("score", "made/large", "large", "--scale", 2, "--json-file", "x.json", "--csv", "x.csv")
    assert (done.code, done.err) == (0, "")
    # Equal to what `evaluate` found: the kept pictures are the scored ones.
    command("evaluate", "--model=bicubic", "--data=large", "--scale=2", "--json-file=y.json")
    ours, theirs = (json.loads((folder / name).read_text())["datasets"] for name in ("x.json", "y.json"))
    assert ours == theirs
    assert len((folder / "x.csv").read_text().splitlines()) == 2


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_explains_itself(command, name):
    done = command(name, "--help")
    assert (done.code, done.err) == (0, "")
    assert f"Usage: enlca {name} " in done.out
    assert command(name, "-h").out == done.out


def test_enlca_alone_lists_its_commands(command):
    for words in ((), ("--help",)):
        done = command(*words)
        assert done.code == (0 if words else 2)
        assert done.err == ""
        assert [name for name in COMMANDS if f" {name} " not in done.out] == []


def test_help_and_wrong_scales_do_not_wait_for_torch():
    program = f"""
import sys
from enlca.cli import main
for words in ["--help"], *([name, "--help"] for name in {list(COMMANDS)}), ["upscale", "x.png", "--scale=5"]:
    sys.argv = ["enlca", *words]
    try:
        main()
    except SystemExit as leaving:
        print("left with", leaving.code)
print("loaded:", *sorted({{"torch", "numpy", "PIL", "pyvips", "lightning", "gradio"}} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.count("left with 0") == 1 + len(COMMANDS)
    assert done.stdout.endswith("left with 2\nloaded:\n")


def test_no_garbage_is_looked_for_in_what_is_loaded():
    # By Python's own settings: 380 walks through what torch makes while it loads, and one through all of it.
    program = """
import atexit, gc, sys
from enlca.cli import main

def report():
    print("torch" in sys.modules, sum(walk["collections"] for walk in gc.get_stats()), len(gc.get_objects()))

atexit.register(report)
sys.argv = ["enlca", "upscale", "missing.png"]
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    loaded, walks, left = done.stdout.split()
    assert loaded == "True"
    assert int(walks) < 120
    assert int(left) < 10_000


@pytest.mark.parametrize("words", [["cost", "enlcn-tiny"], ["upscale", "--engine", "onnx"]])
def test_leaving_says_nothing_whatever_was_loaded(tmp_path, words):
    # Libraries made with nanobind, as ONNX and Triton are, list on stderr what is still there at the end.
    if "onnx" in words:
        pytest.importorskip("onnxruntime", reason="no ONNX Runtime: pip install 'enlca[export]'")
        Image.fromarray(np.zeros((7, 5, 3), np.uint8)).save(tmp_path / "a.png")
        words = [*words, str(tmp_path / "a.png")]
    done = subprocess.run([sys.executable, "-m", "enlca", *words], capture_output=True, text=True, check=True)
    assert done.stderr == ""
