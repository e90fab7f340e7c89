import errno
import io
import os
import resource
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from enlca.errors import DamagedPicture, PictureError, StoreError
from enlca.image.encoding import WRITABLE
from enlca.image.files import find_pictures, open_image, write_rows
from enlca.image.picture import Picture, collect, read_image, rows_of, write_image

H, W = 13, 17
EXACT = (".png", ".tif", ".tiff", ".bmp", ".ppm")
LOSSY = (".jpg", ".jpeg", ".webp", ".avif")
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noise(*shape):
    return np.random.default_rng(5).integers(0, 256, shape, dtype=np.uint8)


def smooth(height, width, channels):
    """A picture that lossy formats keep nearly as it is."""
    row, column, channel = np.indices((height, width, channels))
    return (60 + 4 * row + 3 * column + 20 * channel).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("suffix", EXACT)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    height=st.integers(1, 19),
    width=st.integers(1, 19),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 99),
)
def test_lossless_formats_give_back_every_pixel(tmp_path, suffix, height, width, channels, seed):
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (height, width, channels), dtype=np.uint8)
    alpha = generator.integers(0, 256, (height, width), dtype=np.uint8) if seed % 2 else None
    if not WRITABLE[suffix].holds_alpha:
        alpha = None
    write_image(tmp_path / f"x{suffix}", Picture(pixels, alpha))
    again = read_image(tmp_path / f"x{suffix}")
    np.testing.assert_array_equal(again.pixels, pixels)
    np.testing.assert_array_equal(again.alpha, alpha)


@pytest.mark.parametrize("suffix", LOSSY)
@pytest.mark.parametrize("channels", [1, 3])
def test_lossy_formats_stay_close(tmp_path, suffix, channels):
    pixels = smooth(H, W, channels)
    write_image(tmp_path / f"x{suffix}", Picture(pixels))
    again = read_image(tmp_path / f"x{suffix}")
    # WebP has no grey: it comes back as RGB.
    assert np.abs(again.rgb.astype(int) - Picture(pixels).rgb.astype(int)).mean() < 3
    assert again.alpha is None


@pytest.mark.parametrize("suffix", [".webp", ".avif"])
def test_lossy_formats_with_alpha_carry_it(tmp_path, suffix):
    alpha = smooth(H, W, 1)[:, :, 0]
    write_image(tmp_path / f"x{suffix}", Picture(smooth(H, W, 3), alpha))
    again = read_image(tmp_path / f"x{suffix}").alpha
    assert np.abs(again.astype(int) - alpha.astype(int)).mean() < 3


def test_quality_changes_the_size(tmp_path):
    for suffix in LOSSY:
        sizes = []
        for quality in (20, 95):
            write_image(tmp_path / f"x{suffix}", Picture(noise(64, 64, 3)), quality=quality)
            sizes.append((tmp_path / f"x{suffix}").stat().st_size)
        assert sizes[0] < 0.8 * sizes[1]
    with pytest.raises(ValueError, match="1 to 100"):
        write_image(tmp_path / "x.jpg", Picture(noise(H, W, 3)), quality=0)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".avif"])
def test_the_colour_profile_travels(tmp_path, suffix):
    write_image(tmp_path / f"x{suffix}", Picture(smooth(H, W, 3), icc=SRGB))
    assert read_image(tmp_path / f"x{suffix}").icc == SRGB


def test_a_profile_that_does_not_fit_the_channels_is_left_out(tmp_path):
    write_image(tmp_path / "x.png", Picture(smooth(H, W, 1), icc=SRGB))
    assert read_image(tmp_path / "x.png").icc is None


def test_rgb_repeats_grey():
    grey = Picture(noise(H, W, 1))
    np.testing.assert_array_equal(grey.rgb, np.concatenate([grey.pixels] * 3, axis=2))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_every_mode_is_read_as_pillow_reads_it(tmp_path, mode, suffix):
    if suffix == ".bmp" and "A" in mode:
        pytest.skip("Pillow writes no alpha to BMP")
    colour = Image.fromarray(noise(H, W, 4), "RGBA")
    image = colour.convert("RGB").convert(mode) if mode in ("1", "P") else colour.convert(mode)
    image.save(tmp_path / f"x{suffix}")
    ours = read_image(tmp_path / f"x{suffix}")
    np.testing.assert_array_equal(ours.rgb, np.array(image.convert("RGB")))
    assert ours.pixels.shape[2] == (1 if mode in ("1", "L", "LA") else 3)
    if "A" in mode:
        np.testing.assert_array_equal(ours.alpha, np.array(image)[:, :, -1])
    else:
        assert ours.alpha is None


def test_a_palette_with_a_transparent_colour_becomes_rgb_with_alpha(tmp_path):
    image = Image.fromarray(noise(H, W, 3)).quantize(8)
    image.save(tmp_path / "x.png", transparency=3)
    ours = read_image(tmp_path / "x.png")
    np.testing.assert_array_equal(ours.alpha == 0, np.array(image) == 3)
    assert ours.pixels.shape == (H, W, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_upright(tmp_path, orientation):
    from PIL import ImageOps

    image = Image.fromarray(smooth(H, W, 3))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "x.png", exif=exif)
    with Image.open(tmp_path / "x.png") as stored:
        upright = np.array(ImageOps.exif_transpose(stored))
    np.testing.assert_array_equal(read_image(tmp_path / "x.png").pixels, upright)


