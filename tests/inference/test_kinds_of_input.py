"""What `Upscaler` takes besides a path: bytes, files, lists, batches, devices, any factor."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from enlca.errors import CheckpointError, DeviceError
from enlca.image.picture import Picture, rows_of
from enlca.inference.target_size import resized
from enlca.inference.upscaler import Upscaler

H, W, S = 11, 13, 4


def noise(*shape):
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(scope="module")
def up(tiny_model):
    return Upscaler(tiny_model, device="cpu")


def test_bytes_and_open_files_are_what_the_file_is(up, tmp_path):
    Image.fromarray(noise(H, W, 3)).save(tmp_path / "x.png")
    data, expected = (tmp_path / "x.png").read_bytes(), up(noise(H, W, 3))
    with (tmp_path / "x.png").open("rb") as file:
        for given in (data, bytearray(data), io.BytesIO(data), file):
            np.testing.assert_array_equal(up(given).pixels, expected)


def test_a_list_gives_a_list(up, tmp_path):
    Image.fromarray(noise(H, W, 3)).save(tmp_path / "x.png")
    first, second, third = up([noise(H, W, 3), tmp_path / "x.png", Image.fromarray(noise(W, H))])
    np.testing.assert_array_equal(first, up(noise(H, W, 3)))
    np.testing.assert_array_equal(second.pixels, first)
    assert third.size == (S * H, S * W)
    assert up([]) == []


@pytest.mark.parametrize("n_layers", [1, 3, 4])
def test_a_batch_of_arrays_is_upscaled_one_by_one(up, n_layers):
    batch = noise(2, H, W, n_layers)
    np.testing.assert_array_equal(up(batch), np.stack([up(one) for one in batch]))
    with pytest.raises(ValueError, match=r"\(or N H W C\) with 1 to 4"):
        up(batch[:0])


@pytest.mark.parametrize("shape", [(3, H, W), (2, 3, H, W)])
def test_a_tensor_of_bytes_gives_one(up, shape):
    made = up(torch.from_numpy(noise(*shape)))
    assert made.dtype == torch.uint8
    expected = np.moveaxis(up(np.moveaxis(noise(*shape), -3, -1)), -1, -3)
    np.testing.assert_array_equal(made.numpy(), expected)


def test_a_device_may_be_torchs_and_have_an_index(tiny_model, monkeypatch):
    assert Upscaler(tiny_model, device=torch.device("cpu")).device == torch.device("cpu")
    with pytest.raises(DeviceError, match="cuda:1 is not available: this machine has"):
        Upscaler(tiny_model, device=torch.device("cuda:1" if torch.cuda.device_count() < 2 else "cuda:99"))


@pytest.mark.parametrize("scale", [3.5, 1.1, 0.5])
def test_any_factor_is_the_network_and_a_resize(up, tiny_model, scale):
    between = Upscaler(tiny_model, device="cpu", scale=scale)
    size = (round(scale * W), round(scale * H))
    assert (between.scale, between.network.scale) == (scale, S)
    for n_layers in (1, 3, 4):
        pixels = noise(H, W, n_layers)
        made = between(pixels)
        rows = up.rows(rows_of(Picture(pixels[..., :3]) if n_layers == 3 else as_picture(pixels)))
        expected = np.concatenate(list(resized(rows, width=size[0], height=size[1]).bands))
        np.testing.assert_array_equal(made, expected)
        np.testing.assert_array_equal(np.concatenate(list(between.stream([pixels]))), made)
    tensor = torch.from_numpy(noise(H, W, 3)).permute(2, 0, 1) / 255
    real = between(tensor)
    assert real.shape == (3, size[1], size[0])
    # The network's output is rounded in the one and not in the other.
    assert np.abs(real.permute(1, 2, 0).numpy() * 255 - between(noise(H, W, 3))).max() < 1.5


def as_picture(pixels):
    return Picture(pixels) if pixels.shape[2] == 1 else Picture(pixels[..., :-1], alpha=pixels[..., -1])


def test_a_factor_beyond_the_network_or_none_at_all_is_refused(tiny_model, tiny_network):
    with pytest.raises(CheckpointError, match=r"upscales up to x4, not x4\.5"):
        Upscaler(tiny_model, scale=4.5)
    with pytest.raises(CheckpointError, match=r"upscales by 4, not by 4\.5"):
        Upscaler(tiny_network, scale=4.5)
    with pytest.raises(CheckpointError, match="upscales by 4, not by 2"):
        Upscaler(tiny_network, scale=2)
    with pytest.raises(ValueError, match="scale must be positive"):
        Upscaler(tiny_model, scale=0)
