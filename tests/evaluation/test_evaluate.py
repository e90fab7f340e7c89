import csv
import json
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from enlca.errors import CheckpointError, EvaluationError, PictureError
from enlca.evaluation.evaluate import evaluate, method_called
from enlca.image.picture import read_image
from enlca.image.resize import imresize
from enlca.inference.upscaler import Upscaler
from enlca.metrics import psnr, ssim

S = 4
# Bicubic's row in every paper on super-resolution.
BICUBIC_ON_SET5 = {2: 33.67, 3: 30.40, 4: 28.43}


def texture(height, width):
    row, column, channel = np.indices((height, width, 3))
    return (128 + 100 * np.sin(row / 3 + column / 5 + channel)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    """A flat benchmark folder: an RGB and a grey picture."""
    folder = tmp_path / "Mine"
    folder.mkdir()
    Image.fromarray(texture(61, 47)).save(folder / "rgb.png")
    Image.fromarray(texture(43, 59)[..., 1]).save(folder / "grey.png")
    return folder


@pytest.mark.data
@pytest.mark.parametrize("scale", BICUBIC_ON_SET5)
def test_bicubic_on_set5_scores_what_the_literature_prints(shared_data, tmp_path, command, scale):
    done = command(
        *("evaluate", "--model", "bicubic", "--data", shared_data / "test" / "Set5", "--scale", scale),
        *("--json-file", tmp_path / "x.json", "--csv", tmp_path / "x.csv"),
    )
    assert (done.code, done.err) == (0, "")
    body = json.loads((tmp_path / "x.json").read_text())
    assert body["datasets"]["Set5"]["psnr_y"] == pytest.approx(BICUBIC_ON_SET5[scale], abs=0.01)
    assert body["datasets"]["Set5"]["n"] == 5
    assert body["protocol"]["lr_source"] == "files"
    rows = list(csv.DictReader((tmp_path / "x.csv").open()))
    assert np.mean([float(row["psnr_y"]) for row in rows]) == pytest.approx(
        body["datasets"]["Set5"]["psnr_y"]
    )
    assert {(row["dataset"], row["model"], row["protocol"]) for row in rows} == {("Set5", "bicubic", "whole")}


def test_a_network_is_scored_on_what_the_upscaler_makes(folder, tiny_model):
    up = Upscaler(tiny_model)
    result = evaluate(method_called(str(tiny_model), scale=S), [folder], scale=S)
    assert result.failures == []
    assert [row.image for row in result.report.images] == ["grey", "rgb"]
    for row in result.report.images:
        hr = read_image(folder / f"{row.image}.png").rgb
        hr = hr[: hr.shape[0] // S * S, : hr.shape[1] // S * S]
        sr = up(imresize(hr, Fraction(1, S)))
        assert (row.psnr_y, row.ssim_y) == (psnr(sr, hr, shave=S), ssim(sr, hr, shave=S))
        assert (row.height, row.width, row.model, row.scale) == (*hr.shape[:2], "tiny", S)


def test_scoring_twice_differs_in_nothing_but_the_time(folder, tiny_model, tmp_path, command):
    texts = []
    for name in ("one", "two"):
        options = (
            "--data",
            folder,
            "--scale",
            S,
            "--json-file",
            tmp_path / name,
            "--csv",
            tmp_path / f"{name}.csv",
        )
        assert command("evaluate", "--model", tiny_model, *options).code == 0
        body = json.loads((tmp_path / name).read_text())
        rows = list(csv.DictReader((tmp_path / f"{name}.csv").open()))
        seconds = [float(row.pop("seconds")) for row in [*body["images"], *rows]]
        assert min(seconds) > 0
        texts.append(json.dumps([body, rows]))
    assert texts[0] == texts[1]


def test_several_folders_may_follow_one_option_or_several(folder, tmp_path, command):
    more = [tmp_path / name for name in ("Two", "Three")]
    for other in more:
        other.mkdir()
        Image.fromarray(texture(41, 37)).save(other / "x.png")
    start = ("evaluate", "--model", "bicubic", "--scale", S, "--data", folder)
    one = command(*start, *more)
    several = command(*start, "--data", more[0], "--data", more[1])
    assert one == several
    assert [line.split()[1] for line in one.out.splitlines()[2:]] == ["Mine", "Two", "Three"]


def test_the_upscaled_pictures_can_be_kept(folder, tmp_path):
    method = method_called("bicubic", scale=S)
    evaluate(method, [folder], scale=S, save_images=tmp_path / "kept")
    made = sorted(path.relative_to(tmp_path / "kept").as_posix() for path in tmp_path.glob("kept/**/*.png"))
    assert made == ["Mine/grey.png", "Mine/rgb.png"]
    hr = read_image(folder / "rgb.png").rgb[:60, :44]
    expected = imresize(imresize(hr, Fraction(1, S)), Fraction(S))
    np.testing.assert_array_equal(read_image(tmp_path / "kept" / "Mine" / "rgb.png").pixels, expected)


def test_progress_names_each_picture_and_ends(folder):
    seen = []
    evaluate(method_called("bicubic", scale=2), [folder], scale=2, on_image=lambda *step: seen.append(step))
    assert seen == [("Mine/grey", 0, 2), ("Mine/rgb", 1, 2), ("", 2, 2)]


def test_a_picture_that_cannot_be_scored_is_named_and_the_others_are_scored(folder, tmp_path, command):
    (folder / "broken.png").write_text("dear diary")
    Image.fromarray(texture(14, 37)).save(folder / "small.png")
    Image.fromarray(texture(2, 37)).save(folder / "thin.png")
    done = command("evaluate", "--model=bicubic", "--data", folder, "--scale=3", "--csv", tmp_path / "x.csv")
    assert done.code == 1
    broken, small, thin = done.err.splitlines()
    assert "broken.png: not a picture" in broken
    assert "Mine/small: a picture of 36x12 pixels is too small" in small
    assert "thin.png: 37x2 is less than one pixel after x3" in thin
    [means] = done.out.splitlines()[2:]
    assert means.startswith("| Mine | x3 | bicubic |")
    assert means.endswith("| 2 |")
    rows = csv.DictReader((tmp_path / "x.csv").open())
    assert [row["image"] for row in rows] == ["grey", "rgb"]


def test_where_nothing_could_be_scored_nothing_is_written(tmp_path, command):
    (tmp_path / "Bad").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "Bad" / name).write_text("dear diary")
    options = ("--model=bicubic", "--data", tmp_path / "Bad", "--scale=4", "--json-file", tmp_path / "x.json")
    done = command("evaluate", *options, "--csv", tmp_path / "x.csv")
    assert (done.code, done.out) == (1, "")
    first, second = done.err.splitlines()
    assert "a.png: not a picture" in first
    assert "b.png: not a picture" in second
    assert [path.name for path in tmp_path.iterdir()] == ["Bad"]


def test_folders_of_one_name_would_mix_their_scores(folder, tmp_path):
    (tmp_path / "other" / "Mine").mkdir(parents=True)
    with pytest.raises(EvaluationError, match="same name"):
        evaluate(method_called("bicubic", scale=S), [folder, tmp_path / "other" / "Mine"], scale=S)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(PictureError, match="gone: no such folder"):
        evaluate(method_called("bicubic", scale=S), [tmp_path / "gone"], scale=S)


def test_a_network_of_another_scale_is_refused(tiny_model):
    with pytest.raises(CheckpointError, match="upscales x4, not x2"):
        method_called(str(tiny_model), scale=2)


def test_results_that_cannot_be_written_are_named(folder, tmp_path, command):
    (tmp_path / "file").touch()
    start = ("evaluate", "--model=bicubic", "--scale=4", "--data", folder)
    for option in (("--json-file", tmp_path / "file" / "x.json"), ("--save-images", tmp_path / "file")):
        done = command(*start, *option)
        assert done.code != 0
        assert str(tmp_path / "file") in done.err
        assert len(done.err.splitlines()) == 1
