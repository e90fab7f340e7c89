"""Many pictures and many models in one go, the sample, the strength of repair, and the words on the page."""

import copy
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import enlca
from enlca.checkpoint import BASE, PHOTO, store
from enlca.errors import NothingOpen, Stopped
from enlca.explorer import actions, html
from enlca.explorer.actions import BATCH, BICUBIC, Choice, Explorer
from enlca.explorer.models import Models
from enlca.explorer.session import Visitors
from enlca.explorer.words import MEANINGS, question
from enlca.image.picture import read_image


def silent(share: float, text: str) -> None:
    assert 0 <= share <= 1
    assert text


@pytest.fixture
def files(tmp_path) -> list[Path]:
    """Two pictures of one stem, one that is none, and one that is larger than the page looks into."""
    random = np.random.default_rng(1)
    for name, shape in {"a.png": (7, 9, 3), "a.bmp": (5, 4, 3), "large.png": (110, 120, 3)}.items():
        Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8)).save(tmp_path / name)
    (tmp_path / "text.png").write_text("dear diary")
    return [tmp_path / name for name in ("a.png", "a.bmp", "text.png", "large.png")]


def test_a_batch_is_one_zip_of_what_the_package_makes_and_names_what_failed(explorer, tiny_model, files):
    done = explorer.upscale_many("a", files, str(tiny_model), 4, silent)
    assert done.n_done == 3
    [failure] = done.failures
    assert failure.startswith("text.png: not a picture")
    with zipfile.ZipFile(done.file) as whole:
        assert whole.namelist() == ["a_x4.png", "a_bmp_x4.png", "large_x4.png"]
        whole.extract("a_bmp_x4.png", done.file.parent)
    expected = enlca.Upscaler(tiny_model)(files[1])
    found = read_image(done.file.parent / "a_bmp_x4.png")
    np.testing.assert_allclose(found.pixels, expected.pixels, atol=1)
    assert explorer.visitors.may_fetch(str(done.file))
    # The results are in the zip alone, and the next job deletes it.
    assert [path.name for path in done.file.parent.glob("*_x4.png")] == ["a_bmp_x4.png"]
    explorer.upscale_many("a", files[:1], str(tiny_model), 4, silent)
    assert not done.file.exists()


def test_a_picture_of_a_batch_is_limited_by_its_header(explorer, tiny_model, tmp_path):
    Image.new("L", (400, 300)).save(tmp_path / "huge.png")
    done = explorer.upscale_many("a", [tmp_path / "huge.png"], str(tiny_model), 4, silent)
    assert (done.n_done, len(done.failures)) == (0, 1)
    assert done.failures == ["huge.png: 400 x 300 is more than the 0.1 megapixels of a batch"]


def test_a_batch_can_be_cancelled(explorer, tiny_model, files):
    def stop(share: float, text: str) -> None:
        explorer.visitors.of("a").stop(BATCH)

    with pytest.raises(Stopped):
        explorer.upscale_many("a", files, str(tiny_model), 4, stop)


def test_a_picture_is_upscaled_by_several_models_and_any_two_are_compared(explorer, tiny_model, picture):
    explorer.open("a", picture)
    names = [str(tiny_model), "enlcn-tiny"]
    results = explorer.upscale_by("a", names, 4, silent)
    assert list(results) == names
    assert results["enlcn-tiny"].file.name == "noise_enlcn-tiny_x4.png"
    before, after, file = explorer.pair("a", str(tiny_model), "enlcn-tiny")
    assert (before, after, file) == (results[names[0]].after, results[names[1]].after, results[names[1]].file)
    assert explorer.pair("a", BICUBIC, names[0])[0] == results[names[0]].before
    assert not np.array_equal(read_image(before).pixels, read_image(after).pixels)
    explorer.open("a", picture)
    with pytest.raises(NothingOpen):
        explorer.pair("a", BICUBIC, names[0])


def test_the_sample_is_opened_as_a_dropped_picture_is(tmp_path, models):
    explorer = Explorer(models, Visitors(tmp_path), max_megapixels=2.5)
    assert explorer.open_sample("a").picture.size == (160, 160)
    assert explorer.visitors.of("a").picture().name == "sample.png"


@pytest.mark.parametrize(("size", "most"), [((240, 360), 8), ((30, 20), 16)])
def test_attribution_of_a_large_picture_takes_8_steps(models, tmp_path, monkeypatch, size, most):
    asked = []

    def lam(network, lr, *, steps, most_steps, **settings):
        asked.append((steps, most_steps))
        raise Stopped("enough")

    monkeypatch.setattr(actions, "lam", lam)
    Image.new("RGB", size).save(tmp_path / "a.png")
    large = Explorer(models, Visitors(tmp_path), max_megapixels=1.0)
    large.open("a", tmp_path / "a.png")
    with pytest.raises(Stopped):
        large.attribute("a", Choice(models.default, 4), 8, silent)
    assert asked == [(8, most)]


@pytest.fixture
def photo_models(tiny_network, tmp_path, monkeypatch) -> Models:
    """Models of a package with a model for photographs and the one that it was trained on from."""
    photo = copy.deepcopy(tiny_network)
    for parameter in photo.parameters():
        parameter.data.mul_(1.1)
    for name, network in {
        PHOTO: photo,
        BASE: tiny_network,
        "enlcn-tiny": tiny_network,
    }.items():
        enlca.save(network, tmp_path / f"{name}_x4.safetensors")
    monkeypatch.setattr(store, "WEIGHTS", tmp_path)
    return Models()


def test_the_strength_of_repair_mixes_the_model_for_photographs(photo_models):
    assert photo_models.has_strength(PHOTO, 4)
    assert not photo_models.has_strength("enlcn-tiny", 4)
    weight = {
        strength: next(photo_models.load(PHOTO, 4, strength).network.parameters()).clone()
        for strength in (0.0, 0.5, 1.0)
    }
    base = next(photo_models.load(BASE, 4).network.parameters())
    assert weight[0.0].equal(base)
    np.testing.assert_allclose(weight[0.5], (weight[0.0] + weight[1.0]) / 2, rtol=1e-5, atol=1e-6)
    assert photo_models.load("enlcn-tiny", 4, 0.3) is photo_models.load("enlcn-tiny", 4)


def test_without_a_model_for_photographs_there_is_no_strength(models):
    names = {item.name for item in store.bundled()}
    assert models.has_strength(PHOTO, 4) == ({PHOTO, BASE} <= names)


@pytest.mark.parametrize("word", MEANINGS)
def test_a_question_mark_says_one_sentence_and_links_to_more(word):
    text = question(word)
    assert f'aria-label="What is {word}?"' in text
    sentence = text.partition("<span>")[2].partition(" <a")[0]
    assert sentence.endswith(".")
    assert sentence.count(". ") == 0
    assert 'href="https://github.com/enlca/enlca/blob/main/docs/' in text


@pytest.mark.parametrize("name", ["NLSA", "NLSA, as applied"])
def test_maps_ask_what_nlsa_and_effective_n_are(name):
    figure = html.figure(name, "", "data:,", (3, 5), {"effective N": "7"})
    assert "What is NLSA?" in figure
    assert "What is effective N?" in figure
    assert "<details" not in html.figure("Exact softmax", "", "data:,", (3, 5), {"entropy": "7"})


def test_a_page_that_was_idle_says_in_plain_words_what_became_of_its_picture(explorer, models, picture):
    explorer.open("a", picture)
    explorer.visitors.forget("a")
    with pytest.raises(NothingOpen, match="it was deleted while this page was idle; drop it once more"):
        explorer.upscale("a", models.default, 4, silent)
