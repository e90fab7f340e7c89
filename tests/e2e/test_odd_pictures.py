"""Any picture: a file of every format, depth and mode is upscaled as what it shows, by the command alone."""

import io
import itertools

import numpy as np
import pytest
import tifffile
from odd import composite, pillow, png, pnm, seen, smooth, vips
from odd_cases import H, W
from odd_tiffs import MATRIX
from PIL import Image

S = 4


@pytest.fixture
def refused(command, tmp_path, monkeypatch, tiny_model):
    """The one line about a file that is refused."""
    monkeypatch.chdir(tmp_path)

    def run(name, data, *words):
        (tmp_path / name).write_bytes(data)
        done = command("upscale", name, "--model", tiny_model, *words)
        [line] = done.err.splitlines()
        assert (done.code, done.out) == (1, "")
        assert line.startswith("enlca: ")
        assert name in line or name.replace(".", "_x4.") in line
        assert [path.name for path in tmp_path.iterdir()] == [name]
        return line

    return run


def difference(odd, made, expected):
    """Compare the result of an odd file with that of what it shows; return what differs, or ''."""
    if made.dtype != odd.shown.dtype:
        return f"{made.dtype}, not {odd.shown.dtype}"
    height, width, n_layers = odd.shown.shape
    if made.shape != (S * height, S * width, n_layers):
        return f"{made.shape} for {odd.shown.shape}"
    if not odd.off:
        return "" if np.array_equal(made, expected) else "other pixels"
    if n_layers in (2, 4):
        # Colours that are hardly seen are hardly stored.
        off = 255 * np.abs(composite(made, 0) - composite(expected, 0)).max()
    else:
        off = np.abs(made.astype(float) - expected).max() * 255 / np.iinfo(made.dtype).max
    return "" if off <= odd.off else f"off by {off:.1f} levels"


@pytest.mark.parametrize("kind", sorted({name.split()[0] for name in MATRIX}))
def test_a_file_is_upscaled_as_a_plain_png_of_what_it_shows(upscale, tiny_model, tmp_path, kind):
    cases = {name: odd for name, odd in MATRIX.items() if name.split()[0] == kind}
    files = {}
    for number, odd in enumerate(cases.values()):
        files[f"odd{number}{odd.suffix}"] = odd.data
        files[f"plain{number}.png"] = png(odd.shown, bits=8 * odd.shown.itemsize)
    said = upscale(files, model=tiny_model)
    wrong = {}
    for number, (name, odd) in enumerate(cases.items()):
        made, expected = (seen(tmp_path / "out" / f"{stem}{number}_x4.png") for stem in ("odd", "plain"))
        wrong[name] = difference(odd, made, expected)
        wrong[name] += "" if odd.said in said[2 * number] else f"says {said[2 * number]!r}"
    assert {name: what for name, what in wrong.items() if what} == {}


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("n_layers", [1, 3])
def test_colours_are_right(upscale, tmp_path, bits, n_layers):
    values = smooth(31, 37, n_layers, bits=bits)
    upscale({"x.png": png(values, bits=bits)})
    made = seen(tmp_path / "out" / "x_x4.png") / (257 if bits == 16 else 1)
    for layer in range(n_layers):
        plane = Image.fromarray((values[..., layer] / (257 if bits == 16 else 1)).astype(np.float32))
        expected = np.asarray(plane.resize((S * 37, S * 31), Image.Resampling.BICUBIC))
        # The zeros around the picture tint its margin, and edges of the patch are sharpened.
        off = np.abs(made[..., layer] - expected)[16:-16, 16:-16]
        assert np.median(off) < 0.6
        assert np.quantile(off, 0.95) < 1.5


FLAT = {
    ".png": lambda flat: png(flat),
    ".bmp": lambda flat: pillow(flat, format="BMP"),
    ".tif": lambda flat: vips(flat).tiffsave_buffer(compression="lzw"),
    ".ppm": lambda flat: pnm(flat, kind=6),
    ".jpg": lambda flat: pillow(flat, format="JPEG", quality=95),
    ".webp": lambda flat: pillow(flat, format="WEBP", quality=95),
    ".avif": lambda flat: pillow(flat, format="AVIF", quality=95),
    ".gif": lambda flat: pillow(flat, format="GIF"),
}


@pytest.mark.parametrize("colour", [(200, 40, 90), (0, 0, 0), (255, 255, 255), (255, 0, 0), (3, 252, 128)])
def test_flat_colours_stay_within_a_level_in_every_format(upscale, tmp_path, colour):
    flat = np.full((H, W, 3), colour, np.uint8)
    files = {f"{suffix[1:]}{suffix}": write(flat) for suffix, write in FLAT.items()}
    upscale(files)
    for name, data in files.items():
        with Image.open(io.BytesIO(data)) as image:
            expected = np.asarray(image.convert("RGB"))[0, 0].astype(int)
        with Image.open(tmp_path / "out" / f"{name.split('.')[0]}_x4.png") as image:
            assert image.size == (S * W, S * H)
            assert np.abs(np.asarray(image.convert("RGB")) - expected).max() <= 1, name


@pytest.mark.parametrize("scale", ["2", "3", "4", "1.5", "3.3"])
def test_every_small_size_becomes_exactly_scale_times_as_large(upscale, tmp_path, scale):
    sides = [(1, 1), (1, 2), (2, 1), (1, 61), (59, 1), (2, 2), (3, 3), (5, 7), (16, 17)]
    files = {f"{w}x{h}_{layers}.png": png(smooth(h, w, layers)) for w, h in sides for layers in (1, 4)}
    upscale(files, "--scale", scale)
    for (width, height), layers in itertools.product(sides, (1, 4)):
        made = seen(tmp_path / "out" / f"{width}x{height}_{layers}_x{scale}.png")
        assert made.shape == (
            max(1, round(float(scale) * height)),
            max(1, round(float(scale) * width)),
            layers,
        )


