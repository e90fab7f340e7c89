"""What belongs to a picture goes along: orientation, profile, EXIF, XMP, pages and frames; or it is said."""

import struct
from typing import Any, cast

import numpy as np
import pytest
import pyvips
from odd import exif, pillow, png, profile, profile_chunk, seen, smooth, turned, vips
from odd_cases import H, W
from PIL import Image

from enlca.image import metadata
from enlca.image.metadata import update_exif

S = 4
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="%d"/></rdf:RDF>'
)


def blob(path, name):
    """A field of a picture as libvips finds it; None if it is not there."""
    if path.suffix in (".bmp", ".ppm"):
        return None
    image = pyvips.Image.new_from_buffer(path.read_bytes(), "")
    return bytes(cast(Any, image.get(name))) if image.get_typeof(name) else None


def tags_of(path):
    """The orientation and the details of EXIF, by Pillow."""
    with Image.open(path) as image:
        tags = image.getexif()
        return tags.get(0x0112, 1), tags.get(0x010F), dict(tags.get_ifd(0x8769))


TURNED = {
    "png": lambda stored, tags, xmp: png(
        stored, before=[(b"eXIf", tags), (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)]
    ),
    "jpg": lambda stored, tags, xmp: pillow(
        stored, format="JPEG", quality=100, subsampling=0, exif=b"Exif\0\0" + tags, xmp=xmp
    ),
    "webp": lambda stored, tags, xmp: pillow(stored, format="WEBP", lossless=True, exif=tags, xmp=xmp),
    "avif": lambda stored, tags, xmp: pillow(
        stored, format="AVIF", quality=100, subsampling="4:4:4", exif=tags
    ),
}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_on_its_side_stands_upright_and_its_tags_agree(upscale, tmp_path, orientation):
    shown = smooth(H, W, 3)
    stored = turned(shown, orientation)
    tags, xmp = exif(orientation, stored.shape[1], stored.shape[0]), (XMP % orientation).encode()
    files = {f"x{number}.{kind}": TURNED[kind](stored, tags, xmp) for number, kind in enumerate(TURNED)}
    upscale({"plain.png": png(shown)})
    expected = seen(tmp_path / "out" / "plain_x4.png").astype(int)
    for format in ("png", "jpg", "webp", "avif"):
        upscale(files, "--format", format)
        for name in files:
            path = tmp_path / "out" / f"{name.rsplit('.', 1)[0]}_x4.{format}"
            with Image.open(path) as image:
                assert image.size == (S * W, S * H), name
                made = np.asarray(image.convert("RGB"))
            assert np.abs(made - expected).mean() < 2.5, name
            seen_orientation, maker, details = tags_of(path)
            assert (seen_orientation, maker, details[0x8827]) == (1, "Maker", 200), name
            assert (details[0xA002], details[0xA003]) == (S * W, S * H), name
            packet = blob(path, "xmp-data")
            if name.split(".")[1] in ("png", "jpg", "webp"):
                assert packet is not None, name
                assert packet.rstrip(b"\0") == (XMP % 1).encode(), name


def test_exif_is_updated_once_for_each_picture(upscale, monkeypatch):
    updated = []

    def update(exif, **size):
        updated.append(size)
        return update_exif(exif, **size)

    monkeypatch.setattr(metadata, "update_exif", update)
    upscale({"x.jpg": TURNED["jpg"](smooth(H, W, 3), exif(6, W, H), (XMP % 6).encode())})
    assert updated == [{"width": S * H, "height": S * W, "dpi": None}]


def test_damaged_exif_is_left_out_and_a_remark_says_so(upscale, tmp_path):
    tags = exif(1, W, H)[:12] + b"\xff" * 20
    [line] = upscale({"x.png": png(smooth(H, W, 3), before=[(b"eXIf", tags)])})
    assert "EXIF data are damaged and were left out" in line
    assert tags_of(tmp_path / "out" / "x_x4.png")[:2] == (1, None)


