"""`enlca compare`: models and folders of pictures on the same data, as table, CSV, JSON and page."""

import base64
import csv
import io
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import scipy.stats
from PIL import Image

from enlca.evaluation.crops import SIDE, most_different
from enlca.evaluation.intervals import Interval
from enlca.evaluation.scatter import Point, scatter
from enlca.metrics import psnr

S = 2
NAMES = ("a", "b", "c", "d")


def noise(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def put(pixels, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folders(tmp_path):
    """HR pictures, and two methods whose errors are noise: the second's is half as large."""
    for number, name in enumerate(NAMES):
        hr = noise(number, 82, 106, 3) // 2 + 64
        error = np.random.default_rng(9 + number).integers(-9 - number, 10 + number, hr.shape)
        put(hr, tmp_path / "Mine" / f"{name}.png")
        put((hr + error).astype(np.uint8), tmp_path / "rough" / f"{name}_Rough_x2.png")
        put((hr + error // 2).astype(np.uint8), tmp_path / "fine <&>" / f"{name}_Fine_x2.png")
    return tmp_path


def words_for(folders, *models):
    models = [word for model in models for word in ("--model", model)]
    return ("compare", "--data", folders / "Mine", "--scale", S, *models)


def test_table_csv_and_json_hold_a_paired_t_test_of_the_scores(folders, command):
    words = words_for(folders, folders / "rough", folders / "fine <&>", "bicubic")
    done = command(*words, "--csv", folders / "x.csv", "--json-file", folders / "x.json")
    assert (done.code, done.err) == (0, "")
    rows = list(csv.DictReader((folders / "x.csv").open()))
    scores = {
        model: [float(row["psnr_y"]) for row in rows if row["model"] == model]
        for model in ("rough", "fine <&>", "bicubic")
    }
    body = json.loads((folders / "x.json").read_text())
    assert (body["reference"], body["confidence"]) == ("rough", 0.95)
    assert [one["model"] for one in body["differences"]] == ["fine <&>", "bicubic"]
    lines = done.out.splitlines()[2:]
    for one, line, verdict in zip(body["differences"], lines[1:], ("better", "worse"), strict=True):
        test = scipy.stats.ttest_rel(scores[one["model"]], scores["rough"])
        expected = test.confidence_interval(0.95)
        assert (one["psnr_y"]["low"], one["psnr_y"]["high"]) == pytest.approx(tuple(expected))
        assert one["verdict"] == verdict
        assert f"{np.mean(scores[one['model']]) - np.mean(scores['rough']):+.3f} [{expected.low:+.3f}" in line
    assert [one["better"] for one in body["differences"]] == [4, 0]
    assert [result["datasets"]["Mine"]["n"] for result in body["results"]] == [4, 4, 4]
    for row in rows:
        base = scores["rough"][NAMES.index(row["image"])]
        assert float(row["psnr_y_difference"]) == pytest.approx(float(row["psnr_y"]) - base)
        assert row["reference"] == "rough"


def test_an_image_that_one_method_lacks_counts_for_none(folders, command):
    (folders / "fine <&>" / "b_Fine_x2.png").unlink()
    words = words_for(folders, folders / "rough", folders / "fine <&>")
    done = command(*words, "--json-file", folders / "x.json")
    assert done.code == 1
    assert "b.png: has no partner of the same name" in done.err
    assert len(done.err.splitlines()) == 1
    results = json.loads((folders / "x.json").read_text())["results"]
    assert [[row["image"] for row in result["images"]] for result in results] == [["a", "c", "d"]] * 2


class Page(HTMLParser):
    """Collects what a page refers to and shows; fails where tags do not nest."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.links, self.images, self.text = [], [], [], {}, []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset", "action")]
        if tag == "img":
            self.images.setdefault(found["alt"], []).append(found["src"])
        if tag not in ("img", "br", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text.append(data)


def decoded(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_the_page_is_one_file_with_the_crops_and_the_points(folders, command):
    # A patch in which the rough method is bad, and the fine one worse.
    hr = np.asarray(Image.open(folders / "Mine" / "a.png"))
    spoilt = np.asarray(Image.open(folders / "fine <&>" / "a_Fine_x2.png")).copy()
    spoilt[4 : 4 + SIDE, 30 : 30 + SIDE] = 255 - spoilt[4 : 4 + SIDE, 30 : 30 + SIDE]
    put(spoilt, folders / "fine <&>" / "a_Fine_x2.png")
    words = words_for(folders, folders / "rough", folders / "fine <&>", "bicubic")
    done = command(*words, "--html", folders / "x.html", "--crops", 1)
    assert (done.code, done.err) == (0, "")
    text = (folders / "x.html").read_text()
    page = Page(text)
    assert page.tags.count("circle") == 2 * len(NAMES)
    assert page.tags.count("svg") == 2
    assert "script" not in page.tags
    assert all(link.startswith("data:image/") for link in page.links)
    assert not re.search(r"https?://|url\(", text)
    assert "fine <&>" in page.text
    # One row of crops for each of the two methods; the first is of the spoilt patch.
    shown = ("the whole image", "HR", "rough", "fine <&>", "bicubic")
    assert {name: len(found) for name, found in page.images.items()} == dict.fromkeys(shown, 2)
    np.testing.assert_array_equal(decoded(page.images["fine <&>"][0]), spoilt[4 : 4 + SIDE, 30 : 30 + SIDE])
    np.testing.assert_array_equal(decoded(page.images["HR"][0]), hr[4 : 4 + SIDE, 30 : 30 + SIDE])
    assert decoded(page.images["the whole image"][0]).shape == hr.shape
    assert f"{psnr(spoilt, hr, shave=S):.2f} dB" in text


def test_the_pictures_that_models_make_can_be_kept_and_are_not_otherwise(folders, command, monkeypatch):
    made = folders / "made"
    (folders / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folders / "scratch"))
    words = words_for(folders, "bicubic", folders / "rough")
    command(*words, "--html", folders / "x.html")
    assert list((folders / "scratch").iterdir()) == []
    command(*words, "--html", folders / "y.html", "--save-images", made)
    assert sorted(path.relative_to(made).as_posix() for path in made.glob("**/*.png")) == [
        f"bicubic/Mine/{name}.png" for name in NAMES
    ]
    assert (folders / "x.html").read_text() == (folders / "y.html").read_text()


def test_equal_images_differ_by_nothing_and_have_no_crops(folders, command):
    same = folders / "same"
    for name in NAMES:
        put(np.asarray(Image.open(folders / "Mine" / f"{name}.png")), same / f"{name}.png")
    words = words_for(folders, same, folders / "same" / ".." / "Mine")
    done = command(*words, "--html", folders / "x.html", "--json-file", folders / "x.json")
    assert (done.code, done.err) == (0, "")
    [one] = json.loads((folders / "x.json").read_text())["differences"]
    assert one["psnr_y"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert one["verdict"] == "not decided"
    assert "img" not in Page((folders / "x.html").read_text()).tags
    # One of them perfect, the other not: better without bounds, which no interval can say.
    done = command(*words_for(folders, folders / "rough", same), "--json-file", folders / "x.json")
    [one] = json.loads((folders / "x.json").read_text())["differences"]
    assert (one["psnr_y"]["mean"], one["verdict"]) == ("inf", "not decided")


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (["bicubic"], "a comparison needs two models or more: repeat --model"),
        (["bicubic", "elsewhere"], "there is no picture that every method could be scored on"),
    ],
)
def test_what_cannot_be_compared_is_one_line(folders, command, models, message):
    put(noise(1, 9, 9), folders / "elsewhere" / "z.png")
    words = words_for(folders, *(folders / m if m == "elsewhere" else m for m in models))
    done = command(*words, "--html", folders / "x.html")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"enlca: {message}")
    # The first reasons.
    assert (done.err.count("\n"), done.err.count("has no partner")) == (1, 3 * (len(models) - 1))
    assert not (folders / "x.html").exists()


@pytest.mark.parametrize("sign", [1, -1])
def test_the_place_is_where_the_better_one_is_better_by_most(sign):
    hr = noise(4, 97, 89, 3) // 2 + 64
    reference, other = hr.astype(int), hr.astype(int)
    # On the whole image one is better; in a smaller place the other is better by more for each pixel.
    reference[20:50, 10:40] += 20
    other[60:70, 60:70] += 40
    pair = (reference, other) if sign > 0 else (other, reference)
    box = most_different(*(one.astype(np.uint8) for one in pair), hr, shave=S, side=30)
    assert box == (20, 10, 30, 30)


def test_a_place_is_inside_what_scores_count_even_in_small_pictures():
    hr = noise(4, 13, 89, 3)
    worse = hr // 2
    assert most_different(worse, hr, hr, shave=4, side=30)[::2] == (4, 5)


def test_points_lie_where_their_values_say():
    points = [Point(30.0, 0.25, "up", 0), Point(32.0, -0.25, "down", 1), Point(31.0, 0.0, "zero", 0)]
    drawn = scatter(
        [*points, Point(math.inf, 1.0, "no", 0)],
        [(0, Interval(mean=0.1, low=-0.3, high=0.5)), (1, Interval(mean=0.1, low=-math.inf, high=math.inf))],
        x_label="x",
        y_label="<y>",
    )
    assert "&lt;y&gt;" in drawn
    places = {
        name: (float(x), float(y))
        for x, y, name in re.findall(r'cx="([\d.]+)" cy="([\d.]+)".*?<title>(\w+)', drawn)
    }
    assert places.keys() == {"up", "down", "zero"}
    [zero] = re.findall(r'class="zero" x1="[\d.]+" y1="([\d.]+)"', drawn)
    assert places["zero"][1] == pytest.approx(float(zero), abs=0.1)
    assert places["up"][1] - places["zero"][1] == pytest.approx(
        places["zero"][1] - places["down"][1], abs=0.3
    )
    assert places["zero"][0] == pytest.approx((places["up"][0] + places["down"][0]) / 2, abs=0.2)
    [(top, height)] = re.findall(r'<rect [^>]*y="([\d.]+)" height="([\d.]+)"', drawn)
    per_db = (places["down"][1] - places["up"][1]) / 0.5
    assert float(height) == pytest.approx(0.8 * per_db, abs=0.5)
    assert float(top) == pytest.approx(float(zero) - 0.5 * per_db, abs=0.5)


def test_nothing_finite_draws_nothing():
    assert scatter([Point(math.inf, 0.0, "a", 0)], [], x_label="x", y_label="y") == ""
