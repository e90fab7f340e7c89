"""Odd files: every depth, mode and container, made here and read back."""

import io
import struct
import zlib

import numpy as np
import pytest
import pyvips
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from enlca.errors import PictureError
from enlca.image.files import check_target, open_image, write_rows
from enlca.image.metadata import update_exif, upright_xmp
from enlca.image.picture import Picture, collect_pages, read_image, rows_of, write_image
from enlca.image.rows import to_8_bits

H, W = 13, 17
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noise(*shape, dtype=np.uint8):
    return np.random.default_rng(5).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".ppm"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("with_alpha", [False, True])
def test_16_bits_come_back_exactly(tmp_path, suffix, channels, with_alpha):
    if suffix == ".ppm" and with_alpha:
        pytest.skip("PPM holds no alpha")
    alpha = noise(H, W, dtype=np.uint16) if with_alpha else None
    deep = Picture(noise(H, W, channels, dtype=np.uint16), alpha)
    assert write_image(tmp_path / f"x{suffix}", deep) == ()
    again = read_image(tmp_path / f"x{suffix}", max_bits=16)
    np.testing.assert_array_equal(again.pixels, deep.pixels)
    np.testing.assert_array_equal(again.alpha, alpha)
    with pytest.raises(PictureError, match="16 bits per channel"):
        read_image(tmp_path / f"x{suffix}")


def test_16_bits_become_8_by_rounding():
    values = np.arange(65536, dtype=np.uint16)
    np.testing.assert_array_equal(to_8_bits(values), np.rint(values / 257))


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif", ".bmp"])
def test_where_16_bits_do_not_fit_that_is_said(tmp_path, suffix):
    flat = Picture(np.full((H, W, 3), 40_000, np.uint16))
    remarks = write_image(tmp_path / f"x{suffix}", flat)
    assert any("16 bits were rounded" in remark for remark in remarks)
    assert np.abs(read_image(tmp_path / f"x{suffix}").pixels.astype(int) - round(40_000 / 257)).max() <= 2


@pytest.mark.parametrize("n_bits", [10, 12])
def test_the_white_of_a_deep_avif_is_white(tmp_path, n_bits):
    white = pyvips.Image.new_from_array(np.full((64, 64, 3), 65535, np.uint16)).copy(interpretation="rgb16")
    white.heifsave(str(tmp_path / "x.avif"), compression="av1", bitdepth=n_bits, lossless=True)
    assert read_image(tmp_path / "x.avif", max_bits=16).pixels.min() == 65535


@pytest.mark.parametrize("n_bits", [1, 2, 4])
def test_few_bits_of_grey_use_the_whole_range(tmp_path, n_bits):
    levels = np.arange(2**n_bits, dtype=np.uint8)[None, :, None] * np.uint8(255 // (2**n_bits - 1))
    pyvips.Image.new_from_array(levels).copy(interpretation="b-w").pngsave(
        str(tmp_path / "x.png"), bitdepth=n_bits
    )
    np.testing.assert_array_equal(read_image(tmp_path / "x.png").rgb[..., :1], levels)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"P1 # ink\n3 1\n1 0 1\n", [0, 255, 0]),
        (b"P4\n3 1\n\xa0", [0, 255, 0]),
        (b"P2\n# a comment\n3 1\n# another\n2\n0 1 2", [0, 128, 255]),
        (b"P5 3 1 100\n\x00\x32\x64", [0, 128, 255]),
        (b"P5 3 1 1023\n\x00\x00\x01\xff\x03\xff", [0, 32735, 65535]),
    ],
)
def test_netpbm_values_are_stretched_so_that_the_largest_is_white(tmp_path, text, expected):
    (tmp_path / "x.pgm").write_bytes(text)
    assert read_image(tmp_path / "x.pgm", max_bits=16).pixels.ravel().tolist() == expected


@pytest.mark.parametrize(
    "text",
    [b"P5 0 3 255\n", b"P5 3 3\n", b"P5 3 1 70000\n", b"P2 1 1 7 9", b"P2 2 1 9 4 x", b"P6 2 2 255\n123"],
)
def test_netpbm_files_that_contradict_themselves_are_refused(tmp_path, text):
    (tmp_path / "x.ppm").write_bytes(text)
    with pytest.raises(PictureError, match="damaged or cut short"):
        read_image(tmp_path / "x.ppm")


