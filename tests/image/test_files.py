import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from enlca.image.encoding import WRITABLE
from enlca.image.files import find_pictures
from enlca.image.picture import Picture, read_image, write_image

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
