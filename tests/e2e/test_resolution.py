"""A scan keeps its printed size: 100 dpi become 400 in a picture of four times the size."""

import io

import numpy as np
import pytest
from odd import exif, pillow, smooth
from odd_cases import H, W
from PIL import Image

from enlca.image.files import open_image
from enlca.image.picture import read_image
from enlca.inference.upscaler import Upscaler

S, ACROSS, DOWN = 4, 100, 50


def tags(orientation=1, unit=2):
    """EXIF with both resolutions, by centimetre or inch."""
    about = Image.Exif()
    about.load(exif(orientation, W, H))
    per = 2.54 if unit == 3 else 1
    about[0x011A], about[0x011B], about[0x0128] = ACROSS / per, DOWN / per, unit
    return about.tobytes()


def scans():
    """The same scan in each format that holds a resolution, by its name."""
    pixels, dpi = smooth(H, W, 3), (ACROSS, DOWN)
    return {
        "png.png": pillow(pixels, format="PNG", dpi=dpi),
        "jfif.jpg": pillow(pixels, format="JPEG", dpi=dpi),
        "exif.jpg": pillow(pixels, format="JPEG", exif=tags()),
        "metric.jpg": pillow(pixels, format="JPEG", exif=tags(unit=3)),
        "tif.tif": pillow(pixels, format="TIFF", dpi=dpi),
        "webp.webp": pillow(pixels, format="WEBP", exif=tags()),
        "avif.avif": pillow(pixels, format="AVIF", exif=tags()),
        "bmp.bmp": pillow(pixels, format="BMP", dpi=dpi),
    }


def dpi_by_pillow(path):
    with Image.open(path) as image:
        tags, dpi = image.getexif(), image.info.get("dpi")
        if not tags:
            return dpi
        found = float(tags[0x011A]), float(tags[0x011B])
        assert tags[0x0128] == 2
        # WebP and AVIF hold it in EXIF alone, and Pillow takes one number of a JPEG's EXIF for both.
        assert dpi is None or path.suffix == ".jpg" or dpi == pytest.approx(found, rel=1e-3)
        return found


@pytest.mark.parametrize("format", ["png", "jpg", "tif", "webp", "avif", "bmp"])
def test_every_format_that_holds_a_resolution_gets_that_of_the_same_printed_size(
    command, tmp_path, monkeypatch, tiny_model, format
):
    monkeypatch.chdir(tmp_path)
    for name, data in scans().items():
        (tmp_path / name).write_bytes(data)
    done = command("upscale", *scans(), "--model", tiny_model, "-o", f"out/{{stem}}.{format}")
    assert (done.code, done.err) == (0, "")
    for name in scans():
        made = tmp_path / "out" / f"{name.split('.')[0]}.{format}"
        assert dpi_by_pillow(made) == pytest.approx((S * ACROSS, S * DOWN), rel=1e-3), name


def test_a_picture_that_says_no_resolution_has_none(tmp_path):
    for format in ("PNG", "JPEG", "TIFF", "WEBP"):
        (tmp_path / "x").write_bytes(pillow(smooth(H, W, 3), format=format))
        assert open_image(tmp_path / "x").dpi is None, format


def test_a_scan_on_its_side_has_its_resolutions_the_other_way_round(tmp_path):
    (tmp_path / "x.jpg").write_bytes(pillow(smooth(H, W, 3), format="JPEG", exif=tags(orientation=6)))
    assert open_image(tmp_path / "x.jpg").dpi == pytest.approx((DOWN, ACROSS))


def test_pictures_in_memory_keep_their_printed_size(tmp_path, tiny_model):
    up = Upscaler(tiny_model, device="cpu")
    (tmp_path / "x.png").write_bytes(scans()["png.png"])
    up(tmp_path / "x.png").save(tmp_path / "y.tif")
    assert dpi_by_pillow(tmp_path / "y.tif") == pytest.approx((S * ACROSS, S * DOWN), rel=1e-3)
    assert read_image(tmp_path / "y.tif").inches == pytest.approx((W / ACROSS, H / DOWN), rel=1e-3)
    with Image.open(io.BytesIO(scans()["png.png"])) as image:
        assert up(image).info["dpi"] == pytest.approx((S * ACROSS, S * DOWN), rel=1e-3)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".avif", ".gif"])
def test_files_of_upscaled_pictures_say_so_and_others_do_not(tmp_path, tiny_model, suffix):
    up = Upscaler(tiny_model, device="cpu")
    given = tmp_path / f"x{suffix}"
    Image.fromarray(np.full((H, W, 3), 80, np.uint8)).save(given)
    assert not open_image(given).upscaled
    up(given).save(tmp_path / f"y{suffix}")
    assert open_image(tmp_path / f"y{suffix}").upscaled
    with Image.open(tmp_path / f"y{suffix}") as image:
        assert image.convert("RGB").size == (S * W, S * H)
