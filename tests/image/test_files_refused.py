import errno
import os
import subprocess
import sys

import numpy as np
import pytest
import pyvips
from PIL import Image

from enlca.errors import PictureError
from enlca.image import files
from enlca.image.files import SUFFIXES, find_pictures, open_image
from enlca.image.folders import PLUGIN_SUFFIXES
from enlca.image.picture import Picture, read_image, write_image

H, W = 13, 17
EXACT = (".png", ".tif", ".tiff", ".bmp", ".ppm")
LOSSY = (".jpg", ".jpeg", ".webp", ".avif")


def noise(*shape):
    return np.random.default_rng(5).integers(0, 256, shape, dtype=np.uint8)


def smooth(height, width, channels):
    """A picture that lossy formats keep nearly as it is."""
    row, column, channel = np.indices((height, width, channels))
    return (60 + 4 * row + 3 * column + 20 * channel).clip(0, 255).astype(np.uint8)


def refusal(call, *arguments):
    """The one line that a user would read."""
    with pytest.raises(PictureError) as caught:
        call(*arguments)
    line = str(caught.value)
    assert "\n" not in line
    assert str(arguments[0]) in line
    return line


def test_what_is_not_a_picture_file_is_refused_in_one_line(tmp_path):
    assert "no such file" in refusal(read_image, tmp_path / "missing.png")
    assert "folder" in refusal(read_image, tmp_path)
    (tmp_path / "empty.png").touch()
    assert "0 bytes" in refusal(read_image, tmp_path / "empty.png")
    (tmp_path / "text.png").write_text("dear diary")
    assert "png, jpeg, webp" in refusal(read_image, tmp_path / "text.png")
    Image.fromarray(noise(H, W, 3)).save(tmp_path / "x.jp2")
    assert "not a picture in a format that is read here" in refusal(read_image, tmp_path / "x.jp2")


@pytest.mark.parametrize("part", [0.3, 0.6, 0.97])
@pytest.mark.parametrize("suffix", [*EXACT, *LOSSY])
def test_half_a_picture_is_no_picture(tmp_path, suffix, part):
    file = tmp_path / f"x{suffix}"
    write_image(file, Picture(noise(67, 71, 3)))
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * part)])
    assert "damaged or cut short" in refusal(read_image, file)


@pytest.mark.parametrize("suffix", [suffix for suffix in SUFFIXES if suffix not in PLUGIN_SUFFIXES])
def test_a_signature_alone_is_no_picture(tmp_path, suffix):
    file = tmp_path / f"x{suffix}"
    Image.fromarray(smooth(H, W, 3)).save(file)
    file.write_bytes(file.read_bytes()[:40])
    refusal(read_image, file)


@pytest.mark.parametrize("name", ["rgb.png", "grey.png", "rgb.tif", "grey.tif"])
def test_16_bits_are_refused_not_cut(tmp_path, name):
    kind, _ = name.split(".")
    deep = pyvips.Image.new_from_array(np.full((H, W, 3 if kind == "rgb" else 1), 40_000, dtype=np.uint16))
    deep.copy(interpretation=f"{kind}16").write_to_file(str(tmp_path / name))
    assert "16 bits per channel" in refusal(read_image, tmp_path / name)


@pytest.mark.parametrize("kind", ["P5", "P6", "P2", "P3"])
def test_16_bits_in_a_netpbm_file_are_refused_not_cut(tmp_path, kind):
    n_values = 4 * (3 if kind in ("P6", "P3") else 1)
    values = b"40000 " * n_values if kind in ("P2", "P3") else b"\x9c\x40" * n_values
    (tmp_path / "x.ppm").write_bytes(f"{kind}\n2 2\n65535\n".encode() + values)
    assert "16 bits per channel" in refusal(read_image, tmp_path / "x.ppm")


