from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from enlca.data.degradations import degrade_folder
from enlca.errors import PictureError
from enlca.image.picture import read_image
from enlca.image.resize import imresize


def noise(*shape):
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def hr(tmp_path):
    folder = tmp_path / "hr"
    folder.mkdir()
    Image.fromarray(noise(19, 23, 3)).save(folder / "rgb.png")
    Image.fromarray(noise(17, 29)).save(folder / "grey.bmp")
    return folder


@pytest.mark.data
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("name", ["Set5", "Set14"])
def test_the_benchmarks_lr_pictures_are_made_again_to_the_bit(shared_data, tmp_path, name, scale):
    folder = shared_data / "test" / name
    assert degrade_folder(folder / f"HR_x{scale}", tmp_path, scale=scale).failures == []
    published = sorted((folder / f"LR_x{scale}").iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == [path.name for path in published]
    for path in published:
        np.testing.assert_array_equal(read_image(tmp_path / path.name).rgb, read_image(path).rgb)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_pictures_are_mod_cropped_and_shrunk_and_grey_stays_grey(hr, tmp_path, scale):
    assert degrade_folder(hr, tmp_path / "a" / "lr", scale=scale).failures == []
    for name, pixels in (("rgb", noise(19, 23, 3)), ("grey", noise(17, 29)[..., None])):
        height, width = (side - side % scale for side in pixels.shape[:2])
        lr = read_image(tmp_path / "a" / "lr" / f"{name}.png").pixels
        np.testing.assert_array_equal(lr, imresize(pixels[:height, :width], Fraction(1, scale)))


def test_two_pictures_that_would_become_one_file_are_refused_before_any_work(hr, tmp_path):
    Image.fromarray(noise(17, 29)).save(hr / "rgb.jpg")
    with pytest.raises(PictureError, match=r"rgb\.jpg and .*rgb\.png would both become rgb\.png; rename one"):
        degrade_folder(hr, tmp_path / "lr", scale=2)
    assert not (tmp_path / "lr").exists()


def test_the_hr_pictures_are_never_overwritten(hr, tmp_path):
    before = (hr / "rgb.png").read_bytes()
    (tmp_path / "link").symlink_to(hr)
    for target in (hr, hr / ".." / "hr", tmp_path / "link"):
        with pytest.raises(PictureError, match="need a folder of their own"):
            degrade_folder(hr, target, scale=2)
    assert (hr / "rgb.png").read_bytes() == before


def test_a_picture_that_fails_is_named_and_does_not_stop_the_others(hr, tmp_path):
    Image.fromarray(noise(16, 16, 4)).save(hr / "alpha.png")
    Image.fromarray(noise(3, 40, 3)).save(hr / "thin.png")
    (hr / "text.png").write_text("dear diary")
    seen = []
    made, kept, failures = degrade_folder(
        hr, tmp_path / "s", scale=4, on_picture=lambda *step: seen.append(step)
    )
    assert (made, kept) == (2, 0)
    assert [line.partition(": ")[0] for line in failures] == [
        str(hr / name) for name in ("alpha.png", "text.png", "thin.png")
    ]
    assert ["transparency" in failures[0], "smaller than one pixel" in failures[2]] == [True, True]
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == ["grey.png", "rgb.png"]
    assert [step[1:] for step in seen] == [(done, 5) for done in range(6)]


def test_a_target_that_cannot_be_a_folder_is_refused(hr, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(PictureError, match="cannot be made"):
        degrade_folder(hr, tmp_path / "file" / "lr", scale=2)
