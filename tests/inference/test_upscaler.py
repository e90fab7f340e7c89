import pickle

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from enlca.errors import PictureError, TooLarge
from enlca.image.picture import Picture, collect_pages, read_image, rows_of, write_image
from enlca.inference.adapters import to_uint8, upscale_rgb
from enlca.inference.upscaler import Upscaler

H, W, S = 11, 13, 4
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noise(*shape):
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)


def profile(space):
    """The header of a profile for pictures of another kind."""
    return SRGB[:16] + space + SRGB[20:]


@pytest.fixture(scope="module")
def up(tiny_model):
    return Upscaler(tiny_model, device="cpu")


@pytest.fixture(scope="module")
def bundled():
    """The network that people use: a random one keeps no law of pictures."""
    return Upscaler("enlcn-tiny", scale=S, device="cpu")


@pytest.fixture
def runs(up):
    """Each picture that goes through the network."""
    seen = []
    hook = up.network.register_forward_hook(lambda network, given, made: seen.append(given[0]))
    yield seen
    hook.remove()


def test_every_kind_of_picture_shows_the_same_pixels(up, tmp_path):
    pixels = noise(H, W, 3)
    expected = up(pixels)
    write_image(tmp_path / "x.png", Picture(pixels))
    tensor = torch.from_numpy(pixels).permute(2, 0, 1) / 255
    for other in (
        up(tmp_path / "x.png").pixels,
        up(str(tmp_path / "x.png")).pixels,
        up(Picture(pixels)).pixels,
        np.asarray(up(Image.fromarray(pixels))),
        to_uint8(up(tensor)).permute(1, 2, 0).numpy(),
        upscale_rgb(up.network, pixels),
    ):
        np.testing.assert_array_equal(other, expected)


@pytest.mark.parametrize("shape", [(H, W), (H, W, 1), (H, W, 2), (H, W, 3), (H, W, 4)], ids=str)
def test_an_array_gives_an_array_with_as_many_channels(up, shape):
    made = up(noise(*shape))
    assert made.dtype == np.uint8
    assert made.shape == (S * H, S * W, *shape[2:])


@pytest.mark.parametrize("shape", [(3, H, W), (1, 3, H, W), (2, 3, H, W)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_tensor_gives_a_tensor_of_its_type_in_0_to_1(up, shape, dtype):
    made = up(torch.rand(shape).to(dtype))
    assert made.dtype == dtype
    assert made.shape == (*shape[:-2], S * H, S * W)
    assert 0 <= made.min() < made.max() <= 1


def test_a_batch_is_upscaled_picture_by_picture(up):
    batch = torch.rand(2, 3, H, W)
    torch.testing.assert_close(up(batch), torch.stack([up(picture) for picture in batch]))


def test_what_comes_out_can_be_trained_on_and_changed(up):
    made = up(torch.rand(3, H, W))
    weight = torch.ones(1, requires_grad=True)
    (made * weight).sum().backward()
    made += 1
    assert weight.grad == pytest.approx((made - 1).sum().item(), rel=1e-5)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("L", "L"), ("LA", "LA"), ("RGB", "RGB"), ("RGBA", "RGBA"), ("P", "RGB"), ("1", "L"), ("CMYK", "RGB")],
)
def test_a_pil_picture_gives_a_pil_picture(up, mode, expected):
    source = Image.fromarray(noise(H, W, 3)).convert(mode)
    made = up(source)
    assert (made.mode, made.size) == (expected, (S * W, S * H))
    np.testing.assert_array_equal(np.asarray(made), up(np.asarray(source.convert(expected))))


@pytest.mark.parametrize(
    ("mode", "hidden", "expected"), [("P", 1, "RGBA"), ("L", 7, "LA"), ("RGB", (1, 2, 3), "RGBA")]
)
def test_a_colour_that_counts_as_transparent_becomes_alpha(up, mode, hidden, expected):
    source = Image.new(mode, (W, H), hidden)
    source.putpixel((2, 3), 9 if mode != "RGB" else (9, 9, 9))
    source.info["transparency"] = hidden
    made = up(source)
    assert made.mode == expected
    assert np.asarray(made)[..., -1].min() < 128 < np.asarray(made)[4 * 3 + 2, 4 * 2 + 2, -1]


