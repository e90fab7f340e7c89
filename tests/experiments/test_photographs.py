"""Tables about weights for photographs say what their rows say; halos are paper beyond paper."""

from fractions import Fraction

import numpy as np
import pytest
from experiments.contenders import CONDITIONS, WEB, Contender, Scores, degraded
from experiments.halos import CHARTS, INK, PAPER, SIDE, Halo, chart, halo
from experiments.panels import GAP, TITLE, grid
from experiments.photographs import NO, YES, Row, gain, gains, verdicts

from enlca.data.degradations import degrade_folder
from enlca.data.recipes import Degradation
from enlca.evaluation.evaluate import Method
from enlca.image.picture import Picture, read_image, write_image
from enlca.image.resize import imresize
from enlca.metrics import psnr
from experiments import gallery, photographs

RANDOM = np.random.default_rng(0)
HR = RANDOM.integers(0, 256, (44, 52, 3), dtype=np.uint8)


def test_web_is_what_the_command_makes_with_seed_7(tmp_path):
    (tmp_path / "hr").mkdir()
    write_image(tmp_path / "hr" / "one.png", Picture(HR))
    preset = Degradation(preset="web")
    assert degrade_folder(tmp_path / "hr", tmp_path / "lr", scale=4, degradation=preset, seed=7) == (1, 0, [])
    assert np.array_equal(
        read_image(tmp_path / "lr/one.png").rgb, degraded(HR, "one", CONDITIONS[WEB], scale=4)
    )


def test_noise_of_a_condition_depends_on_the_name_alone():
    noise = CONDITIONS["noise 15"]
    assert np.array_equal(degraded(HR, "one", noise, scale=4), degraded(HR, "one", noise, scale=4))
    assert not np.array_equal(degraded(HR, "one", noise, scale=4), degraded(HR, "two", noise, scale=4))
    assert np.array_equal(degraded(HR, "one", CONDITIONS["clean"], scale=4), imresize(HR, Fraction(1, 4)))


def test_a_score_is_kept_by_weights_and_pixels(tmp_path):
    calls = []

    def upscale(lr):
        calls.append(lr.shape)
        return imresize(lr, Fraction(4))

    lr, path = imresize(HR, Fraction(1, 4)), tmp_path / "made" / "scores.json"
    one = Contender("one", 4, Method("one", upscale), "a")
    first = Scores(path).of(one, lr, HR, eye=False)
    assert first == (round(psnr(upscale(lr), HR, shave=4), 4), None)
    calls.clear()
    assert Scores(path).of(one, lr, HR, eye=False) == first
    assert calls == []
    Scores(path).of(Contender("one", 4, one.method, "b"), lr, HR, eye=False)
    Scores(path).of(one, 255 - lr, HR, eye=False)
    assert len(calls) == 2


@pytest.mark.parametrize("name", CHARTS)
def test_a_halo_is_paper_that_is_beyond_paper(name):
    hr = chart(name)
    assert hr.shape == (SIDE, SIDE, 3)
    assert (hr.min(), hr.max()) == (INK, PAPER)
    assert (hr == PAPER).mean() > 0.2 < (hr == INK).mean()
    blurred = (hr.astype(np.int64) + np.roll(hr, 4, 0) + np.roll(hr, 4, 1)) // 3
    assert halo(hr).max() == halo(blurred.astype(np.uint8)).max() == 0
    half, away = SIDE // 2, hr.copy()
    away[:half] += 9
    away[half:] -= 9
    paper = np.concatenate([hr[:half, :, 0] == PAPER, hr[half:, :, 0] == INK])
    np.testing.assert_allclose(halo(away)[paper], 9 * 219 / 255)
    # Darker ink is none.
    towards = hr.copy()
    towards[:half] -= 9
    towards[half:] += 9
    assert halo(towards).max() == 0
    bicubic = imresize(imresize(hr, Fraction(1, 4)), Fraction(4))
    assert 0.2 < halo(bicubic).mean() < 2


