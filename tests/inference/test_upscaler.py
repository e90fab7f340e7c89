import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from enlca.image.files import Picture, PictureError, read_image, write_image
from enlca.inference.upscaler import DeviceError, Upscaler, choose_device, enlarge, to_uint8

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
        enlarge(up.network, pixels),
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


def test_a_batch_is_enlarged_picture_by_picture(up):
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


@pytest.mark.parametrize("mode", ["I", "F", "I;16"])
def test_a_pil_picture_of_more_than_8_bits_is_refused_instead_of_cut(up, mode):
    with pytest.raises(ValueError, match=f"8 bits per channel, got mode {mode}"):
        up(Image.new(mode, (W, H)))


def test_grey_stays_grey_and_is_the_mean_of_its_three_equal_channels(up, tmp_path):
    grey = noise(H, W, 1)
    made = up(Picture(grey)).pixels
    mean = enlarge(up.network, grey.repeat(3, axis=2)).mean(axis=2, keepdims=True)
    np.testing.assert_array_equal(made, np.rint(mean))
    np.testing.assert_array_equal(up(grey[..., 0]), made[..., 0])


@pytest.mark.parametrize("value", [0, 7, 255])
def test_constant_alpha_stays_constant_and_is_not_computed(up, runs, value):
    picture = Picture(noise(H, W, 3), alpha=np.full((H, W), value, dtype=np.uint8))
    made = up(picture)
    assert len(runs) == 1
    np.testing.assert_array_equal(made.alpha, np.full((S * H, S * W), value))
    np.testing.assert_array_equal(made.pixels, up(noise(H, W, 3)))


def test_alpha_is_enlarged_as_a_grey_picture_of_its_own(up, runs):
    layers = noise(H, W, 4)
    made = up(layers)
    assert len(runs) == 2
    np.testing.assert_array_equal(made[..., :3], up(layers[..., :3]))
    np.testing.assert_array_equal(made[..., 3], up(layers[..., 3]))
    both = up(layers[..., 2:])
    np.testing.assert_array_equal(both[..., 0], up(layers[..., 2]))
    np.testing.assert_array_equal(both[..., 1], made[..., 3])


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
        (noise(H, W, 3).astype(np.float32), "must be uint8, got float32"),
        (noise(H, W, 3).astype(np.uint16), "must be uint8, got uint16"),
        (noise(H, W, 5), r"1 to 4 channels, got \(11, 13, 5\)"),
        (noise(W), r"H W or H W C .* got \(13,\)"),
        (noise(2, H, W, 3), r"H W or H W C .* got \(2, 11, 13, 3\)"),
        (noise(0, W, 3), r"got \(0, 13, 3\)"),
        (torch.zeros(3, H, W, dtype=torch.uint8), "floating point in .* got torch.uint8"),
        (torch.zeros(1, H, W), r"3 H W or B 3 H W, got \(1, 11, 13\)"),
        (torch.zeros(H, W, 3), r"got \(11, 13, 3\)"),
        (torch.zeros(H, W), r"got \(11, 13\)"),
        (torch.zeros(3, 0, W), r"got \(3, 0, 13\)"),
    ],
    ids=lambda value: f"{value.dtype}{list(value.shape)}" if hasattr(value, "dtype") else "",
)
def test_arrays_and_tensors_that_are_no_picture_are_refused(up, picture, reason):
    with pytest.raises(ValueError, match=reason):
        up(picture)


def test_other_things_are_refused(up, tmp_path):
    with pytest.raises(TypeError, match="cannot enlarge a list; give a path, PIL, numpy or torch picture"):
        up([[0, 1], [1, 0]])
    with pytest.raises(PictureError, match=r"x\.png: no such file"):
        up(tmp_path / "x.png")


def test_one_pixel_is_enough(up):
    assert up(noise(1, 1, 3)).shape == (S, S, 3)


def test_values_are_clipped_and_rounded_not_cut():
    values = torch.tensor([-0.1, 0.0, 0.4999 / 255, 0.5001 / 255, 254.6 / 255, 1.0, 1.3])
    picture = values.expand(3, 1, -1)
    assert to_uint8(picture)[0, 0].tolist() == [0, 0, 0, 1, 255, 255, 255]


def test_a_device_that_is_not_there_is_refused_and_says_which_are():
    with pytest.raises(DeviceError, match="unknown device 'gpu'; choose from auto, cpu, cuda, mps"):
        choose_device("gpu")
    assert choose_device("cpu").type == "cpu"
    for kind, present in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available())):
        if not present:
            with pytest.raises(DeviceError, match=f"device {kind} is not available .*; available: cpu"):
                choose_device(kind)


def test_a_gpu_is_taken_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto").type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto").type == "cuda"