def test_a_pil_picture_is_turned_upright_as_a_file_is(up, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(H, W, 3)).save(tmp_path / "x.png", exif=exif)
    with Image.open(tmp_path / "x.png") as source:
        made = up(source)
    assert made.size == (S * H, S * W)
    assert 0x0112 not in made.getexif()
    np.testing.assert_array_equal(np.asarray(made), up(tmp_path / "x.png").pixels)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_a_pil_picture_of_unknown_range_is_refused_instead_of_cut(up, mode):
    with pytest.raises(ValueError, match=f"8 bits per channel, or I;16; got mode {mode}"):
        up(Image.new(mode, (W, H)))


def test_a_pil_picture_of_16_bits_gives_one_of_16_bits(up):
    deep = noise(H, W).astype(np.uint16) * 257
    made = up(Image.fromarray(deep))
    assert made.mode == "I;16"
    np.testing.assert_array_equal(np.asarray(made), up(deep))


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_every_depth_shows_the_same_picture(up, layers):
    pixels = noise(H, W, layers)
    shallow = up(pixels)
    deep = up(pixels.astype(np.uint16) * 257)
    real = up(pixels.astype(np.float64) / 255)
    assert (deep.dtype, real.dtype) == (np.uint16, np.float64)
    # Colours under little alpha are divided by it, which is where the depths may differ.
    seen = slice(None) if layers in (1, 3) else shallow[..., -1] > 128
    # Grey is rounded twice: each of its channels, and then their mean.
    tolerance = {1: 1.01, 3: 0.51}.get(layers, 2)
    for other in (deep / 257, real * 255):
        assert np.abs(other - shallow)[seen].max() < tolerance


def test_more_than_256_levels_go_in_and_come_out(up, tmp_path):
    ramp = np.linspace(20_000, 24_000, 40 * 40).astype(np.uint16).reshape(40, 40, 1).repeat(3, axis=2)
    write_image(tmp_path / "x.png", Picture(ramp))
    up(tmp_path / "x.png").save(tmp_path / "y.tif")
    made = read_image(tmp_path / "y.tif", max_bits=16)
    assert made.bits == 16
    assert len(np.unique(made.pixels)) > 1000
    np.testing.assert_array_equal(made.pixels, up(ramp))


def test_grey_stays_grey_and_is_the_mean_of_its_three_equal_channels(up, tmp_path):
    grey = noise(H, W, 1)
    made = up(Picture(grey)).pixels
    lr = torch.from_numpy(grey.repeat(3, axis=2)).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        mean = up.network(lr)[0].clamp(0, 1).mean(dim=0).numpy()
    np.testing.assert_array_equal(made[..., 0], np.rint(255 * mean))
    np.testing.assert_array_equal(up(grey[..., 0]), made[..., 0])


@pytest.mark.parametrize("value", [0, 7, 255])
def test_constant_alpha_stays_constant_and_is_not_computed(up, runs, value):
    picture = Picture(noise(H, W, 3), alpha=np.full((H, W), value, dtype=np.uint8))
    made = up(picture)
    assert len(runs) == 1
    np.testing.assert_array_equal(made.alpha, np.full((S * H, S * W), value))
    np.testing.assert_array_equal(made.pixels, up(noise(H, W, 3)))


def over(layers, ground):
    """What one sees of a picture with alpha over a flat ground from 0 to 1, as floats in [0, 1]."""
    layers = layers / (1 if layers.dtype.kind == "f" else np.iinfo(layers.dtype).max)
    return layers[..., :-1] * layers[..., -1:] + ground * (1 - layers[..., -1:])


