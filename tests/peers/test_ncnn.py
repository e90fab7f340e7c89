"""The reader of ncnn files against their format, and against files that lie."""

import struct

import numpy as np
import pytest
import torch

from enlca.errors import CheckpointError
from enlca.peers.ncnn import FLOAT32, SRMDNF, parse_layers, parse_weights, read_ncnn, write_ncnn

PARAM = """7767517
5 5
Input                    input     0 1 input
Convolution              Conv_0    1 1 input a 0=5 1=3 4=1 5=1 6=135 9=1
PReLU                    PRelu_1   1 1 a b 0=5
Convolution              last      1 1 b c 0=12 1=1 5=1 6=60
PixelShuffle             output    1 1 c output 0=2
"""
SHAPES = {
    "body.0.weight": (5, 3, 3, 3),
    "body.0.bias": (5,),
    "body.1.weight": (5,),
    "last.weight": (12, 5, 1, 1),
    "last.bias": (12,),
}


def tensors():
    generator = torch.Generator().manual_seed(3)
    made = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    return {name: x.half().float() if x.ndim == 4 else x for name, x in made.items()}


@pytest.fixture
def file(tmp_path):
    (tmp_path / "net.param").write_text(PARAM)
    (tmp_path / "net.bin").write_bytes(write_ncnn(tensors()))
    return tmp_path / "net.bin"


def test_weights_come_back_by_the_names_of_their_layers(file):
    # 135 halves are no multiple of 4 bytes, so that two bytes of padding follow.
    assert file.stat().st_size == 4 + 272 + 20 + 20 + 4 + 120 + 48
    read = read_ncnn(file)
    assert list(read) == list(SHAPES)
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors().items())


def test_weights_of_32_bits_are_read_too(file):
    content = b"".join(
        (struct.pack("<I", FLOAT32) if x.ndim == 4 else b"") + x.numpy().tobytes() for x in tensors().values()
    )
    read = parse_weights(content, parse_layers(PARAM))
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors().items())


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_file_alone_is_known_by_its_length(tmp_path, scale):
    made = {}
    for layer in SRMDNF[scale]:
        made |= {
            f"{layer.name}.weight": torch.rand(layer.shape),
            f"{layer.name}.bias": torch.rand(layer.shape[0]),
        }
    (tmp_path / "net.bin").write_bytes(write_ncnn(made))
    read = read_ncnn(tmp_path / "net.bin")
    assert {name: x.shape for name, x in read.items()} == {name: x.shape for name, x in made.items()}
    assert torch.equal(read["model.22.bias"], made["model.22.bias"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("7767517", "7767518", "does not begin like one"),
        ("6=135", "6=134", "5 filters of 3 x 3 with a bias cannot have 134 weights"),
        ("0=5 ", "0=999999999 ", "999999999 filters of 3 x 3 with a bias cannot have 135 weights"),
        ("6=135", "6=999999990", "cut short in body.0"),
        ("6=60", "6=72", "6 channels follows a layer that makes 5"),
        ("5=1 6=60", "6=60", "with a bias cannot have 60"),
        ("0=5 1=3", "1=3", "lacks 0="),
        ("PRelu_1   1 1 a b 0=5", "PRelu_1   1 1 a b 0=4", "4 slopes follows a layer that makes 5"),
        ("PixelShuffle", "LSTM", "a layer 'LSTM', which is not known here"),
        ("Convolution ", "Input ", "5 slopes follows a layer that makes nothing"),
    ],
)
def test_layers_that_cannot_be_are_refused(file, old, new, message):
    param = file.with_suffix(".param")
    param.write_text(param.read_text().replace(old, new))
    with pytest.raises(CheckpointError, match=message):
        read_ncnn(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (write_ncnn(tensors())[:-1], "cut short in last"),
        (write_ncnn(tensors()) + bytes(4), "has 492 bytes, and its layers need 488"),
        (b"\x38\x4b\x0d\x00" + write_ncnn(tensors())[4:], "weights of type 0x000d4b38"),
        (b"", "cut short in body.0"),
    ],
)
def test_weights_that_do_not_fit_are_refused(file, content, message):
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_ncnn(file)


def test_a_file_of_no_known_length_is_refused(tmp_path):
    (tmp_path / "net.bin").write_bytes(bytes(1000))
    with pytest.raises(CheckpointError, match=r"there is no .param beside it"):
        read_ncnn(tmp_path / "net.bin")
    with pytest.raises(CheckpointError, match=r"absent.bin: cannot be read \(No such file"):
        read_ncnn(tmp_path / "absent.bin")


def test_a_damaged_text_is_refused_or_read_and_nothing_else(file):
    param, generator = file.with_suffix(".param"), np.random.default_rng(3)
    text, refused = bytearray(param.read_bytes()), []
    for _ in range(100):
        damaged = bytearray(text)
        for at in generator.integers(0, len(text), 2):
            damaged[at] = generator.integers(256)
        param.write_bytes(damaged[: generator.integers(len(text) + 1)])
        try:
            read_ncnn(file)
        except CheckpointError as error:
            refused.append(str(error))
    assert len(refused) > 50
    assert not any("\n" in message for message in refused)


@pytest.mark.data
def test_real_esrgans_compact_network_is_read_by_the_names_of_its_authors(peers_data):
    read = read_ncnn(peers_data / "RealESRGAN/realesr-general-x4v3.bin")
    # 34 convolutions and 33 PReLUs in turn: the layers of one Sequential.
    assert list(read)[:3] == ["body.0.weight", "body.0.bias", "body.1.weight"]
    assert len(read) == 2 * 34 + 33
    assert read["body.66.weight"].shape == (48, 64, 3, 3)
    assert all(torch.isfinite(x).all() for x in read.values())
