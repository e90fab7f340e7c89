"""Pictures from paths, bytes and file objects, and into them: the same code, the same result."""

import io
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from enlca.errors import PictureError
from enlca.image.encoding import WRITABLE
from enlca.image.files import open_image, write_rows
from enlca.image.picture import Picture, collect, read_image, rows_of, write_image
from enlca.image.source import Source

H, W = 67, 71


def noise(*shape):
    return np.random.default_rng(5).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("suffix", WRITABLE)
def test_path_bytes_and_file_objects_are_one_picture(tmp_path, suffix):
    file, made = tmp_path / f"x{suffix}", io.BytesIO()
    write_image(file, Picture(noise(H, W, 3)))
    write_rows(made, rows_of(Picture(noise(H, W, 3))), name=f"x{suffix}")
    assert made.getvalue() == file.read_bytes()
    made.seek(0)
    expected = read_image(file).pixels
    with file.open("rb") as opened:
        for source in (made.getvalue(), memoryview(made.getvalue()), made, opened, str(file)):
            np.testing.assert_array_equal(read_image(source).pixels, expected)


def test_a_file_object_is_read_from_its_position_and_stays_open(tmp_path):
    (tmp_path / "x.png").write_bytes(b"before")
    with (tmp_path / "x.png").open("ab") as file:
        write_rows(file, rows_of(Picture(noise(H, W, 1))), name="x.png")
    with (tmp_path / "x.png").open("rb") as file:
        file.seek(6)
        np.testing.assert_array_equal(read_image(file).pixels, noise(H, W, 1))
        assert not file.closed


def test_a_pipe_is_read_though_it_cannot_seek(tmp_path):
    whole = io.BytesIO()
    write_rows(whole, rows_of(Picture(noise(H, W, 3))), name="x.tif")
    given, taken = os.pipe()

    def fill():
        with os.fdopen(taken, "wb") as file:
            file.write(whole.getvalue())

    filling = threading.Thread(target=fill)
    filling.start()
    with os.fdopen(given, "rb") as file:
        np.testing.assert_array_equal(read_image(file).pixels, noise(H, W, 3))
    filling.join()


def test_exif_is_found_in_bytes(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(H, W, 3)).save(tmp_path / "x.png", exif=exif)
    assert collect(open_image((tmp_path / "x.png").read_bytes())).size == (H, W)


def test_messages_call_a_picture_by_the_name_that_is_given(tmp_path):
    for source, name in (
        (b"dear diary", None),
        (io.BytesIO(b""), "bucket/a.png"),
        (b"\x89PNG\r\n\x1a\n", "b"),
    ):
        with pytest.raises(PictureError) as caught:
            collect(open_image(source, name=name))
        assert str(caught.value).startswith(f"{name or 'picture'}: ")
    with pytest.raises(PictureError, match=r"^a/b\.xyz: cannot write \.xyz"):
        write_rows(io.BytesIO(), rows_of(Picture(noise(H, W, 3))), name="a/b.xyz")
    with pytest.raises(ValueError, match="suffix says the format"):
        write_rows(io.BytesIO(), rows_of(Picture(noise(H, W, 3))))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif", ".bmp", ".ppm"])
def test_bytes_that_cannot_be_read_are_one_line(suffix):
    whole = io.BytesIO()
    write_rows(whole, rows_of(Picture(noise(H, W, 3))), name=f"x{suffix}")

    class Failing(io.BytesIO):
        def read(self, size=-1, /):
            if size is None or size < 0 or self.tell() + size > 1000:
                raise OSError(5, "Input/output error")
            return super().read(size)

    with pytest.raises(PictureError, match=r"^picture: cannot be read: Input/output error$"):
        read_image(Failing(whole.getvalue()))


def test_an_interrupt_in_a_callback_is_not_lost():
    whole = io.BytesIO()
    write_rows(whole, rows_of(Picture(noise(H, W, 3))), name="x.jpg")

    class Interrupted(io.BytesIO):
        def read(self, size=-1, /):
            if self.tell() > 1000:
                raise KeyboardInterrupt
            return super().read(size)

    with pytest.raises(KeyboardInterrupt):
        read_image(Interrupted(whole.getvalue()))


def test_an_opened_file_is_closed_with_its_last_reader(tmp_path):
    write_image(tmp_path / "x.png", Picture(noise(H, W, 3)))
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    if before is None:
        pytest.skip("counts open files in /proc")
    rows = open_image(tmp_path / "x.png")
    assert len(os.listdir("/proc/self/fd")) > before
    collect(rows)
    del rows
    # libvips keeps its last operations; a source must not be among them.
    assert len(os.listdir("/proc/self/fd")) == before


def test_another_kind_of_object_is_named():
    with pytest.raises(Exception, match="int"):
        Source.of(7)  # pyright: ignore[reportArgumentType]


# A file that is cut while its rows are decoded.
CUT = """
import os, sys
from enlca.errors import PictureError
from enlca.image.files import open_image
rows = open_image(sys.argv[1])
bands = iter(rows.bands)
next(bands)
os.truncate(sys.argv[1], 2000)
try:
    for _ in bands:
        pass
except PictureError as error:
    print(error)
"""


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_file_that_becomes_shorter_while_it_is_read_is_a_damaged_picture(tmp_path, suffix):
    file = tmp_path / f"x{suffix}"
    write_image(file, Picture(noise(600, 900, 3)))
    done = subprocess.run(
        [sys.executable, "-c", CUT, str(file)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{file}: damaged or cut short")
