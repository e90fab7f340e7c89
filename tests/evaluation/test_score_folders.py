from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from enlca.data.names import Partners
from enlca.errors import PictureError
from enlca.evaluation.evaluate import score_folders
from enlca.image.picture import read_image
from enlca.metrics import psnr


def partner(original, made):
    return Partners([original], made).of(original)


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
        *("photo_RCAN_x2", "photo_LRBI_x2", "photox2", "photo_SRF_2_SR"),
    ],
)
@pytest.mark.parametrize("original", ["photo", "photo_HR", "photo_GT"])
def test_what_methods_append_to_names_does_not_matter(name, original):
    made = [Path("SR/other_x4.png"), Path(f"SR/{name}.png"), Path("SR/photo2_x4.png")]
    assert partner(Path(f"HR/{original}.png"), made) == made[1]


@pytest.mark.parametrize("tail", ["_NoSuchMethod-v2_x2", "_4x-UltraSharp", " (upscaled)", "_left_out"])
@pytest.mark.parametrize("original", ["", "_HR_x2", "_clean"])
def test_a_tail_that_all_names_have_does_not_matter(tail, original):
    names = ["img_001", "img_002", "ruby", "baby"]
    made = [Path(f"SR/{name}{tail}.png") for name in names]
    originals = [Path(f"HR/{name}{original}.png") for name in names]
    partners = Partners(originals, made)
    assert [partners.of(path) for path in originals] == made


def test_numbers_that_all_names_end_in_belong_to_the_name():
    partners = Partners([Path("HR/a.png"), Path("HR/b.png")], [Path("SR/a_7.png"), Path("SR/b_7.png")])
    with pytest.raises(PictureError, match="has no partner"):
        partners.of(Path("HR/a.png"))


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
    protocol = result.report.protocol.to_dict()
    assert (protocol["lr_source"], protocol["lr"]) == ("given", "not known")


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


def test_a_picture_too_small_for_the_audit_is_named_and_the_others_are_audited(folders, command):
    made, originals = folders
    for folder in folders:
        for path in folder.iterdir():
            path.unlink()
        Image.fromarray(noise(3, 24, 28, 3)).save(folder / "small.png")
        Image.fromarray(noise(len(folder.name), 40, 44, 3)).save(folder / "large.png")
    done = command("audit", made, originals, "--scale", 4)
    assert done.code == 1
    reason = "pictures of (24, 28) pixels are too small for a border of 10"
    assert done.err == f"enlca: {made / 'small.png'}: {reason}\n"
    (originals / "small.png").unlink()
    assert done.out == command("audit", made, originals, "--scale", 4).out


def test_a_folder_without_pictures_is_refused(folders, tmp_path):
    (tmp_path / "empty").mkdir()
    for pair in ((tmp_path / "empty", folders[1]), (folders[0], tmp_path / "empty")):
        with pytest.raises(PictureError, match="empty: no pictures"):
            score_folders(*pair, scale=4)


def test_pictures_and_originals_are_found_where_benchmarks_and_authors_keep_them(tmp_path, command):
    pixels = noise(0, 44, 36, 3)
    for folder, name, picture in [
        ("Set1/HR_x2", "a.png", pixels),
        ("Set1/LR_x2", "a.png", pixels[::2, ::2]),
        ("Theirs/Set1/x2", "a_Theirs_x2.png", pixels // 2),
        ("Flat/x2", "a_Flat_x2.png", pixels // 2),
    ]:
        (tmp_path / folder).mkdir(parents=True)
        Image.fromarray(picture).save(tmp_path / folder / name)
    for made, name in (("Theirs", "Theirs"), ("Theirs/Set1", "Set1"), ("Flat", "Flat"), ("Flat/x2", "Flat")):
        done = command("score", tmp_path / made, tmp_path / "Set1", "--scale", 2)
        assert (done.code, done.err) == (0, "")
        assert f"| Set1 | x2 | {name} | {psnr(pixels // 2, pixels, shave=2):.3f} |" in done.out
    assert command("audit", tmp_path / "Theirs", tmp_path / "Set1", "--scale", 2).code == 0


# What the authors print for Set5: RCAN in its repository, with three digits, RDN in its paper.
PRINTED = {
    "RCAN": {2: ("38.274", "0.9614"), 3: ("34.742", "0.9299"), 4: ("32.634", "0.9002")},
    "RDN": {2: ("38.24", "0.9614"), 3: ("34.71", "0.9296"), 4: ("32.47", "0.8990")},
}


@pytest.mark.data
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("method", PRINTED)
def test_published_pictures_score_what_their_authors_print(shared_data, command, method, scale):
    published = shared_data / "peers" / "published"
    if not published.is_dir():
        pytest.skip(f"no published pictures at {published}")
    done = command("score", published / method, published / "HR" / f"x{scale}", "--scale", scale)
    assert (done.code, done.err) == (0, "")
    name, *scores, n = done.out.splitlines()[2].strip("| ").split(" | ")[2:]
    assert (name, n) == (method, "5")
    for score, printed in zip(scores, PRINTED[method][scale], strict=True):
        digits = len(printed.partition(".")[2])
        assert f"{float(score):.{digits}f}" == printed
