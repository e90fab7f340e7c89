"""Rows are the picture: through the pipe into libvips, page by page, and with errors that are told."""

import io
import weakref

import numpy as np
import pytest
from PIL import Image

from enlca.errors import PictureError
from enlca.image.encoding import RowSource, png_stream
from enlca.image.files import open_image, write_rows
from enlca.image.picture import Picture, collect, read_image, rows_of
from enlca.image.rows import ROWS, PictureRows

H, W = 2 * ROWS + 3, 23


def noise(*shape, dtype="uint8"):
    return np.random.default_rng(sum(shape)).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def picture(layers, dtype="uint8"):
    pixels = noise(H, W, layers, dtype=dtype)
    return Picture(pixels[..., :-1], pixels[..., -1]) if layers in (2, 4) else Picture(pixels)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_the_stream_is_a_png_of_the_picture(layers, dtype):
    import pyvips

    data = b"".join(png_stream(rows_of(picture(layers, dtype))))
    expected = noise(H, W, layers, dtype=dtype)
    np.testing.assert_array_equal(
        RowSource(rows_of(picture(layers, dtype))).image.numpy().reshape(H, W, layers), expected
    )
    np.testing.assert_array_equal(
        pyvips.Image.new_from_buffer(data, "").numpy().reshape(H, W, layers), expected
    )
    if dtype == "uint8":
        np.testing.assert_array_equal(
            np.asarray(Image.open(io.BytesIO(data))).reshape(H, W, layers), expected
        )


def test_a_picture_comes_back_from_its_rows():
    for layers in (1, 2, 3, 4):
        again, first = collect(rows_of(picture(layers))), picture(layers)
        np.testing.assert_array_equal(again.pixels, first.pixels)
        assert (again.alpha is None) == (first.alpha is None)


def test_what_goes_wrong_in_the_rows_is_what_is_raised_and_no_file_is_left(tmp_path):
    def bands():
        yield noise(ROWS, W, 3)
        raise RuntimeError("the network is on fire")

    for suffix in (".png", ".jpg", ".webp", ".tif", ".ppm", ".gif"):
        rows = PictureRows(width=W, height=H, channels=3, bits=8, bands=bands())
        with pytest.raises(RuntimeError, match="on fire"):
            write_rows(tmp_path / f"x{suffix}", rows)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_rows_that_end_early_are_no_picture(tmp_path, suffix):
    rows = PictureRows(width=W, height=H, channels=3, bits=8, bands=[noise(ROWS, W, 3)])
    with pytest.raises(PictureError, match="cannot be encoded"):
        write_rows(tmp_path / f"x{suffix}", rows)
    assert list(tmp_path.iterdir()) == []


def test_rows_are_asked_for_only_as_they_are_written(tmp_path):
    """A picture of 300 MB, of which never more than a few bands exist."""
    alive, most = 0, 0

    def gone():
        nonlocal alive
        alive -= 1

    def bands():
        nonlocal alive, most
        for _ in range(50):
            band = np.zeros((64, 31_250, 3), np.uint8)
            weakref.finalize(band, gone)
            alive += 1
            most = max(most, alive)
            yield band
            del band

    rows = PictureRows(width=31_250, height=3200, channels=3, bits=8, bands=bands())
    write_rows(tmp_path / "x.ppm", rows)
    assert (tmp_path / "x.ppm").stat().st_size > 300_000_000
    assert most <= 3


def test_turning_a_large_picture_happens_on_the_disk_with_the_same_result(tmp_path, monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(H, W, 3)).save(tmp_path / "x.png", exif=exif)
    in_memory = read_image(tmp_path / "x.png").pixels
    monkeypatch.setattr("enlca.image.decoding.ROTATE_IN_MEMORY", 0)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png").pixels, in_memory)
    assert open_image(tmp_path / "x.png").size == (H, W)
