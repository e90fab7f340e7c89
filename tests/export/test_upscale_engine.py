"""`enlca upscale --engine`: another runtime, the same picture."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from enlca.cli import engine as cli_engine
from enlca.cli.engine import MANY_PICTURES, engine_called
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
        ("--engine tensorrt", "--engine must be one of auto, torch, onnx, openvino; got 'tensorrt'"),
        ("--engine openvino --device cuda", "computes on the processor: --device cpu, not cuda"),
        ("--engine openvino --precision fp16", "does not compute in fp16; use --precision fp32"),
        ("--engine onnx --precision bf16", "does not compute in bf16; use --precision fp32"),
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


def chosen(pictures=MANY_PICTURES, **changes):
    return engine_called(
        "auto", **{"device": "cpu", "precision": "auto", "compile": False, **changes}, pictures=pictures
    )


def test_auto_is_openvino_for_many_pictures_through_a_wide_network(small_network, quick, monkeypatch):
    network = small_network("linear")
    assert chosen()(network) is network
    monkeypatch.setattr(cli_engine, "WIDE_NETWORK", network.config.channels)
    assert chosen()(network).name == "openvino"
    assert quick == ["openvino"]


@pytest.mark.parametrize(
    "changes",
    [{"pictures": MANY_PICTURES - 1}, {"device": "cuda"}, {"precision": "fp16"}, {"compile": True}],
    ids=lambda changes: next(iter(changes)),
)
def test_auto_is_pytorch_otherwise(changes, monkeypatch):
    monkeypatch.setattr("enlca.export.extras.installed", lambda engine: True)
    assert chosen(**changes) is None


@pytest.mark.parametrize("has_amx", [True, False])
def test_auto_takes_what_is_fastest_in_the_precision_that_is_asked_for(has_amx, small_network, monkeypatch):
    monkeypatch.setattr("enlca.export.extras.installed", lambda engine: True)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_amx, raising=False)
    monkeypatch.setattr(cli_engine, "WIDE_NETWORK", 1)
    monkeypatch.setattr(engines, "load_engine", lambda kind, network, precision="fp32": (kind, precision))
    found = {name: chosen(precision=name) for name in ("auto", "bf16", "fp32")}
    network = small_network("linear")
    assert {name: make and make(network) for name, make in found.items()} == {
        "auto": None if has_amx else ("openvino", "fp32"),
        "bf16": None,
        "fp32": ("openvino", "fp32"),
    }


def test_auto_is_pytorch_where_openvino_is_not_installed(monkeypatch):
    monkeypatch.setattr("enlca.export.extras.installed", lambda engine: False)
    assert chosen() is None


def test_auto_leaves_nlsn_to_pytorch(monkeypatch):
    from enlca.network.sr import SRConfig, SRNetwork

    monkeypatch.setattr("enlca.export.extras.installed", lambda engine: True)
    sizes = {"channels": cli_engine.WIDE_NETWORK, "n_blocks": 1, "blocks_per_stage": 1, "embed_channels": 5}
    network = SRNetwork(SRConfig(scale=2, attention="lsh", **sizes))
    assert chosen()(network) is network


def test_the_choices_are_those_of_the_engines():
    assert cli_engine.OTHER_ENGINES == engines.ENGINES
