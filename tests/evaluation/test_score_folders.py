from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from enlca.data.pairs import partner
from enlca.errors import PictureError
from enlca.evaluation.evaluate import score_folders
from enlca.image.picture import read_image
from enlca.metrics import psnr


def noise(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def folders(tmp_path):
    """Originals of 43x31, and SR pictures of them, mod-cropped to x4."""
    originals, made = tmp_path / "HR", tmp_path / "theirs"
    originals.mkdir()
    made.mkdir()
    for seed, name in enumerate(("a", "b")):
        pixels = noise(seed, 43, 31, 3)
        Image.fromarray(pixels).save(originals / f"{name}.png")
        Image.fromarray(pixels[:40, :28] // 2).save(made / f"{name}_x4_SR.png")
    return made, originals


@pytest.mark.parametrize(
    "name",
    [
        *("photo", "photo_x4", "photox4", "photo_SR", "photo_x4_SR", "photo_sr_x4", "photo_bicubic"),
        *("photo_enlcn-tiny", "photo_EDSR_baseline_x4", "photo_x4_enlcn-tiny"),
    ],
)
@pytest.mark.parametrize("original", ["photo", "photo_HR", "photo_GT"])
def test_what_methods_append_to_names_does_not_matter(name, original):
    made = [Path("SR/other_x4.png"), Path(f"SR/{name}.png"), Path("SR/photo2_x4.png")]
    assert partner(Path(f"HR/{original}.png"), made) == made[1]


def test_names_that_end_like_a_suffix_are_still_told_apart():
    for tail in ("", "_x4", "_x4_SR"):
        made = [Path(f"SR/box{number}{tail}.png") for number in (2, 3, 4)]
        assert [partner(Path(f"HR/box{number}.png"), made) for number in (2, 3, 4)] == made


def test_the_closest_name_wins():
    made = [Path("SR/a_x2.png"), Path("SR/a.png"), Path("SR/a_x4_SR.png")]
    assert partner(Path("HR/a.png"), made) == made[1]
    assert partner(Path("HR/a_x2.png"), made) == made[0]


def test_two_equally_close_names_are_refused_instead_of_guessed():
    with pytest.raises(
        PictureError, match=r"HR/a\.png: a_x2\.png and a_x4\.png in SR could all be its partner"
    ):
        partner(Path("HR/a.png"), [Path("SR/a_x2.png"), Path("SR/a_x4.png")])


def test_pictures_are_compared_with_their_mod_cropped_originals(folders):
    result = score_folders(*folders, scale=4)
    assert result.failures == []
    for row in result.report.images:
        hr = read_image(folders[1] / f"{row.image}.png").pixels[:40, :28]
        assert row.psnr_y == psnr(hr // 2, hr, shave=4)
        assert (row.height, row.width, row.dataset, row.model) == (40, 28, "HR", "theirs")
    assert [row.image for row in result.report.images] == ["a", "b"]
    assert result.report.protocol.to_dict()["lr_source"] == "given"


def test_equal_pictures_score_infinity(folders):
    made, originals = folders
    Image.fromarray(noise(0, 43, 31, 3)[:40, :28]).save(made / "a_x4_SR.png")
    assert score_folders(made, originals, scale=4).report.images[0].psnr_y == np.inf


def test_a_missing_partner_and_a_wrong_size_are_named_and_the_others_are_scored(folders, command):
    made, originals = folders
    Image.fromarray(noise(3, 43, 31)).save(originals / "lonely.png")
    Image.fromarray(noise(3, 43, 31)).save(originals / "c.png")
    Image.fromarray(noise(3, 43, 31)).save(made / "c.png")
    done = command("score", made, originals, "--scale", 4)
    assert done.code == 1
    wrong, lonely = done.err.splitlines()
    assert "c.png: 31x43 is not the size of its original, mod-cropped to x4 (28x40)" in wrong
    assert f"lonely.png: has no partner of the same name in {made}" in lonely
    assert "| HR | x4 | theirs |" in done.out
    assert "| 2 |" in done.out


def test_a_folder_without_pictures_is_refused(folders, tmp_path):
    (tmp_path / "empty").mkdir()
    for pair in ((tmp_path / "empty", folders[1]), (folders[0], tmp_path / "empty")):
        with pytest.raises(PictureError, match="empty: no pictures"):
            score_folders(*pair, scale=4)
