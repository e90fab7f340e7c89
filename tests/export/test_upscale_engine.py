"""`enlca upscale --engine`: another runtime, the same picture."""

import sys
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from enlca.cli import upscale
from enlca.cli.engines import engine_loader
from enlca.export import engines
from enlca.inference.upscaler import Upscaler

ENGINES = ("onnx", "openvino")


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    pixels = np.random.default_rng(3).integers(0, 256, (23, 29, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def quick(linear_graph, monkeypatch):
    """The export of `model`, made before; says which engines were asked for."""
    asked = []

    def load(kind, network, **settings):
        asked.append(kind)
        return loader(kind, network, **settings)

    loader = engines.load_engine
    monkeypatch.setattr(engines, "onnx_graph", lambda network: linear_graph.graph)
    monkeypatch.setattr(engines, "load_engine", load)
    return asked


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "words", [[], ["--mode", "tiled"], ["--ensemble"]], ids=["whole", "tiled", "ensemble"]
)
def test_every_engine_gives_the_same_picture(command, model, photo, quick, tmp_path, engine, words):
    for name in ("torch", engine):
        done = command(
            "upscale", photo, "--model", model, "--engine", name, "-o", tmp_path / f"{name}.png", *words
        )
        assert (done.code, done.err) == (0, "")
    mine, theirs = (np.array(Image.open(tmp_path / f"{name}.png"), dtype=int) for name in (engine, "torch"))
    assert abs(mine - theirs).max() <= 1
    assert quick == [engine]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_stream_is_the_networks_own_and_says_so(command, model, photo, quick, tmp_path, engine):
    words = ["--mode", "stream", "--model", model, "--engine", engine, "-o", tmp_path / "large.png"]
    done = command("upscale", photo, *words)
    assert done.code == 0
    assert "streamed by PyTorch: other engines take whole pictures" in done.out + done.err
    assert (
        np.array(Image.open(tmp_path / "large.png")) == Upscaler(model)(np.array(Image.open(photo)))
    ).all()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--engine tensorrt", "'--engine': 'tensorrt' is not one of 'auto', 'torch', 'onnx', 'openvino'"),
        ("--engine openvino --device cuda", "computes on the processor: --device cpu, not cuda"),
        ("--engine openvino --precision fp16", "does not compute in fp16; use --precision fp32"),
        ("--engine onnx --precision bf16", "does not compute in bf16; use --precision fp32"),
        ("--engine openvino --precision bf16", "does not compute in bf16; use --precision fp32"),
        ("--engine onnx --compile", "--compile is PyTorch's"),
    ],
)
def test_options_that_contradict_each_other_are_wrong_usage(command, model, photo, words, said):
    done = command("upscale", photo, "--model", model, *words.split())
    assert done.code == 2
    assert said in done.err


def test_an_engine_that_is_not_installed_is_one_line(command, model, photo, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    done = command("upscale", photo, "--model", model, "--engine", "openvino")
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert "pip install 'enlca[export]'" in done.err
    assert not photo.with_name("photo_x4.png").exists()


def test_engines_are_loaded_by_name(small_network, quick):
    assert engine_loader("openvino")(small_network("linear")).name == "openvino"
    assert quick == ["openvino"]


def test_the_choices_are_those_of_the_engines():
    assert get_args(upscale.OtherEngine) == engines.ENGINES