@pytest.mark.parametrize("orientation", [1, 6])
def test_exif_that_follows_the_pixels_is_heeded_too(upscale, tmp_path, orientation):
    shown = smooth(H, W, 3)
    stored = turned(shown, orientation)
    late = png(stored, after=[(b"eXIf", exif(orientation, stored.shape[1], stored.shape[0]))])
    upscale({"x.png": late, "plain.png": png(shown)})
    made, expected = (seen(tmp_path / "out" / f"{stem}_x4.png") for stem in ("x", "plain"))
    np.testing.assert_array_equal(made, expected)
    assert tags_of(tmp_path / "out" / "x_x4.png")[:2] == (1, "Maker")


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_tiff_on_its_side_stands_upright(upscale, tmp_path, orientation):
    shown = smooth(H, W, 3)
    stored = vips(turned(shown, orientation)).copy()
    stored.set_type(pyvips.GValue.gint_type, "orientation", orientation)
    upscale({"x.tif": stored.tiffsave_buffer(), "plain.png": png(shown)}, "--format", "tif")
    made, expected = (seen(tmp_path / "out" / f"{stem}_x4.tif") for stem in ("x", "plain"))
    np.testing.assert_array_equal(made, expected)
    assert tags_of(tmp_path / "out" / "x_x4.tif")[0] == 1


def with_profile(suffix, values, icc):
    if suffix == "png":
        return png(values, before=[profile_chunk(icc)])
    names = {"jpg": "JPEG", "webp": "WEBP", "tif": "TIFF", "avif": "AVIF"}
    return pillow(values, format=names[suffix], icc_profile=icc)


HOLDS_PROFILE = ("png", "jpg", "webp", "tif", "avif")


@pytest.mark.parametrize("suffix", HOLDS_PROFILE)
@pytest.mark.parametrize("name", ["srgb", "p3", "grey"])
def test_the_profile_goes_along_to_the_byte(upscale, tmp_path, suffix, name):
    if name == "grey" and suffix in ("webp", "avif"):
        pytest.skip("Pillow writes no grey there")
    values = smooth(H, W, 1 if name == "grey" else 3)
    for format in HOLDS_PROFILE:
        [line] = upscale({f"x.{suffix}": with_profile(suffix, values, profile(name))}, "--format", format)
        kept = blob(tmp_path / "out" / f"x_x4.{format}", "icc-profile-data")
        if name == "grey" and format in ("webp", "avif"):
            assert kept is None
            assert "the colour profile was left out" in line
        else:
            assert kept == profile(name)
            assert "profile" not in line


BROKEN = {
    "no profile at all": b"this is no profile" * 20,
    "cut short": profile("srgb")[:150],
    "of one byte": b"\0",
    "of another space": profile("cmyk")[:4000],
    "with a wrong length": struct.pack(">I", 1 << 31) + profile("srgb")[4:],
}


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_a_broken_profile_harms_no_picture(upscale, tmp_path, suffix, what):
    values = smooth(H, W, 3)
    data = with_profile(suffix, values, BROKEN[what])
    [line, _] = upscale({f"x.{suffix}": data, "plain.png": png(values)})
    made = tmp_path / "out" / "x_x4.png"
    kept = blob(made, "icc-profile-data")
    # A reader of the file may not have seen it as a profile in the first place.
    assert (
        kept == BROKEN[what]
        or "profile" in line
        or blob(tmp_path / f"x.{suffix}", "icc-profile-data") is None
    )
    assert np.abs(seen(made).astype(int) - seen(tmp_path / "out" / "plain_x4.png")).mean() < 3


@pytest.mark.parametrize("what", ["no profile at all", "cut short", "of one byte"])
def test_ink_with_a_broken_profile_is_read_as_ink_without(upscale, tmp_path, what):
    inks = np.stack([*np.moveaxis(smooth(H, W, 3), 2, 0), np.full((H, W), 20, np.uint8)], axis=2)
    ways = {"mode": "CMYK", "format": "JPEG", "quality": 100}
    files = {"x.jpg": pillow(inks, **ways, icc_profile=BROKEN[what]), "plain.jpg": pillow(inks, **ways)}
    lines = upscale(files)
    assert all("CMYK converted to sRGB" in line for line in lines)
    made, expected = (seen(tmp_path / "out" / f"{stem}_x4.png") for stem in ("x", "plain"))
    np.testing.assert_array_equal(made, expected)