def test_cmyk_becomes_srgb(tmp_path):
    inks = np.zeros((H, W, 4), dtype=np.uint8)
    inks[:, : W // 2, 1:3] = 255
    Image.fromarray(inks, "CMYK").save(tmp_path / "x.jpg", quality=100)
    pixels = read_image(tmp_path / "x.jpg").pixels
    red, white = pixels[H // 2, 1].astype(int), pixels[H // 2, -2].astype(int)
    assert white.min() > 240
    assert red[0] > red[1:].max() + 100


def test_names_are_taken_literally(tmp_path):
    for name in ("photo[1].png", "50%, a b.png", "größe.png"):
        write_image(tmp_path / name, Picture(noise(H, W, 3)))
        np.testing.assert_array_equal(read_image(tmp_path / name).pixels, noise(H, W, 3))


def test_content_decides_not_the_suffix(tmp_path):
    Image.fromarray(smooth(H, W, 3)).save(tmp_path / "x.png", format="JPEG")
    assert read_image(tmp_path / "x.png").pixels.shape == (H, W, 3)


def test_alpha_that_hides_nothing_may_be_left_out(tmp_path):
    write_image(tmp_path / "x.jpg", Picture(smooth(H, W, 3), alpha=np.full((H, W), 255, np.uint8)))
    assert read_image(tmp_path / "x.jpg").alpha is None


def test_folders_are_listed_in_natural_order_without_hidden_files(tmp_path):
    for name in ("img_10.png", "img_2.PNG", "b/1.jpg", "a.txt", ".hidden.png", ".cache/1.png", "x.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [str(f.relative_to(tmp_path)) for f in find_pictures(tmp_path)] == [
        "img_2.PNG",
        "img_10.png",
        "x.webp",
    ]
    assert find_pictures(tmp_path, recursive=True)[0] == tmp_path / "b" / "1.jpg"


def test_reading_and_writing_emit_no_warnings(tmp_path, recwarn):
    warnings.simplefilter("always")
    for suffix in WRITABLE:
        write_image(tmp_path / f"x{suffix}", Picture(smooth(H, W, 3)))
        read_image(tmp_path / f"x{suffix}")
    assert not list(recwarn)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_a_turned_picture_is_damaged_and_salvaged_as_one_that_stands_upright(kind):
    exif = Image.Exif()
    for orientation in (1, 6):
        exif[0x0112] = orientation
        Image.fromarray(noise(200, 120, 3)).save(file := io.BytesIO(), kind, exif=exif)
        cut = file.getvalue()[: len(file.getvalue()) // 2] if kind != "TIFF" else file.getvalue()
        rows = open_image(cut)
        assert rows.size == ((120, 200) if orientation == 1 else (200, 120))
        if kind != "TIFF":
            with pytest.raises(DamagedPicture):
                collect(rows)
        made = collect(open_image(cut, salvage=True)).pixels
        whole = read_image(file.getvalue()).pixels
        first = (slice(0, 8), slice(None)) if orientation == 1 else (slice(None), slice(-8, None))
        np.testing.assert_array_equal(made[first], whole[first])


def test_where_there_is_no_room_to_turn_a_picture_it_is_not_called_damaged(monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(300, 200, 3)).save(file := io.BytesIO(), "PNG", exif=exif)
    monkeypatch.setattr("enlca.image.decoding.ROTATE_IN_MEMORY", 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    rows = open_image(file.getvalue())
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(StoreError, match=os.strerror(errno.EFBIG)):
            collect(rows)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("suffix", [".bmp", ".jpg", ".png", ".tif"])
def test_a_resolution_beyond_any_print_is_no_resolution(tmp_path, suffix):
    Image.fromarray(noise(5, 7, 3)).save(file := io.BytesIO(), "PNG", dpi=(1e8, 1e8))
    rows = open_image(file.getvalue())
    assert rows.dpi is None
    write_rows(tmp_path / f"x{suffix}", rows)


def test_what_a_format_leaves_out_is_said(tmp_path):
    rows = rows_of(Picture(noise(5, 7, 3)))
    large = replace(rows, xmp=b"<x>" + b" " * 60_000)
    assert write_rows(tmp_path / "x.jpg", large) == ("JPEG cannot hold XMP data here: left out",)
    assert open_image(tmp_path / "x.jpg").xmp is None
    half = rows_of(Picture(noise(5, 7, 3), np.full((5, 7), 128, np.uint8)))
    assert "opaque or transparent" in " ".join(write_rows(tmp_path / "x.gif", half))


def test_a_pipe_is_not_replaced_by_a_picture(tmp_path):
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(PictureError, match="a pipe or a device"):
        write_rows(tmp_path / "x.png", rows_of(Picture(noise(5, 7, 3))))
    assert not (tmp_path / "x.png").is_file()