def test_float_pictures_are_refused(tmp_path):
    pyvips.Image.new_from_array(np.zeros((H, W, 3), np.float32)).write_to_file(str(tmp_path / "x.tif"))
    assert "only 8 bits per channel" in refusal(read_image, tmp_path / "x.tif")
    with pytest.raises(PictureError, match="holds float values; only integers of 8 or 16 bits per channel"):
        open_image(tmp_path / "x.tif", max_bits=16)


def test_a_jpeg_of_12_bits_is_not_called_damaged(tmp_path):
    Image.fromarray(noise(H, W, 3)).save(tmp_path / "x.jpg")
    data = bytearray((tmp_path / "x.jpg").read_bytes())
    # The precision is the first byte of the frame's header, after its length.
    data[data.index(b"\xff\xc0") + 4] = 12
    (tmp_path / "x.jpg").write_bytes(data)
    message = refusal(read_image, tmp_path / "x.jpg")
    assert "holds 12 bits per channel in a JPEG; only 8 bits per channel are handled" in message


def test_where_nothing_can_be_written_the_reason_is_said(tmp_path):
    picture = Picture(noise(H, W, 3), alpha=noise(H, W))
    assert ".png .jpg" in refusal(write_image, tmp_path / "x.xyz", picture)
    assert "suffix" in refusal(write_image, tmp_path / "x", picture)
    assert "does not exist" in refusal(write_image, tmp_path / "no" / "x.png", picture)
    assert "PNG".lower() in refusal(write_image, tmp_path / "x.jpg", picture)
    (tmp_path / "folder.png").mkdir()
    assert "is a folder" in refusal(write_image, tmp_path / "folder.png", picture)
    strip = Picture(np.zeros((1, 16384, 3), np.uint8))
    assert "WebP holds at most 16383" in refusal(write_image, tmp_path / "x.webp", strip)
    strip = Picture(np.zeros((65536, 1, 1), np.uint8))
    assert "JPEG holds at most 65535" in refusal(write_image, tmp_path / "x.jpg", strip)
    assert [file.name for file in tmp_path.iterdir()] == ["folder.png"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_named(tmp_path):
    tmp_path.chmod(0o500)
    assert "ermission" in refusal(write_image, tmp_path / "x.png", Picture(noise(H, W, 3)))


@pytest.mark.parametrize("moment", ["fsync", "replace"])
@pytest.mark.parametrize("before", [None, b"what was there"])
def test_a_failing_write_leaves_everything_as_it_was(tmp_path, monkeypatch, moment, before):
    file = tmp_path / "x.png"
    if before:
        file.write_bytes(before)

    def disk_full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, moment, disk_full)
    assert "No space left" in refusal(write_image, file, Picture(noise(H, W, 3)))
    monkeypatch.setattr(files.os, moment, interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_image(file, Picture(noise(H, W, 3)))
    assert list(tmp_path.iterdir()) == ([file] if before else [])
    assert not before or file.read_bytes() == before


def test_a_folder_without_pictures_is_refused(tmp_path):
    assert ".png .jpg" in refusal(find_pictures, tmp_path)
    assert "no such folder" in refusal(find_pictures, tmp_path / "missing")
    (tmp_path / "x.png").touch()
    assert "not a folder" in refusal(find_pictures, tmp_path / "x.png")


def test_shapes_that_are_no_picture_are_refused():
    for shape in [(H, W, 2), (H, W, 4), (0, W, 3)]:
        with pytest.raises(ValueError, match="pixels must have the shape"):
            Picture(np.zeros(shape, np.uint8))


def test_nothing_but_the_reason_reaches_the_user_and_nothing_heavy_is_loaded_early(tmp_path):
    file = tmp_path / "x.tif"
    write_image(file, Picture(noise(67, 71, 3)))
    file.write_bytes(file.read_bytes()[:5000])
    script = f"""
import sys
from enlca.errors import PictureError
from enlca.image.picture import read_image
assert not {{"pyvips", "PIL", "torch"}} & sys.modules.keys(), "loaded too early"
try:
    read_image({str(file)!r})
except PictureError:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("refused\n", "")
