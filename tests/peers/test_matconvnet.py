"""The reader of MATLAB files against scipy's writer, and against files that lie."""

import struct
import zlib

import numpy as np
import pytest
import torch
from scipy.io import savemat

from enlca.errors import CheckpointError
from enlca.peers.matconvnet import HEADER, read_matconvnet

VALUES = {
    "a_f": np.arange(3 * 5 * 7 * 2, dtype=np.float32).reshape(3, 5, 7, 2),
    "a_b": np.array([[1.5, -2.0]], dtype=np.float32),
    "wide_f": np.ones((3, 3, 4), dtype=np.float32),
    "flat_f": np.eye(4),
    # MATLAB stores whole numbers in the smallest type that holds them.
    "zero_b": np.array([[0.0]]),
}


def write(path, values, *, compressed=True, **fields):
    parameters = np.zeros((1, len(values)), dtype=[("name", object), ("value", object), ("rate", object)])
    for place, (name, value) in zip(parameters[0], values.items(), strict=True):
        place["name"], place["value"], place["rate"] = name, value, np.array([[0.1]])
    net = {"layers": np.zeros((1, 0)), "params": parameters, "meta": "text", **fields}
    savemat(path, {"other": np.eye(3), "net": net}, do_compression=compressed)
    return path


@pytest.fixture(params=[True, False], ids=["compressed", "plain"])
def file(request, tmp_path):
    return write(tmp_path / "net.mat", VALUES, compressed=request.param)


def test_filters_come_as_out_in_height_width_and_biases_as_vectors(file):
    tensors = read_matconvnet(file)
    assert list(tensors) == list(VALUES)
    assert {x.dtype for x in tensors.values()} == {torch.float32}
    assert tensors["a_f"].shape == (2, 7, 3, 5)
    assert tensors["a_f"][1, 6, 2, 4] == VALUES["a_f"][2, 4, 6, 1]
    np.testing.assert_array_equal(tensors["a_f"], VALUES["a_f"].transpose(3, 2, 0, 1))
    assert tensors["a_b"].tolist() == [1.5, -2.0]
    assert tensors["wide_f"].shape == (1, 4, 3, 3)
    assert tensors["flat_f"].shape == (1, 1, 4, 4)
    assert tensors["zero_b"].tolist() == [0.0]


def test_parameters_in_a_cell_array_are_read_too(tmp_path):
    parameters = [{"name": name, "value": value} for name, value in VALUES.items()]
    savemat(tmp_path / "net.mat", {"net": {"params": parameters}})
    tensors, expected = (
        read_matconvnet(tmp_path / "net.mat"),
        read_matconvnet(write(tmp_path / "a.mat", VALUES)),
    )
    assert list(tensors) == list(expected)
    assert all(torch.equal(tensors[name], value) for name, value in expected.items())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "does not begin like one"),
        (b"MATLAB 7.3" + bytes(500), "does not begin like one"),
        (b" " * 124 + b"\x00\x01IM", "holds no variable net"),
        (b" " * 124 + b"\x00\x01IM" + struct.pack("<II", 14, 1 << 31), "cut short"),
        (b" " * 124 + b"\x00\x01IM" + struct.pack("<II", 15, 9) + bytes(9), "not the MATLAB file"),
    ],
)
def test_what_is_none_is_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "net.mat"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_matconvnet(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"net.mat: cannot be read \(No such file"):
        read_matconvnet(tmp_path / "net.mat")


def test_a_small_file_that_unpacks_to_more_than_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("enlca.peers.matconvnet.LIMIT", 1 << 16)
    bomb = zlib.compress(bytes(1 << 20))
    path = tmp_path / "net.mat"
    path.write_bytes(b" " * 124 + b"\x00\x01IM" + struct.pack("<II", 15, len(bomb)) + bomb)
    with pytest.raises(CheckpointError, match="unpacks to more than"):
        read_matconvnet(path)


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ((1, 2**31 - 1), "too many fields or elements"),
        ((2**31 - 1,) * 32, "too many fields or elements"),
        ((1,) * 50, "negative or too many dimensions"),
        ((-1, 2), "negative or too many dimensions"),
    ],
    ids=["long", "huge", "deep", "negative"],
)
def test_dimensions_that_lie_are_refused(tmp_path, dims, message):
    content = bytearray(write(tmp_path / "net.mat", {"a_b": np.ones((1, 2))}, compressed=False).read_bytes())
    name = content.index(b"net")
    # The array's dimensions come before its name: tag of 8 bytes, two numbers.
    at = content.rindex(struct.pack("<II", 5, 8), 0, name)
    length = -(-4 * len(dims) // 8) * 8
    content[at : at + 16] = struct.pack("<II", 5, 4 * len(dims)) + struct.pack(f"<{len(dims)}i", *dims).ljust(
        length, b"\0"
    )
    outer = content.rindex(struct.pack("<I", 14), HEADER, at)
    content[outer + 4 : outer + 8] = struct.pack("<I", len(content) - outer - 8)
    (tmp_path / "net.mat").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_matconvnet(tmp_path / "net.mat")


def test_a_damaged_file_is_refused_or_read_and_nothing_else(file):
    content, generator = file.read_bytes(), np.random.default_rng(5)
    refused = []
    for _ in range(150):
        damaged = bytearray(content)
        for at in generator.integers(HEADER, len(content), 3):
            damaged[at] = generator.integers(256)
        file.write_bytes(damaged[: generator.integers(HEADER, len(content) + 1)])
        try:
            read_matconvnet(file)
        except CheckpointError as error:
            refused.append(str(error))
    assert len(refused) > 100
    assert not any("\n" in message for message in refused)