@pytest.mark.parametrize("n_values", [1, 4])
def test_cmyk_is_converted_and_that_is_said(tmp_path, n_values):
    Image.fromarray(noise(H, W, 4), "CMYK").save(tmp_path / f"x.{'jpg' if n_values == 1 else 'tif'}")
    [file] = tmp_path.iterdir()
    picture = read_image(file)
    assert any("CMYK converted to sRGB" in remark for remark in picture.remarks)
    assert picture.pixels.shape == (H, W, 3)


def exif_of(order, *, thumbnail=True):
    """Orientation 6, a maker, and the size of the picture in a directory of its own."""

    def entry(tag, kind, count, value):
        return struct.pack(order + ("HHIHxx" if kind == 3 else "HHII"), tag, kind, count, value)

    first = struct.pack(order + "H", 3) + entry(0x0112, 3, 1, 6) + entry(0x010F, 2, 6, 80)
    first += entry(0x8769, 4, 1, 50) + struct.pack(order + "I", 90 if thumbnail else 0)
    deeper = struct.pack(order + "H", 2) + entry(0xA002, 3, 1, W) + entry(0xA003, 3, 1, H) + bytes(4)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    return head + first + deeper + b"Maker\0" + b"maker's notes"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
def test_exif_says_upright_and_the_new_size_and_nothing_else_moves(order, prefix):
    old = exif_of(order)
    new = update_exif(prefix + old, width=70_000, height=3)
    assert new is not None
    tags = Image.Exif()
    tags.load(b"Exif\0\0" + new)
    assert (tags[0x0112], tags[0x010F]) == (1, "Maker")
    assert dict(tags.get_ifd(0x8769)) == {0xA002: 70_000, 0xA003: 3}
    assert len(new) == len(old)
    assert new.endswith(b"maker's notes")


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 100), at=st.integers(0, 99), value=st.integers(0, 255))
def test_damaged_exif_is_left_out_or_patched_but_never_a_crash(cut, at, value):
    damaged = bytearray(exif_of("<"))
    damaged[at % len(damaged)] = value
    new = update_exif(bytes(damaged[:cut]), width=5, height=7)
    assert new is None or len(new) == len(damaged[:cut])


def test_the_orientation_in_xmp_is_reset_too():
    assert upright_xmp(b'<a tiff:Orientation="6"/>') == b'<a tiff:Orientation="1"/>'
    assert upright_xmp(b"<tiff:Orientation>8</tiff:Orientation>") == b"<tiff:Orientation>1</tiff:Orientation>"


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".avif", ".tif", ".bmp", ".ppm"])
def test_exif_and_xmp_are_kept_or_a_remark_says_that_they_are_lost(tmp_path, suffix):
    # As after a resize that left EXIF alone: writing sets the size.
    exif = update_exif(exif_of("<", thumbnail=False), width=1, height=1)
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"></x:xmpmeta>'
    remarks = write_image(tmp_path / f"x{suffix}", Picture(noise(H, W, 3), exif=exif, xmp=xmp))
    again = read_image(tmp_path / f"x{suffix}")
    remark = " ".join(remarks)
    assert (again.xmp == xmp) != ("XMP" in remark)
    assert (again.exif is not None) != ("EXIF" in remark)
    if again.exif:
        with Image.open(tmp_path / f"x{suffix}") as stored:
            tags = stored.getexif()
            assert tags[0x010F] == "Maker"
            assert tags.get_ifd(0x8769)[0xA002] == W


def bomb(side):
    """A PNG whose header promises side x side pixels."""
    out = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    for name, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")):
        out += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return out


def test_more_pixels_than_allowed_are_refused_by_the_header(tmp_path):
    (tmp_path / "x.png").write_bytes(bomb(60_000))
    with pytest.raises(PictureError, match=r"60000x60000, more than 1073741824 pixels.*max_pixels"):
        read_image(tmp_path / "x.png")
    (tmp_path / "x.ppm").write_bytes(b"P6 60000 60000 255\n")
    with pytest.raises(PictureError, match="more than 1073741824 pixels"):
        read_image(tmp_path / "x.ppm")
    for suffix in (".png", ".jpg", ".webp", ".tif", ".avif", ".bmp", ".ppm"):
        write_image(tmp_path / f"y{suffix}", Picture(noise(H, W, 3)))
        read_image(tmp_path / f"y{suffix}", max_pixels=H * W)
        with pytest.raises(PictureError, match=f"more than {H * W - 1} pixels"):
            read_image(tmp_path / f"y{suffix}", max_pixels=H * W - 1)