def cut_out(dtype=np.uint16):
    """A smooth blob of one colour with a soft edge, over hidden garbage."""
    row, column = np.indices((41, 47))
    alpha = np.clip((15 - np.hypot(row - 20, column - 23)) / 4 + 0.5, 0, 1)
    colour = np.where(alpha[..., None] > 0, [0.8, 0.3, 0.4], noise(41, 47, 3) / 255)
    layers = np.concatenate([colour, alpha[..., None]], axis=2)
    return layers if np.dtype(dtype).kind == "f" else np.rint(layers * np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_composites_of_the_result_are_upscaled_composites(bundled, dtype):
    layers = cut_out(dtype)
    made = bundled(layers)
    for ground in (0.0, 1.0):
        expected = bundled(over(layers, ground))
        off = np.abs(over(made, ground) - expected)
        # Exact where the three channels agree on how much ground shows; on edges they differ a little.
        assert off.mean() < 0.001
        assert off.max() < 0.03


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colours_under_full_transparency_do_not_bleed_in(up, dtype):
    layers = cut_out(dtype)
    made = up(layers)
    layers[layers[..., 3] == 0, :3] = 77
    np.testing.assert_array_equal(up(layers), made)


def test_what_is_far_from_an_edge_is_wholly_opaque_or_wholly_transparent(up):
    alpha = up(cut_out(np.uint8))[..., 3]
    assert set(np.unique(alpha[S * 20 :, : S * 5])) == {0}
    assert set(np.unique(alpha[S * 18 : S * 22, S * 20 : S * 26])) == {255}


def test_alpha_takes_two_runs_and_grey_alpha_stays_grey(up, runs):
    made = up(noise(H, W, 2))
    assert len(runs) == 2
    assert made.shape == (S * H, S * W, 2)


def test_frames_are_upscaled_one_by_one(up):
    pictures = (Picture(noise(H, W, 3)), Picture(noise(H, W, 3)[::-1].copy()))
    made = up.rows(rows_of(*pictures, delays=(40, 80), loop=3))
    assert (made.pages, made.delays, made.loop) == (2, (40, 80), 3)
    for picture, large in zip(pictures, collect_pages(made), strict=True):
        np.testing.assert_array_equal(large.pixels, up(picture).pixels)


@pytest.mark.parametrize("level", [0, 1, 97, 128, 254, 255])
def test_flat_colours_stay_within_one_level(bundled, level):
    colour = np.array([level, 255 - level, 128], np.uint8)
    flat = np.broadcast_to(colour, (24, 17, 3)).copy()
    np.testing.assert_array_equal(bundled(flat), np.broadcast_to(colour, (S * 24, S * 17, 3)))
    flat[-1] ^= 255
    inside = bundled(flat)[S * 5 : S * 12, S * 5 : -S * 5]
    assert np.abs(inside.astype(int) - colour).max() <= 1


def test_exif_goes_along_upright_and_with_the_new_size(up, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "Maker"
    exif.get_ifd(0x8769).update({0xA002: W, 0xA003: H, 0x8827: 200})
    Image.fromarray(noise(H, W, 3)).save(tmp_path / "x.jpg", exif=exif)
    up(tmp_path / "x.jpg").save(tmp_path / "y.jpg")
    with Image.open(tmp_path / "x.jpg") as source:
        large = up(source)
    # Pillow writes EXIF only where it is asked to.
    large.save(tmp_path / "z.png", exif=large.getexif())
    for name in ("y.jpg", "z.png"):
        with Image.open(tmp_path / name) as made:
            assert made.size == (S * H, S * W)
            kept = made.getexif()
            assert (kept.get(0x0112, 1), kept[0x010F]) == (1, "Maker")
            details = kept.get_ifd(0x8769)
            assert (details[0xA002], details[0xA003], details[0x8827]) == (S * H, S * W, 200)


def test_the_colour_profile_goes_along(up, tmp_path):
    write_image(tmp_path / "x.png", Picture(noise(H, W, 3), icc=SRGB))
    up(tmp_path / "x.png").save(tmp_path / "y.png")
    assert read_image(tmp_path / "y.png").icc == SRGB
    with Image.open(tmp_path / "x.png") as source:
        up(source).save(tmp_path / "z.png")
    assert read_image(tmp_path / "z.png").icc == SRGB


@pytest.mark.parametrize(("mode", "space", "fits"), [("L", b"GRAY", True), ("CMYK", b"CMYK", False)])
def test_a_colour_profile_goes_along_only_where_it_fits(up, mode, space, fits):
    source = Image.new(mode, (W, H))
    source.info["icc_profile"] = profile(space)
    assert ("icc_profile" in up(source).info) == fits


def test_arrays_may_be_views_that_torch_cannot_share(up):
    pixels = noise(H, W, 3)
    expected = up(pixels)
    mirrored = up(pixels[::-1, ::-1])
    pixels.flags.writeable = False
    np.testing.assert_array_equal(up(pixels), expected)
    assert mirrored.shape == expected.shape
    np.testing.assert_array_equal(mirrored, up(np.ascontiguousarray(noise(H, W, 3)[::-1, ::-1])))


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (noise(H, W, 3).astype(np.int16), "must be uint8, uint16 or floating .* got int16"),
        (noise(H, W, 3).astype(np.float32), r"must lie in \[0, 1\], got 0.0 to 255"),
        (np.full((H, W), np.nan), r"must lie in \[0, 1\], got nan"),
        (noise(H, W, 5), r"1 to 4 channels, got \(11, 13, 5\)"),
        (noise(W), r"H W or H W C .* got \(13,\)"),
        (noise(2, H, W, 5), r"H W or H W C .* got \(11, 13, 5\)"),
        (noise(2, 2, H, W, 3), r"H W or H W C .* got \(2, 2, 11, 13, 3\)"),
        (noise(0, W, 3), r"got \(0, 13, 3\)"),
        (torch.zeros(3, H, W, dtype=torch.int16), "floating point in .* got torch.int16"),
        (torch.zeros(1, H, W), r"3 H W or B 3 H W, got \(1, 11, 13\)"),
        (torch.zeros(H, W, 3), r"got \(11, 13, 3\)"),
        (torch.zeros(H, W), r"got \(11, 13\)"),
        (torch.zeros(3, 0, W), r"got \(3, 0, 13\)"),
        (torch.full((3, H, W), 200.0), r"torch pictures must lie in \[0, 1\], got 200 to 200"),
        (torch.full((3, H, W), -0.5), r"must lie in \[0, 1\], got -0.5 to -0.5"),
        (torch.full((3, H, W), torch.nan), r"must lie in \[0, 1\], got nan to nan"),
    ],
    ids=lambda value: f"{value.dtype}{list(value.shape)}" if hasattr(value, "dtype") else "",
)
def test_arrays_and_tensors_that_are_no_picture_are_refused(up, picture, reason):
    with pytest.raises(ValueError, match=reason):
        up(picture)


