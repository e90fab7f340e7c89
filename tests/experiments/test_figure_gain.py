import numpy as np
import pytest
from experiments.figure_gain import Gain, gains, local_deviation, parser, run, share

from enlca.evaluation.evaluate import method_called
from enlca.image.picture import Picture, write_image


def gain(squares, contrast):
    squares, contrast = np.array([squares], dtype=float), np.array([contrast], dtype=float)
    return Gain("a", np.zeros((*squares.shape, 3), np.uint8), 0.0, squares, contrast)


def test_shares_of_the_gain_go_by_contrast_over_all_pictures():
    found = [gain([4, 0], [3, 1]), gain([1, 3], [0, 2])]  # by contrast: 1, 0, 3, 4
    assert share(found, 0.75, 1) == 0.5
    assert share(found, 0, 0.5) == 0.125
    assert sum(share(found, part, part + 0.25) for part in (0, 0.25, 0.5, 0.75)) == pytest.approx(1)


def test_local_deviation_is_that_of_the_window_as_far_as_the_picture_goes():
    plane = np.random.default_rng(1).uniform(0, 255, (11, 13))
    found = local_deviation(plane)
    assert found[5, 6] == pytest.approx(plane[2:9, 3:10].std())
    assert found[0, 12] == pytest.approx(plane[:4, 9:].std())


@pytest.fixture
def dataset(tmp_path):
    pixels = np.random.default_rng(2).integers(0, 256, (24, 28, 3), dtype=np.uint8)
    (tmp_path / "HR").mkdir()
    write_image(tmp_path / "HR" / "noise.png", Picture(pixels))
    return tmp_path


def test_the_gain_of_a_method_over_another_is_that_of_its_psnr(dataset):
    bicubic, tiny = (method_called(name, scale=4, device="cpu") for name in ("bicubic", "edsr-tiny"))
    [one], [other] = gains(bicubic, tiny, dataset, 4), gains(tiny, bicubic, dataset, 4)
    assert one.db == -other.db != 0
    np.testing.assert_array_equal(one.squares, -other.squares)


def test_the_command_draws_the_pictures_asked_for(dataset, tmp_path):
    out = tmp_path / "out"
    words = ["bicubic", "edsr-tiny", "--test", str(dataset), "--out", str(out)]
    run(parser().parse_args([*words, "--pictures", "0"]))
    assert [path.suffix for path in out.iterdir()] == [".md"]
    run(parser().parse_args(words))
    assert len(list(out.glob("*.png"))) == 1
    assert "edsr-tiny" in next(out.glob("*.md")).read_text()