def matte(kind, n_layers, bits, hidden):
    """A disc with an edge of some pixels ("soft") over hidden colours, or opacity at random ("noise")."""
    row, column = np.indices((41, 47))
    alpha = np.clip((15 - np.hypot(row - 20, column - 23)) / 4 + 0.5, 0, 1)
    if kind == "noise":
        alpha = np.random.default_rng(3).random((41, 47))
    colours = np.stack([0.3 + 0.01 * column, 0.8 - 0.01 * row, 0.4 + 0 * row], axis=2)[..., : n_layers - 1]
    colours = np.where(alpha[..., None] > 0, colours, np.random.default_rng(hidden).random(colours.shape))
    layers = np.concatenate([colours, alpha[..., None]], axis=2)
    return np.rint(layers * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("kind", "n_layers"), [("soft", 2), ("soft", 4), ("noise", 2)])
def test_over_black_and_white_the_result_is_the_upscaled_composite(upscale, tmp_path, kind, n_layers, bits):
    layers = matte(kind, n_layers, bits, hidden=1)
    files = {"x.png": png(layers, bits=bits)}
    for ground in (0, 1):
        files[f"{ground}.png"] = png(np.rint(composite(layers, ground) * 65535).astype(np.uint16), bits=16)
    upscale(files)
    made = seen(tmp_path / "out" / "x_x4.png")
    black, white = (seen(tmp_path / "out" / f"{ground}_x4.png") / 65535 for ground in (0, 1))
    off = np.maximum(np.abs(composite(made, 0) - black), np.abs(composite(made, 1) - white))
    # A sharpened edge over white may be darker than over black, and the three colours may ask for different
    # opacities: no picture shows that. Then half way is best.
    unlike = np.ptp(white - black, axis=2, keepdims=True)
    assert (255 * (off - np.maximum(black - white, 0) / 2 - unlike / 2)).max() <= 1.5
    if kind == "soft":
        assert (255 * off <= 2).mean() > 0.995
        assert 255 * off.mean() < 0.3


HIDING = {
    "8.png": lambda layers: png(layers),
    "16.png": lambda layers: png(layers.astype(np.uint16) * 257, bits=16),
    "grey.png": lambda layers: png(layers[..., [0, 3]]),
    "x.webp": lambda layers: pillow(layers, format="WEBP", lossless=True, exact=True),
    "x.tif": lambda layers: vips(layers).tiffsave_buffer(),
}


@pytest.mark.parametrize("name", HIDING)
def test_a_hidden_colour_leaves_no_trace(upscale, tiny_model, tmp_path, name):
    stem, suffix = name.split(".")
    one, other = (HIDING[name](matte("soft", 4, 8, hidden)) for hidden in (1, 2))
    assert one != other
    upscale({f"{stem}one.{suffix}": one, f"{stem}other.{suffix}": other}, model=tiny_model)
    one, other = (seen(tmp_path / "out" / f"{stem}{which}_x4.png") for which in ("one", "other"))
    np.testing.assert_array_equal(one, other)
    assert not one[one[..., -1] == 0].any()


def test_more_than_256_levels_survive_from_file_to_file(upscale, tiny_model, tmp_path):
    ramp = np.linspace(20_000, 24_000, 40 * 40).astype(np.uint16).reshape(40, 40, 1)
    files = {"grey.png": png(ramp, bits=16), "rgb.ppm": pnm(ramp.repeat(3, axis=2), kind=6, peak=65535)}
    for ending in ("png", "tif"):
        upscale(files, "--format", ending, model=tiny_model)
        for name, n_layers in (("grey", 1), ("rgb", 3)):
            made = seen(tmp_path / "out" / f"{name}_x4.{ending}")
            assert made.shape[2] == n_layers
            assert len(np.unique(made)) > 1000
        for path in (tmp_path / "out").iterdir():
            path.unlink()


def tiff(values, **settings):
    out = io.BytesIO()
    tifffile.imwrite(out, values, metadata=None, **settings)
    return out.getvalue()


REFUSED = {
    "float.tif": (lambda: tiff(np.zeros((H, W, 3), np.float32), photometric="rgb"), "float"),
    "half.tif": (lambda: tiff(np.zeros((H, W), np.float16)), ""),
    "long.tif": (lambda: tiff(np.zeros((H, W), np.uint32)), "uint"),
    "signed.tif": (lambda: tiff(np.zeros((H, W), np.int16)), "short"),
    "five.tif": (lambda: tiff(np.zeros((H, W, 5), np.uint8), photometric="rgb"), "5 channels"),
    "lab.tif": (lambda: vips(smooth(H, W, 3), "lab").tiffsave_buffer(), ""),
    "tiled_planes.tif": (
        lambda: tiff(
            np.zeros((3, 32, 32), np.uint8), photometric="rgb", planarconfig="separate", tile=(16, 16)
        ),
        "tiled separate planes not supported",
    ),
    "x.jp2": (lambda: pillow(smooth(H, W, 3), format="JPEG2000"), "not a picture in a format that is read"),
    "x.svg": (lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture in a format that is read"),
    "x.pfm": (lambda: b"Pf\n1 1\n-1.0\n\0\0\0\0", "not a picture in a format that is read"),
    "pam.ppm": (lambda: b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 1\nMAXVAL 255\nENDHDR\n\0", "not a picture"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_kept_is_refused_in_one_line(refused, name):
    write, reason = REFUSED[name]
    assert reason in refused(name, write())
