"""`Repeats` is pictures whose detail is elsewhere in them again, and its list fits the recipes."""

import csv
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from experiments.repeats import (
    CHOSEN,
    ENERGY,
    GAIN,
    GAINS,
    LIST,
    OF_ONE_ORIGINAL,
    Gain,
    Source,
    candidates,
    checked,
    parser,
    predicted,
    ranked_already,
    run,
)

from enlca.data.left_out import read_names
from enlca.errors import EnlcaError
from enlca.image.picture import read_image
from enlca.image.resize import imresize
from enlca.training.parse import read_config

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"


def gain_of(hr):
    lr = imresize(hr, Fraction(1, 4))
    return predicted(*(torch.from_numpy(side.copy()).permute(2, 0, 1).float() / 255 for side in (lr, hr)))


def test_detail_that_repeats_is_predicted_and_noise_is_not():
    random = np.random.default_rng(1)
    # A period of 44 HR pixels, 11 of LR: more than the places nearby that are left out.
    tile = random.integers(0, 256, (44, 44, 1), dtype=np.uint8).repeat(3, axis=2)
    smooth = imresize(tile[:11, :11], Fraction(4))
    repeated, noise = np.tile(smooth, (3, 3, 1)), random.integers(0, 256, (132, 132, 3), dtype=np.uint8)
    assert gain_of(repeated).gain > 0.9
    assert gain_of(noise).gain < 0.05
    assert gain_of(noise).energy > ENERGY


def test_a_flat_picture_has_no_detail():
    assert gain_of(np.full((64, 68, 3), 7, np.uint8)).energy < 1e-6


NAMES = [f"{number:02}.png" for number in range(CHOSEN + 3)]


@pytest.fixture
def gains():
    """A picture with too little gain, one with too little detail, and more than are chosen."""
    found = {name: Gain(0.9 - number / 100, 0.5, 1.0) for number, name in enumerate(NAMES)}
    return found | {"00.png": Gain(GAIN / 2, 0.5, 1.0), "02.png": Gain(0.9, 0.5, ENERGY / 2)}


@pytest.fixture
def known():
    """Where the pictures come from: each of its own original."""
    return {name: Source(name, "s", "r", "l") for name in NAMES}


def test_candidates_have_gain_and_detail_and_the_best_is_first(gains):
    assert candidates(gains) == ["01.png", *NAMES[3:]]


def test_a_choice_is_24_candidates_few_of_one_original(gains, known):
    choice = candidates(gains)[:CHOSEN]
    assert checked(choice[::-1], gains, known) == choice
    with pytest.raises(EnlcaError, match=r"00\.png is no candidate"):
        checked(["00.png", *choice[1:]], gains, known)
    with pytest.raises(EnlcaError, match="Repeats has 24 pictures, 23 are named"):
        checked([*choice[1:], choice[-1]], gains, known)
    same = known | {name: known[name]._replace(original="wall") for name in choice[:OF_ONE_ORIGINAL]}
    assert checked(choice, gains, same) == choice
    same[choice[5]] = same[choice[5]]._replace(original="wall")
    with pytest.raises(EnlcaError, match="3 pictures are of wall, at most 2 may be"):
        checked(choice, gains, same)


def test_the_list_is_such_a_choice_of_what_was_ranked():
    gains = ranked_already(GAINS)
    names = read_names(LIST)
    # `gain | licence | repository | original`
    facts = [
        line.partition(" # ")[2].split(" | ") for line in LIST.read_text().splitlines() if line[0] != "#"
    ]
    known = {name: Source(fact[3], "", fact[2], fact[1]) for name, fact in zip(names, facts, strict=True)}
    assert all(source.licence for source in known.values())
    assert checked(names, gains, known) == names
    assert [fact[0] for fact in facts] == [f"{gains[name].gain:.3f}" for name in names]


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_that_train_on_our_pictures_leave_it_out(path):
    data = read_config(path)[0].data
    ours = data.train == Path("../shared/data/train")
    assert data.leave_out == (LIST.relative_to(ROOT) if ours else None)


def test_the_command_ranks_once_and_writes_the_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    train = tmp_path / "train"
    train.mkdir()
    pictures = ["bricks_crop.png", "astronaut_crop.png"]
    for name in pictures:
        shutil.copy(IMAGES / name, train)
    with open(train / "manifest.csv", "w", newline="") as file:
        rows = [[name, name, "s", "r", "CC0"] for name in pictures]
        csv.writer(file).writerows([["file", *Source._fields], *rows])
    places = {"train": "train", "out": "out", "list": "list.txt", "gains": "g.csv"}
    line = [word for option, name in places.items() for word in (f"--{option}", str(tmp_path / name))]
    run(parser().parse_args([*line, "--rank"]))
    before = (tmp_path / "g.csv").read_bytes()
    assert set(ranked_already(tmp_path / "g.csv")) == set(pictures)
    run(parser().parse_args([*line, "--rank"]))
    assert (tmp_path / "g.csv").read_bytes() == before
    (tmp_path / "list.txt").write_text("bricks_crop.png\n")
    capsys.readouterr()
    run(parser().parse_args(line))
    [made] = (tmp_path / "out" / "Repeats" / "HR").iterdir()
    assert capsys.readouterr().out == f"{made.parent}\n"
    np.testing.assert_array_equal(read_image(made).pixels, read_image(train / "bricks_crop.png").pixels)
