"""HEIC and JPEG XL, by Pillow's plug-ins where they are installed."""

import io
import struct
import sys

import numpy as np
import pytest
from PIL import Image

from enlca.errors import PictureError, TooManyPixels
from enlca.image.picture import read_image
from enlca.image.plugins import size_of_jxl

H, W = 26, 38


def smooth(n_layers):
    row, column, layer = np.indices((H, W, n_layers))
    return (40 + 4 * row + 2 * column + 10 * layer).astype(np.uint8)


def made(kind, layers, **settings):
    """A file of the kind, or skip the test."""
    if kind == "jxl":
        pytest.importorskip("pillow_jxl", reason="no JPEG XL: pip install 'enlca[formats]'")
        settings = {"lossless": True, **settings}
    else:
        heif = pytest.importorskip("pillow_heif", reason="no HEIC: pip install 'enlca[formats]'")
        heif.register_heif_opener()
        settings = {"quality": 100, "chroma": 444, **settings}
    image = Image.fromarray(layers.squeeze())
    image.save(out := io.BytesIO(), {"jxl": "JXL", "heic": "HEIF"}[kind], **settings)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["heic", "jxl"])
@pytest.mark.parametrize("n_layers", [1, 3, 4])
def test_pictures_are_read_with_their_metadata(kind, n_layers, tmp_path):
    exif = Image.Exif()
    exif[0x010F], exif[0x011A], exif[0x011B] = "Maker", 100.0, 50.0
    (tmp_path / f"x.{kind}").write_bytes(made(kind, smooth(n_layers), exif=exif.tobytes()))
    picture = read_image(tmp_path / f"x.{kind}")
    shown = np.repeat(smooth(1), 3, axis=2) if n_layers == 1 else smooth(n_layers)
    assert np.abs(picture.rgb.astype(int) - shown[..., :3]).max() <= (3 if kind == "heic" else 0)
    assert (picture.alpha is None) == (n_layers < 4)
    assert b"Maker" in (picture.exif or b"")
    assert picture.inches == pytest.approx((W / 100, H / 50))


@pytest.mark.parametrize("kind", ["heic", "jxl"])
def test_a_file_that_is_cut_short_is_damaged(kind):
    data = made(kind, smooth(3))
    for part in (0.3, 0.9):
        with pytest.raises(PictureError, match="damaged or cut short"):
            read_image(data[: int(part * len(data))])


@pytest.mark.parametrize("kind", ["heic", "jxl"])
def test_too_many_pixels_are_refused_by_the_header(kind):
    with pytest.raises(PictureError, match=f"the header says {W}x{H}, more than"):
        read_image(made(kind, smooth(3)), max_pixels=H * W - 1)


def test_more_than_8_bits_of_a_heic_are_kept_or_refused():
    heif = pytest.importorskip("pillow_heif", reason="no HEIC: pip install 'enlca[formats]'")
    deep = np.linspace(0, 65535, H * W * 3).astype(np.uint16).reshape(H, W, 3)
    file = heif.from_bytes("RGB;16", (W, H), deep.tobytes())
    file.save(out := io.BytesIO(), quality=-1, chroma=444)
    picture = read_image(out.getvalue(), max_bits=16)
    assert picture.bits == 16
    assert np.abs(picture.pixels.astype(int) - deep).max() < 3 * 65536 / 1024
    with pytest.raises(PictureError, match="bits per channel"):
        read_image(out.getvalue())


@pytest.mark.parametrize(
    ("kind", "module", "name"), [("heic", "pillow_heif", "HEIC"), ("jxl", "pillow_jxl", "JPEG XL")]
)
def test_without_the_plug_in_the_file_is_refused_and_the_extra_is_named(
    kind, module, name, tmp_path, monkeypatch
):
    head = {"heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "jxl": b"\xff\x0a" + bytes(30)}[kind]
    (tmp_path / f"x.{kind}").write_bytes(head)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(PictureError) as refusal:
        read_image(tmp_path / f"x.{kind}")
    line = f"{tmp_path}/x.{kind}: reading {name} needs {module}: pip install 'enlca[formats]'"
    assert str(refusal.value) == line


@pytest.mark.parametrize(
    ("height", "width"), [(8, 16), (13, 19), (64, 24), (90, 160), (300, 4000), (2000, 3)]
)
@pytest.mark.parametrize("container", [False, True])
def test_the_size_of_a_jpeg_xl_is_known_from_its_first_bytes(height, width, container):
    data = made("jxl", np.zeros((height, width, 3), np.uint8), use_container=container)
    assert size_of_jxl(data) == (width, height)
    assert size_of_jxl(b"") is None


def box(kind, content, *, length=None, wide=False):
    """A box of a container, whose length may be wrong, or be said in 64 bits."""
    length = len(content) + (16 if wide else 8) if length is None else length
    if wide:
        return struct.pack(">I4sQ", 1, kind, length) + content
    return struct.pack(">I4s", length, kind) + content


START = box(b"JXL ", b"\r\n\x87\n") + box(b"ftyp", b"jxl \0\0\0\0jxl ")
# Of 8 x 8 pixels.
DECOY = b"\xff\x0a\x41" + bytes(20)


def parts(stream, *cuts):
    """The boxes of a codestream in parts."""
    ends = [*cuts, len(stream)]
    spans = list(zip([0, *cuts], ends, strict=True))
    last = len(spans) - 1
    return b"".join(
        box(b"jxlp", struct.pack(">I", number | (number == last) << 31) + stream[start:end])
        for number, (start, end) in enumerate(spans)
    )


@pytest.mark.parametrize(
    "boxes",
    [
        lambda stream: box(b"jxlc", stream),
        lambda stream: box(b"jxlc", stream, wide=True),
        lambda stream: box(b"jxlc", stream, length=0),
        lambda stream: parts(stream, 30),
        lambda stream: parts(stream, 0, 1, 4, 9),
    ],
)
def test_the_size_is_that_of_the_codestream_whatever_other_boxes_hold(boxes):
    stream = made("jxl", smooth(3))
    assert stream.startswith(b"\xff\x0a")
    data = START + box(b"junk", DECOY) + box(b"free", b"", wide=True) + boxes(stream)
    assert size_of_jxl(data) == (W, H)
    np.testing.assert_array_equal(read_image(data).rgb, smooth(3))
    with pytest.raises(TooManyPixels, match=f"the header says {W}x{H}, more than"):
        read_image(data, max_pixels=H * W - 1)


@pytest.mark.parametrize(
    "boxes",
    [
        b"",
        box(b"junk", DECOY),
        box(b"junk", DECOY, length=7),
        box(b"junk", b"", length=15, wide=True),
        box(b"junk", DECOY, length=1 << 20) + box(b"jxlc", DECOY),
        box(b"junk", bytes(1 << 16)) + box(b"jxlc", DECOY),
        box(b"jxlc", b"\0" + DECOY),
        box(b"jxlc", DECOY[:8]),
        box(b"jxlp", b"\0\0", length=10),
    ],
)
def test_a_container_without_a_codestream_near_its_start_says_no_size(boxes):
    assert size_of_jxl((START + boxes)[: 1 << 16]) is None


def test_the_pixels_that_a_plug_in_decodes_are_counted_whatever_the_header_says(monkeypatch):
    data = made("jxl", smooth(3))
    monkeypatch.setattr("enlca.image.plugins.size_of_jxl", lambda data: (1, 1))
    with pytest.raises(TooManyPixels, match=f"the header says {W}x{H}, more than"):
        read_image(data, max_pixels=H * W - 1)
