from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from enlca.data.pairs import as_rgb, find_pairs, load_pair
from enlca.errors import PictureError
from enlca.image.resize import imresize

H, W = 19, 23


def noise(*shape):
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)


def put(pixels, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def test_both_sides_of_a_pair_come_from_disk_where_they_exist(tmp_path):
    for name in ("img_10", "img_2"):
        put(noise(18, 22, 3), tmp_path / "HR_x2" / f"{name}.png")
        put(noise(9, 11, 3), tmp_path / "LR_x2" / f"{name}.png")
    pairs = find_pairs(tmp_path, 2)
    assert [pair.name for pair in pairs] == ["img_2", "img_10"]
    lr, hr = load_pair(pairs[0], 2)
    np.testing.assert_array_equal(lr, noise(9, 11, 3))
    np.testing.assert_array_equal(hr, noise(18, 22, 3))


def test_each_scale_has_its_own_folders(tmp_path):
    put(noise(18, 22, 3), tmp_path / "HR_x2" / "two.png")
    put(noise(18, 21, 3), tmp_path / "HR_x3" / "three.png")
    assert [find_pairs(tmp_path, scale)[0].name for scale in (2, 3)] == ["two", "three"]
    with pytest.raises(PictureError, match="no pictures"):
        find_pairs(tmp_path, 4)


@pytest.mark.parametrize("folder", [".", "HR_x3"])
def test_missing_lr_pictures_are_made_by_matlabs_bicubic(tmp_path, folder):
    put(noise(H, W, 3), tmp_path / folder / "x.png")
    [pair] = find_pairs(tmp_path, 3)
    lr, hr = load_pair(pair, 3)
    np.testing.assert_array_equal(hr, noise(H, W, 3)[:18, :21])
    np.testing.assert_array_equal(lr, imresize(hr, Fraction(1, 3)))


def test_a_missing_partner_is_named(tmp_path):
    for name in ("a", "b"):
        put(noise(18, 22, 3), tmp_path / "HR_x2" / f"{name}.png")
    put(noise(9, 11, 3), tmp_path / "LR_x2" / "a.png")
    good, bad = find_pairs(tmp_path, 2)
    assert good.fault is None
    with pytest.raises(PictureError, match=r"HR_x2/b\.png: has no partner of the same name in .*LR_x2"):
        load_pair(bad, 2)


def test_sizes_that_do_not_fit_are_named(tmp_path):
    put(noise(18, 22, 3), tmp_path / "HR_x2" / "a.png")
    put(noise(9, 13, 3), tmp_path / "LR_x2" / "a.png")
    [pair] = find_pairs(tmp_path, 2)
    with pytest.raises(PictureError, match=r"LR_x2/a\.png: 13x9 times 2 is not the size .* \(22x18\)"):
        load_pair(pair, 2)


def test_less_than_one_lr_pixel_is_refused(tmp_path):
    put(noise(3, 40, 3), tmp_path / "thin.png")
    [pair] = find_pairs(tmp_path, 4)
    with pytest.raises(PictureError, match=r"thin\.png: 40x3 is less than one pixel after x4"):
        load_pair(pair, 4)


def test_grey_counts_as_rgb_with_equal_channels(tmp_path):
    put(noise(16, 24), tmp_path / "grey.png")
    put(noise(16, 24)[..., None].repeat(3, axis=2), tmp_path / "rgb.png")
    grey, rgb = (load_pair(pair, 4) for pair in find_pairs(tmp_path, 4))
    for one, other in zip(grey, rgb, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(as_rgb(noise(5, 7, 1)), noise(5, 7, 1).repeat(3, axis=2))


def test_transparency_does_not_count(tmp_path):
    put(noise(16, 24, 4), tmp_path / "x.png")
    _, hr = load_pair(find_pairs(tmp_path, 4)[0], 4)
    np.testing.assert_array_equal(hr, noise(16, 24, 4)[..., :3])


@pytest.mark.parametrize(
    ("hr_folder", "lr_folder", "lr_name"),
    [
        ("HR_x2", "LR_x2", "baby"),
        ("HR", "LR_bicubic/X2", "babyx2"),
        ("HR", "LR_x2", "baby_x2"),
        ("HR", "LR", "baby_LR"),
        ("original", "LRbicx2", "baby"),
        ("DIV2K_valid_HR", "DIV2K_valid_LR_bicubic/X2", "babyx2"),
    ],
)
def test_the_usual_layouts_are_found(tmp_path, hr_folder, lr_folder, lr_name):
    put(noise(19, 23, 3), tmp_path / hr_folder / "baby.png")
    put(noise(9, 11, 3), tmp_path / lr_folder / f"{lr_name}.png")
    if (other := lr_folder.replace("2", "3")) != lr_folder:
        # LR pictures of another scale lie beside and must not be taken.
        put(noise(6, 7, 3), tmp_path / other / f"{lr_name.replace('x2', 'x3')}.png")
    [pair] = find_pairs(tmp_path, 2)
    lr, hr = load_pair(pair, 2)
    np.testing.assert_array_equal(lr, noise(9, 11, 3))
    np.testing.assert_array_equal(hr, noise(19, 23, 3)[:18, :22])