KINDS = {
    "grey": (1, 8),
    "grey16": (1, 16),
    "alpha": (4, 8),
    "alpha16": (4, 16),
    "greyalpha": (2, 8),
    "rgb": (3, 8),
    "rgb16": (3, 16),
}
# Format -> what of alpha, 16 bits, grey, ICC, EXIF and XMP it holds here (docs/pictures.md).
HOLDS = {
    "png": {"alpha", "16", "grey", "ICC", "EXIF", "XMP"},
    "tif": {"alpha", "16", "grey", "ICC", "XMP"},
    "jpg": {"grey", "ICC", "EXIF", "XMP"},
    "webp": {"alpha", "ICC", "EXIF", "XMP"},
    "avif": {"alpha", "ICC", "EXIF", "XMP"},
    "bmp": {"grey"},
    "ppm": {"16", "grey"},
}


@pytest.mark.parametrize("format", HOLDS)
def test_each_format_keeps_what_it_holds_and_says_what_it_does_not(
    command, tmp_path, monkeypatch, tiny_model, format
):
    monkeypatch.chdir(tmp_path)
    holds = HOLDS[format]
    for name, (n_layers, bits) in KINDS.items():
        about = [(b"eXIf", exif(1, W, H)), (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + (XMP % 1).encode())]
        icc = profile("grey" if n_layers < 3 else "p3")
        data = png(smooth(H, W, n_layers, bits=bits), bits=bits, before=[profile_chunk(icc), *about])
        (tmp_path / f"{name}.png").write_bytes(data)
    names = [f"{name}.png" for name in KINDS]
    done = command(
        "upscale",
        *names,
        "--model",
        tiny_model,
        "-o",
        f"{{stem}}.{format}",
        *(["--overwrite"] * (format == "png")),
    )
    failed = [] if "alpha" in holds else [name for name, (n_layers, _) in KINDS.items() if n_layers in (2, 4)]
    assert done.code == bool(failed)
    assert done.err.splitlines() == [
        line for line in done.err.splitlines() if "cannot hold transparency" in line
    ]
    assert len(done.err.splitlines()) == len(failed)
    lines = {line.split(".png ->")[0]: line for line in done.out.splitlines()}
    assert lines.keys() == KINDS.keys() - set(failed)
    for name, line in lines.items():
        n_layers, bits = KINDS[name]
        path = tmp_path / f"{name}.{format}"
        made = seen(path)
        grey = n_layers < 3 and "grey" in holds
        assert made.shape == (S * H, S * W, (1 if grey else 3) + (n_layers in (2, 4))), name
        deep = bits == 16 and "16" in holds
        assert made.dtype == (np.uint16 if deep else np.uint8), name
        assert ("16 bits were rounded" in line) == (bits == 16 and not deep), name
        fits = "ICC" in holds and (n_layers >= 3 or grey)
        icc = profile("grey" if n_layers < 3 else "p3")
        assert (blob(path, "icc-profile-data") == icc) == fits, name
        assert ("ICC" in line or "profile was left out" in line) == (not fits), name
        assert (tags_of(path)[1] == "Maker") == ("EXIF" in holds), name
        assert ("EXIF" in line) == ("EXIF" not in holds), name
        assert (blob(path, "xmp-data") is not None) == ("XMP" in holds), name
        assert ("XMP" in line) == ("XMP" not in holds), name
        # Formats that lose nothing show what the PNG shows.
        if format in ("tif", "bmp", "ppm") and (bits == 8 or deep):
            command("upscale", f"{name}.png", "--model", tiny_model, "-o", "again.png")
            np.testing.assert_array_equal(made, seen(tmp_path / "again.png"))
