"""`enlca upscale` where `--precision auto` is bfloat16, as with AMX; all other tests have float32."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from enlca.image.picture import Picture, read_image, write_image
from enlca.metrics import psnr

PHOTO = Path(__file__).parents[2] / "docs" / "images" / "astronaut_crop.png"


@pytest.fixture
def amx(monkeypatch):
    """A processor that says it has AMX; PyTorch computes bfloat16 on any."""
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)


@pytest.fixture
def photo(tmp_path) -> Path:
    """Part of a photo, 61 x 53."""
    path = tmp_path / "photo.png"
    Image.open(PHOTO).convert("RGB").crop((40, 20, 101, 73)).save(path)
    return path


@pytest.mark.parametrize("mode", ["whole", "stream"])
def test_a_photo_is_upscaled_in_bfloat16_and_close_to_float32(amx, command, photo, tmp_path, mode):
    made = {}
    for precision in ("auto", "bf16", "fp32"):
        out = tmp_path / f"{precision}.png"
        done = command("upscale", photo, "-o", out, "--precision", precision, "--mode", mode)
        assert (done.code, done.err) == (0, "")
        made[precision] = read_image(out).pixels
    assert made["auto"].shape == (4 * 53, 4 * 61, 3)
    np.testing.assert_array_equal(made["auto"], made["bf16"])
    assert (made["auto"] != made["fp32"]).any()
    assert psnr(made["auto"], made["fp32"], shave=0) > 50


def test_sixteen_bits_are_computed_in_float32_all_the_same(amx, command, photo, tmp_path):
    write_image(tmp_path / "deep.png", Picture(read_image(photo).pixels.astype(np.uint16) * 257))
    for precision in ("auto", "fp32"):
        done = command(
            "upscale", tmp_path / "deep.png", "-o", tmp_path / f"{precision}.png", "--precision", precision
        )
        assert done.code == 0
    auto, full = (read_image(tmp_path / f"{name}.png", max_bits=16) for name in ("auto", "fp32"))
    assert auto.bits == 16
    np.testing.assert_array_equal(auto.pixels, full.pixels)