def test_other_things_are_refused(up, tmp_path):
    with pytest.raises(TypeError, match="cannot upscale a dict; give a path, bytes, a file object, or a PIL"):
        up({0: 1})
    with pytest.raises(TypeError, match="cannot upscale a int"):
        up([[0, 1], [1, 0]])
    with pytest.raises(PictureError, match=r"x\.png: no such file"):
        up(tmp_path / "x.png")


def test_one_pixel_is_enough(up):
    assert up(noise(1, 1, 3)).shape == (S, S, 3)


def test_values_are_clipped_and_rounded_not_cut():
    values = torch.tensor([-0.1, 0.0, 0.4999 / 255, 0.5001 / 255, 254.6 / 255, 1.0, 1.3])
    picture = values.expand(3, 1, -1)
    assert to_uint8(picture)[0, 0].tolist() == [0, 0, 0, 1, 255, 255, 255]


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_a_matrix_is_the_picture_of_its_values(up):
    values = noise(H, W)
    # Slices of it keep two axes, where a picture loses one.
    np.testing.assert_array_equal(up(np.asmatrix(values)), up(values))


@pytest.mark.parametrize("ensemble", [False, True])
def test_an_upscaler_can_be_sent_between_processes(tiny_network, ensemble):
    up = Upscaler(tiny_network, device="cpu", ensemble=ensemble)
    picture = torch.full((3, 5, 4), 0.5)
    torch.testing.assert_close(pickle.loads(pickle.dumps(up))(picture), up(picture))


def test_a_tensor_is_computed_in_the_precision_of_an_array_of_its_depth(up, monkeypatch):
    kinds = []
    monkeypatch.setattr(up, "half", torch.bfloat16)
    monkeypatch.setattr(up, "half_for_all", False)
    hook = up.network.head.register_forward_hook(lambda network, given, made: kinds.append(made.dtype))
    pixels = noise(H, W, 3)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    up(pixels), up(tensor), up(tensor / 255), up((pixels / 255).astype(np.float32))
    hook.remove()
    assert kinds == [torch.bfloat16, torch.bfloat16, torch.float32, torch.float32]


def test_a_batch_that_does_not_fit_goes_whole_picture_by_picture_or_is_refused(tiny_model):
    small = Upscaler(tiny_model, device="cpu", mode="whole", max_memory=1)
    with pytest.raises(TooLarge):
        small(torch.rand(2, 3, H, W))
