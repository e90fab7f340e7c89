"""A folder of 40 mixed files and one command: every file is done or named, exactly once."""

import io
import json
import sys
from collections import Counter

import numpy as np
import pytest
from odd import bmp, exif, pillow, png, pnm, profile, smooth, vips
from odd_cases import H, W
from PIL import Image

from enlca.image.files import open_image

S = 4
RGB = smooth(H, W, 3)


def animated(format, **settings):
    frames = [Image.fromarray(np.roll(RGB, 3 * number, axis=0)) for number in range(3)]
    frames[0].save(
        out := io.BytesIO(), format, save_all=True, append_images=frames[1:], duration=80, **settings
    )
    return out.getvalue()


def pages():
    first = Image.fromarray(RGB)
    first.save(out := io.BytesIO(), "TIFF", save_all=True, append_images=[first, first])
    return out.getvalue()


def cmyk():
    inks = np.stack([*np.moveaxis(RGB, 2, 0), np.full((H, W), 20, np.uint8)], axis=2)
    return pillow(inks, mode="CMYK", format="JPEG", icc_profile=profile("cmyk"))


def deep_scan():
    scan = vips(smooth(H, W, 3, bits=16)).copy(xres=300 / 25.4, yres=300 / 25.4)
    return scan.tiffsave_buffer(resunit="inch")


def of_plugin(module, format):
    """A file by one of Pillow's plug-ins; its first bytes where that is not installed."""
    try:
        __import__(module)
        if module == "pillow_heif":
            sys.modules[module].register_heif_opener()
        return pillow(RGB, format=format)
    except ImportError:
        return {"HEIF": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "JXL": b"\xff\x0a" + bytes(30)}[format]


JPEG = pillow(np.kron(RGB, np.ones((8, 8, 1), np.uint8)), format="JPEG")
GOOD = {
    "photo.jpg": JPEG,
    "photo on its side.jpg": pillow(RGB, format="JPEG", exif=b"Exif\0\0" + exif(6, W, H)),
    "grey.jpeg": pillow(smooth(H, W, 1), format="JPEG"),
    "from a browser.jfif": pillow(RGB, format="JPEG"),
    "cmyk.jpg": cmyk(),
    "rgb.png": png(RGB),
    "rgba.png": png(smooth(H, W, 4)),
    "deep.png": png(smooth(H, W, 3, bits=16), bits=16),
    "interlaced.png": png(RGB, interlaced=True),
    "palette.png": pillow(RGB, format="PNG"),
    "named wrongly.png": JPEG,
    "one.png": png(RGB[:1, :1]),
    "flat.png": png(np.full((H, W, 3), 80, np.uint8)),
    "écran 写真\n2.png": png(RGB),
    "moving.png": animated("PNG"),
    "moving.apng": animated("PNG"),
    "moving.gif": animated("GIF"),
    "moving.webp": animated("WEBP", lossless=True),
    "parrots.gif": pillow(RGB, format="GIF"),
    "parrots.webp": pillow(RGB, format="WEBP"),
    "scan.jpg": pillow(RGB, format="JPEG", dpi=(300, 300)),
    "scan.tif": deep_scan(),
    "pages.tiff": pages(),
    "picture.avif": pillow(RGB, format="AVIF"),
    "picture.bmp": bmp(RGB, bits=24),
    "picture.ppm": pnm(RGB, kind=6),
    "picture.pgm": pnm(smooth(H, W, 1), kind=5),
}
PLUGINS = {"IMG_0001.HEIC": of_plugin("pillow_heif", "HEIF"), "picture.jxl": of_plugin("pillow_jxl", "JXL")}
BAD = {
    "truncated.jpg": JPEG[: len(JPEG) * 4 // 5],
    "half.png": png(smooth(H, W, 3))[:200],
    "zero.png": b"",
    "text.png": b"dear diary",
    "float.tif": vips(RGB).cast("float").tiffsave_buffer(),
    "empty animation.gif": b"GIF89a",
}
NO_PICTURES = {"notes.txt": b"dear diary", "photo.xmp": b"<xml/>", "raw.CR2": b"II*\0", "Makefile": b"all:"}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def tour(tmp_path, monkeypatch, command, tiny_model):
    """The folder, in the current one, and what runs the command on it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tour").mkdir()
    for name, data in {**GOOD, **PLUGINS, **BAD, **NO_PICTURES}.items():
        (tmp_path / "tour" / name).write_bytes(data)
    words = ("upscale", "tour", "--model", tiny_model, "-o", "out")
    # A result of an earlier run beside its original.
    assert command(*words[:1], "tour/photo.jpg", *words[2:4], "--format", "jpg").code == 0
    assert len(names(tmp_path / "tour")) == 40
    return lambda *more: command(*words, *more)


def test_every_file_is_done_or_named_exactly_once(tour, tmp_path, monkeypatch):
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda self: True)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "200")
    done = tour()
    assert done.code == 1
    # On a terminal the lines about pictures that are done go through the bar.
    lines = [line.removeprefix("enlca: ") for line in (done.out + done.err).splitlines()]
    [unread] = [line for line in lines if "are no pictures" in line]
    about = [line for line in lines if line.startswith("tour/")]
    sources = Counter(line.partition(" -> " if " -> " in line else ": ")[0] for line in about)
    sources.update(unread.partition("not read: ")[2].split(", "))
    assert sources == Counter(f"tour/{name}".replace("\n", "\\n") for name in names(tmp_path / "tour"))
    left_out = "tour/photo_x4.jpg: a result of an earlier run beside its original: left out"
    assert left_out in about
    errors = [line for line in about if " -> " not in line and line != left_out]
    failed = {line.partition(": ")[0].removeprefix("tour/") for line in errors}
    missing = {name for name in PLUGINS if any(f"{name}: reading" in line for line in lines)}
    assert failed == BAD.keys() | missing
    n_done = len(GOOD) + len(PLUGINS) - len(missing)
    assert any(line.startswith(f"{n_done} done, {len(failed)} failed, 1 skipped, ") for line in lines)
    # As many files as pictures, none in the place of another.
    assert len(names(tmp_path / "out")) == n_done
    assert {"parrots_gif_x4.png", "parrots_webp_x4.png", "scan_jpg_x4.png"} <= {*names(tmp_path / "out")}
    scan = open_image(tmp_path / "out" / "scan_tif_x4.png", max_bits=16)
    assert (scan.bits, scan.dpi) == (16, pytest.approx((1200, 1200), rel=1e-3))
    assert open_image(tmp_path / "out" / "moving_png_x4.png", frames="all").pages == 3


def test_the_object_says_the_same(tour, tmp_path):
    body = json.loads(tour("--json", "--salvage").out)
    named = [one["source"] for one in body["pictures"]] + body["unread"]["names"]
    assert sorted(named) == [f"tour/{name}" for name in names(tmp_path / "tour")]
    assert body["done"] + body["failed"] + body["skipped"] + body["unread"]["count"] == 40
    assert body["unread"]["suffixes"] == {".txt": 1, ".xmp": 1, ".cr2": 1, "": 1}
    [cut] = [one for one in body["pictures"] if one["source"] == "tour/truncated.jpg"]
    assert (cut["error"], cut["remark"]) == (None, "damaged: what decodes of it was taken")
