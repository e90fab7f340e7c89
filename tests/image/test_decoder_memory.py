"""What decoders hold of a picture is counted by its header, and what follows a picture is not read."""

import io
import struct

import numpy as np
import pytest
import pyvips
from PIL import Image

from enlca.errors import PictureError, TooLarge
from enlca.image.files import open_image
from enlca.image.rows import stack_bands
from enlca.inference.pixel_source import materialize

H, W = 601, 607
PIXELS = H * W


def encoded(suffix: str, **settings) -> bytes:
    colours = np.random.default_rng(3).integers(0, 256, (H, W, 3), dtype=np.uint8)
    return (
        pyvips.Image.new_from_array(colours).copy(interpretation="srgb").write_to_buffer(suffix, **settings)
    )


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_row_by_row_decoders_hold_no_picture(suffix):
    assert open_image(encoded(suffix)).decoder_bytes == 0


@pytest.mark.parametrize(
    ("suffix", "settings", "least"),
    [
        (".png", {"interlace": True}, 3),
        (".jpg", {"interlace": True}, 3),
        (".jpg", {"interlace": True, "Q": 95}, 6),
        (".webp", {"effort": 0}, 8),
        (".avif", {"effort": 0}, 16),
        (".gif", {"effort": 1}, 6),
    ],
)
def test_decoders_of_a_whole_picture_are_counted_and_refused_beyond_the_limit(suffix, settings, least):
    data = encoded(suffix, **settings)
    rows = open_image(data)
    assert least * PIXELS <= rows.decoder_bytes <= 2 * least * PIXELS + len(data)
    with pytest.raises(TooLarge, match=f"decode its {W}x{H} pixels"):
        materialize(rows, max_memory=1)
    assert materialize(open_image(data), max_memory=1 << 40).decoder_bytes == 0


def test_a_webp_with_absurdly_many_pixels_for_its_bytes_is_refused():
    whole = io.BytesIO()
    Image.new("RGB", (8, 8)).save(whole, "WEBP", lossless=True)
    data = bytearray(whole.getvalue())
    at = data.index(b"VP8L") + 9
    data[at : at + 4] = struct.pack("<L", 16382 | 16382 << 14)
    with pytest.raises(PictureError, match="16383x16383 pixels in"):
        open_image(bytes(data))


class Counting(io.BytesIO):
    """A file that adds up the bytes that are read from it."""

    taken = 0

    def read(self, size=-1):
        part = super().read(size)
        self.taken += len(part)
        return part


@pytest.mark.parametrize(
    "picture",
    [b"P4\n1 1\n\x80", b"P5\n1 1\n255\n7", b"P6\n1 1\n65535\n123456", b"P3\n1 1\n255\n1 2 3 ", b"P1 1 1 1"],
)
def test_what_follows_a_netpbm_picture_is_not_read(picture):
    file = Counting(picture + bytes(9_000_000))
    rows = open_image(file, max_bits=16)
    assert sum(band.shape[0] for band in rows.bands) == 1
    assert file.taken < 2_000_000


def test_what_follows_a_bmp_is_not_read():
    whole = io.BytesIO()
    Image.new("RGB", (3, 2)).save(whole, "BMP")
    file = Counting(whole.getvalue() + bytes(9_000_000))
    assert next(iter(open_image(file).bands)).shape == (2, 3, 3)
    assert file.taken < 2_000_000


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_a_netpbm_text_reads_alike_however_it_is_cut(kind, monkeypatch):
    channels, peak = (3 if kind == 3 else 1), (1 if kind == 1 else 300)
    values = np.random.default_rng(2).integers(0, peak + 1, (7, 11, channels))
    words = "".join(
        f"{value}{gap}"
        for value, gap in zip(values.ravel(), (" ", "\n", " # 1 2\n", "\t ") * 99, strict=False)
    )
    data = f"P{kind} 11 7{f' {peak}' if kind > 1 else ''}\n# 5 x\n{words}".encode()
    whole = stack_bands(open_image(data, max_bits=16).bands, (7, 11, channels), np.dtype(np.uint16))
    for size in (1, 2, 3, 5, 19):
        monkeypatch.setattr("enlca.image.netpbm.TEXT_BYTES", size)
        rows = open_image(data, max_bits=16)
        np.testing.assert_array_equal(stack_bands(rows.bands, whole.shape, whole.dtype), whole)
    scaled = 255 * (1 - values) if kind == 1 else np.floor(values * 65535 / 300 + 0.5)
    np.testing.assert_array_equal(whole, scaled)
