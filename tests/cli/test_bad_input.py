"""Whatever is wrong: one line that says what, the contracted exit code, and nothing left behind."""

import json
import sys
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from enlca.cli import common, measure, upscale
from enlca.evaluation.evaluate import PROTOCOLS
from enlca.evaluation.report import LR_TYPES
from enlca.image import files
from enlca.inference import strategy
from enlca.network import sr
from enlca.runtime import device

PIXELS = np.random.default_rng(0).integers(0, 256, (23, 19, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a good picture and bad ones."""
    Image.fromarray(PIXELS).save(tmp_path / "good.png")
    Image.fromarray(PIXELS).save(tmp_path / "cut.jpg")
    whole = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("dear diary")
    (tmp_path / "zero.png").touch()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


INPUTS = {
    "gone.png": "no such file",
    "text.png": "not a picture in a format that is read here; these are: png",
    "cut.jpg": "damaged or cut short, get a whole copy",
    "zero.png": "the file is empty (0 bytes)",
    "empty": "no pictures in this folder; looked for .png",
    "x" * 300 + ".png": "File name too long",
}


@pytest.mark.parametrize("name", INPUTS)
def test_an_input_that_cannot_be_used_is_one_line_and_exit_code_1(folder, tiny_model, command, name):
    before = everything(folder)
    done = command("upscale", name, "--model", tiny_model)
    assert (done.code, done.out) == (1, "")
    [line] = done.err.splitlines()
    assert line.startswith(f"enlca: {name}: ")
    assert INPUTS[name] in line
    assert everything(folder) == before


def test_good_pictures_are_upscaled_whatever_stands_beside_them(folder, tiny_model, command):
    before = everything(folder)
    done = command("upscale", "text.png", "good.png", "gone.png", "--model", tiny_model)
    assert done.code == 1
    assert done.out == "good.png -> good_x4.png (76x92)\n"
    assert [line.split(": ")[1] for line in done.err.splitlines()] == ["text.png", "gone.png"]
    assert everything(folder) == sorted([*before, "good_x4.png"])
    with Image.open("good_x4.png") as made:
        assert made.size == (76, 92)


USAGE = {
    "no command": ("enlarge good.png", "enlarge"),
    "no input": ("upscale --model {tiny}", "Missing argument"),
    "unknown option": ("upscale good.png --model {tiny} --faster", "No such option: --faster"),
    "scale": ("upscale good.png --scale 5", "'--scale': must be above 0 and at most 4; got 5"),
    "scale in words": ("upscale good.png --scale four", "Invalid value for '--scale'"),
    "no scale": ("upscale good.png --scale 0", "'--scale': must be above 0 and at most 4; got 0"),
    "two sizes": ("upscale good.png --scale 2 --width 9", "contradict each other; give one of them"),
    "two of the newer sizes": (
        "upscale good.png --shorter-side 9 --at-least 9x9",
        "--shorter-side and --at-least contradict each other; give one of them",
    ),
    "no box": ("upscale good.png --at-least 9y9", "'9y9' is no size in pixels; write one like 1920x1080"),
    "device index": ("upscale good.png --model {tiny} --device cuda:99", "device cuda:99 is not available"),
    "two pictures into stdout": ("upscale good.png cut.jpg -o -", "- is one picture: give one input"),
    "watch a file": ("upscale good.png --watch -o out", "--watch looks into folders; good.png is none"),
    "watch without an output": ("upscale empty --watch", "--watch needs -o, a folder of its own"),
    "no width": ("upscale good.png --width 0", "--width"),
    "skip and overwrite": ("upscale good.png --skip-existing --overwrite", "contradict each other"),
    "field": ("upscale good.png --model {tiny} -o {{name}}.png", "unknown field {name}; known: {folder}"),
    "field of no scale": (
        "upscale good.png --model {tiny} --width 9 -o x{{scale}}.png",
        "there is no {scale} with --width or --height; write {size}",
    ),
    "model": ("upscale good.png --model waifu", "unknown model 'waifu'; known: "),
    "model file": ("upscale good.png --model gone.safetensors", "gone.safetensors: no such checkpoint file"),
    "model that is none": (
        "upscale good.png --model ./text.png",
        "text.png: not a file that PyTorch wrote, nor .safetensors",
    ),
    "device": (
        "upscale good.png --model {tiny} --device gpu",
        "'--device': 'gpu' is not one of 'auto', 'cpu', 'cuda', 'mps'",
    ),
    "format": (
        "upscale good.png --model {tiny} --format xcf",
        "'--format': 'xcf' is not one of 'png', 'jpg', 'jpeg', 'webp', 'tif', 'avif', 'gif', 'same'",
    ),
    "mode": (
        "upscale good.png --mode tiles",
        "'--mode': 'tiles' is not one of 'auto', 'whole', 'stream', 'tiled'",
    ),
    "precision": (
        "upscale good.png --precision int8",
        "'--precision': 'int8' is not one of 'auto', 'fp32', 'bf16', 'fp16'",
    ),
    "frames": ("upscale good.png --frames last", "'--frames': 'last' is not one of 'auto', 'first', 'all'"),
    "quality": ("upscale good.png --model {tiny} --quality 0", "--quality"),
    "output": ("upscale good.png --model {tiny} -o out.xcf", "cannot write .xcf; choose from .png"),
    "one output for two": ("upscale good.png cut.jpg --model {tiny} -o x.png", "more than one input"),
    "output is input": (
        "upscale good.png --model {tiny} -o good.png",
        "is an input and would be overwritten",
    ),
    "bucket": (
        "upscale s3://photos/a.jpg --model {tiny}",
        "s3://photos/a.jpg is an address; upscale takes files, enlca bulk takes buckets",
    ),
    "output in a bucket": ("upscale good.png --model {tiny} -o gs://photos", "gs://photos is an address"),
    "evaluate scale": (
        "evaluate --model bicubic --data . --scale 1",
        "'--scale': '1' is not one of '2', '3', '4'",
    ),
    "evaluate protocol": (
        "evaluate --model bicubic --data . --scale 4 --protocol tiles",
        "'--protocol': 'tiles' is not one of 'whole', 'chop'",
    ),
    "evaluate device": (
        "evaluate --model bicubic --data . --scale 4 --device gpu",
        "'--device': 'gpu' is not one of 'auto', 'cpu', 'cuda', 'mps'",
    ),
    "evaluate model": ("evaluate --model waifu --data . --scale 4", "unknown model 'waifu'"),
    "evaluate nothing": ("evaluate --model bicubic --data empty --scale 4", "empty: no pictures"),
    "evaluate nowhere": ("evaluate --model bicubic --data gone --scale 4", "gone: no such folder"),
    "evaluate without scale": (
        "evaluate --model bicubic --data .",
        "Missing option '--scale'. Choose from: 2, 3, 4 (see",
    ),
    "score scale": ("score . empty --scale 6", "'--scale': '6' is not one of '2', '3', '4'"),
    "score nothing": ("score . empty --scale 4", "empty: no pictures"),
    "degrade nowhere": ("degrade gone small --scale 4", "gone: no such folder"),
    "degrade a file": ("degrade good.png small --scale 4", "good.png: is a file, not a folder"),
    "degrade onto itself": ("degrade . . --scale 4", "need a folder of their own"),
    "degrade scale": ("degrade . small --scale 0", "'--scale': '0' is not one of '2', '3', '4'"),
    "info": ("info waifu", "unknown model 'waifu'"),
    "info scale": ("info {tiny} --scale 3", "upscales x4, not x3"),
    "train nowhere": ("train gone.yaml", "gone.yaml: no such configuration file"),
}


def test_the_words_that_options_know_are_those_of_the_rooms_behind_them():
    assert get_args(upscale.Mode) == strategy.MODES
    assert get_args(upscale.Precision) == ("auto", *device.PRECISIONS)
    assert get_args(upscale.Frames) == ("auto", *files.FRAMES)
    assert common.DEVICES == device.DEVICES
    assert get_args(common.Scale) == sr.SCALES
    assert get_args(measure.Protocol) == PROTOCOLS
    assert get_args(measure.LrType) == tuple(LR_TYPES)


@pytest.mark.parametrize("case", USAGE)
def test_wrong_usage_is_one_line_and_exit_code_2(folder, tiny_model, command, case):
    line, reason = USAGE[case]
    before = everything(folder)
    done = command(*line.format(tiny=tiny_model).split())
    assert (done.code, done.out) == (2, "")
    [message] = done.err.splitlines()
    assert message.startswith("enlca: ")
    assert reason in message
    assert everything(folder) == before


def test_failures_are_in_the_json_too(folder, tiny_model, command):
    done = command("upscale", "good.png", "zero.png", "empty", "--model", tiny_model, "--json", "-o", "out")
    assert done.code == 1
    body = json.loads(done.out)
    failed = {picture["source"]: picture["error"] for picture in body["pictures"] if picture["error"]}
    assert failed.keys() == {"zero.png", "empty"}
    assert sorted(done.err.splitlines()) == sorted(f"enlca: {error}" for error in failed.values())


def test_a_folder_that_cannot_be_written_to_is_one_line(folder, tiny_model, command):
    (folder / "file").touch()
    before = everything(folder)
    for words in (
        ("upscale", "good.png", "--model", tiny_model, "-o", "file/out"),
        ("degrade", ".", "file/small", "--scale", 4),
    ):
        done = command(*words)
        assert done.code in (1, 2)
        assert len(done.err.splitlines()) == 1
        assert "file" in done.err
    assert everything(folder) == before


def test_training_without_its_extra_packages_says_how_to_get_them(folder, command, monkeypatch):
    (folder / "run.yaml").write_text("data: {train: .}")
    monkeypatch.setitem(sys.modules, "jsonargparse", None)
    done = command("train", "run.yaml")
    assert (done.code, done.out) == (2, "")
    assert done.err == "enlca: training needs jsonargparse: pip install 'enlca[train]'\n"


def test_an_empty_word_is_not_the_current_folder(folder, tiny_model, command):
    before = everything(folder)
    done = command("upscale", "", "--model", tiny_model)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("enlca: Invalid value: an empty word names no picture")
    assert everything(folder) == before