def rows(photo, light=0.0):
    """Rows of two pictures, bicubic at 20 and 22 dB; `photo` has a gain that depends on the condition."""
    gained = {"bicubic": lambda _: 0.0, "enlcn-light": lambda _: light, "photo": photo}
    return [
        Row(condition, image, model, base + number * 0.1 * (model == "photo") + of(condition), of(condition))
        for condition in CONDITIONS
        for number, (image, base) in enumerate({"a": 20.0, "b": 22.0}.items())
        for model, of in gained.items()
    ]


def halos(photo):
    return [Halo("text", "clean", "bicubic", 1.0, 2.0), Halo("text", "clean", "photo", photo, 2.0)]


def words(table):
    return [line.split("|")[-2].strip() for line in table[2:]]


def test_verdicts_are_those_of_the_issue():
    assert words(verdicts(rows(lambda _: 0.6), halos(1.0))) == [YES] * 5
    assert words(verdicts(rows(lambda _: 0.3, light=0.3), halos(1.2))) == [NO, NO, YES, YES, NO]
    below = verdicts(rows(lambda condition: -0.1 if condition == "noise 15" else 0.6), halos(1.0))
    assert words(below) == [YES, YES, YES, NO, YES]
    assert "least -0.05 dB, noise 15" in below[5]
    assert words(verdicts(rows(lambda _: 0.6, light=1.3), halos(1.0)))[2] == NO


def test_gains_are_differences_picture_by_picture():
    table = rows(lambda _: 0.6)
    found = gain(table, WEB, "photo", "bicubic")
    assert found.mean == pytest.approx(0.65)
    assert found.low < 0.6 < found.high
    lines = gains(table, ["bicubic", "enlcn-light", "photo"])
    assert len(lines) == 2 + len(CONDITIONS)
    assert lines[2].startswith("| clean | 21.00 | +0.000 [+0.000, +0.000] | +0.650")
    assert lines[2].endswith("| +0.60 |")


def test_groups_of_the_gallery_are_the_ends_of_the_ranking_and_a_draw_from_between():
    names = [str(number) for number in range(20)]
    found = gallery.chosen(names)
    assert found["best"] == ["0", "1", "2", "3"]
    assert found["worst"] == ["19", "18", "17", "16"]
    assert len(found["random"]) == 4
    assert not {*found["random"]} & {*found["best"], *found["worst"]}
    assert gallery.chosen(names) == found
    assert gallery.chosen(names[:6]) == {"best": names[:4], "worst": ["5", "4"], "random": []}


def test_every_candidate_has_a_licence_and_a_preset_or_none():
    listed = gallery.candidates()
    assert len({one.name for one in listed}) == len(listed) >= 16
    assert all(one.licence and one.source for one in listed)
    assert {one.preset for one in listed} == {"web", "phone", None}
    assert all(side % 4 == 0 for one in listed if one.preset for side in one.at)


@pytest.mark.data
def test_every_candidate_is_there_and_its_crop_is_inside(shared_data):
    for one in gallery.candidates():
        height, width = read_image(one.file(shared_data)).pixels.shape[:2]
        side = gallery.SIDE if one.preset else gallery.SIDE // 4
        assert one.at[0] + side <= width, one.name
        assert one.at[1] + side <= height, one.name


def test_panels_are_shown_pixel_by_pixel():
    sheet = np.asarray(grid([("a", HR), ("b", 255 - HR), ("c", HR)], columns=2))
    assert sheet.shape == (2 * (44 + TITLE + GAP), 2 * (52 + GAP), 3)
    top, left = GAP // 2 + TITLE, GAP // 2 + 52 + GAP
    assert np.array_equal(sheet[top : top + 44, left : left + 52], 255 - HR)


def test_the_command_takes_the_weights_that_are_named():
    assert photographs.parser().parse_args(["--photo", "runs/mine"]).photo == "runs/mine"
    assert gallery.parser().parse_args([]).photo == "photo"