def frames_of(n_frames, *, dtype=np.uint8, channels=3):
    pixels = np.full((n_frames, H, W, channels), 10, dtype)
    for number in range(n_frames):
        pixels[number, number:] = 200
    return tuple(Picture(frame) for frame in pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_all_pages_of_a_tiff_come_back(tmp_path, dtype):
    pages = frames_of(3, dtype=dtype)
    write_rows(tmp_path / "x.tif", rows_of(*pages))
    again = collect_pages(open_image(tmp_path / "x.tif", max_bits=16, frames="all"))
    for page, other in zip(pages, again, strict=True):
        np.testing.assert_array_equal(page.pixels, other.pixels)
    with pytest.raises(PictureError, match=f"more than {H * W} pixels|more than 0 pixels"):
        open_image(tmp_path / "x.tif", max_bits=16, frames="all", max_pixels=H * W)


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_an_animation_keeps_its_frames_delays_and_loop(tmp_path, suffix):
    frames = frames_of(3)
    write_rows(tmp_path / f"x{suffix}", rows_of(*frames, delays=(40, 80, 120), loop=2))
    again = open_image(tmp_path / f"x{suffix}", frames="all")
    assert (again.delays, again.loop) == ((40, 80, 120), 2)
    for frame, other in zip(frames, collect_pages(again), strict=True):
        assert np.abs(frame.pixels.astype(int) - other.rgb).mean() < 6
    [remark] = read_image(tmp_path / f"x{suffix}").remarks
    assert remark == "only the first of 3 frames"


def test_what_a_file_cannot_hold_is_refused_before_the_work(tmp_path):
    two = {"opaque": True, "pages": 2}
    assert check_target(tmp_path / "x.tif", W, H, **two).name == "TIFF"
    with pytest.raises(PictureError, match=r"PNG holds one picture, not 2; choose from \.webp \.tif"):
        check_target(tmp_path / "x.png", W, H, **two)
    with pytest.raises(PictureError, match=r"WebP holds at most 16383 .* 20000x4"):
        check_target(tmp_path / "x.webp", 20_000, 4, opaque=True)
    with pytest.raises(PictureError, match="cannot hold transparency"):
        check_target(tmp_path / "x.jpg", W, H, opaque=False)
    with pytest.raises(ValueError, match="frames must be one of first, all"):
        open_image(tmp_path / "x.tif", frames="some")


def test_pages_of_different_sizes_are_refused_in_one_file(tmp_path):
    pages = (Picture(noise(H, W, 3)), Picture(noise(H, H, 3)))
    with pytest.raises(ValueError, match="one size and kind"):
        rows_of(*pages)
    images = [Image.fromarray(page.pixels) for page in pages]
    images[0].save(tmp_path / "x.tif", save_all=True, append_images=images[1:])
    with pytest.raises(PictureError, match="differ in size"):
        open_image(tmp_path / "x.tif", frames="all")


@pytest.fixture(scope="module")
def originals():
    """A small file of each format."""
    image = Image.fromarray(noise(H, W, 3))
    files = {}
    for name in ("PNG", "JPEG", "WEBP", "TIFF", "AVIF", "BMP", "PPM", "GIF"):
        out = io.BytesIO()
        image.save(out, format=name)
        files[name] = out.getvalue()
    return files


def fuzz(folder, originals, name, changes, cut):
    """Read a file with some bytes changed and its end missing: a picture or one line."""
    data = bytearray(originals[name])
    for at, value in changes:
        data[at % len(data)] = value
    file = folder / "x.bin"
    file.write_bytes(data[: max(0, len(data) - cut)])
    for frames in ("first", "all"):
        line = ""
        try:
            collect_pages(open_image(file, max_bits=16, max_pixels=1 << 20, frames=frames))
        except PictureError as error:
            line = str(error)
        assert not line or str(file) in line
        assert "\n" not in line


CHANGES = st.lists(st.tuples(st.integers(0, 1 << 12) | st.integers(0, 64), st.integers(0, 255)), max_size=5)
CUT = st.just(0) | st.integers(0, 500)
QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF", "BMP", "PPM", "GIF"])
@settings(max_examples=10, **QUIET)
@given(changes=CHANGES, cut=CUT)
def test_a_damaged_file_is_a_picture_or_one_line(tmp_path, originals, name, changes, cut):
    fuzz(tmp_path, originals, name, changes, cut)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF", "BMP", "PPM", "GIF"])
@settings(max_examples=2000, **QUIET)
@given(changes=CHANGES, cut=CUT)
def test_many_damaged_files_are_pictures_or_one_line(tmp_path, originals, name, changes, cut):
    fuzz(tmp_path, originals, name, changes, cut)
