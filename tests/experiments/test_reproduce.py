"""The commands of the paper's tables and figures run at the smallest budget, and judge as they say."""

import csv
import shutil
import sys
from pathlib import Path

import pytest
import scipy.stats

pytest.importorskip("matplotlib")

from experiments.ablation import T95, Mean, Score, gain, judged, mean_of
from experiments.variants import BUDGETS, enla, runs_of, train_all, without_attention

from enlca.errors import EnlcaError
from enlca.image.picture import read_image
from experiments import ablation, reproduce, table3_n1_n2

IMAGES = Path(__file__).parents[2] / "docs" / "images"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with training pictures, a benchmark folder, and what all experiments made of them."""
    folder = tmp_path_factory.mktemp("reproduce")
    for name in ("pictures", "Tiny"):
        (folder / name).mkdir()
        shutil.copy(IMAGES / "bricks_crop.png", folder / name)
    cells = ablation.expected()
    cells["table3"]["rows"] = [
        row for row in cells["table3"]["rows"] if row["n1"] > 0.015 and row["n2"] < 0.1
    ]
    words = ["--budget", "smoke", "--train", folder / "pictures", "--test", folder / "Tiny"]
    words += ["--runs", folder / "runs", "--out", folder / "results", "--report", folder / "REPORT.md"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table3_n1_n2, "expected", lambda: cells)
        patch.setattr(sys, "argv", ["reproduce", *map(str, words)])
        assert reproduce.main() == 0
    return folder


def test_every_experiment_has_its_section_and_none_was_left_out(place):
    report = (place / "REPORT.md").read_text()
    headings = [line.removeprefix("## ") for line in report.splitlines() if line.startswith("## ")]
    assert headings == ["Table 1: benchmarks", *reproduce.TITLES.values(), "Table 4: efficiency"]
    made = report.split("## Table 1")[1]
    assert "Made by" in made
    assert made.count("Made by `python -m experiments.") == len(reproduce.TITLES)


def test_an_experiment_without_a_result_is_not_run(place, tmp_path):
    report = reproduce.report("small", tmp_path)
    for title in reproduce.TITLES.values():
        assert f"## {title}\n\nnot run.\n" in report


@pytest.mark.parametrize("name", ["figure1_correlation", "figure5_visual", "figure7_sparsity"])
def test_figures_are_pictures_for_print(place, name):
    picture = read_image(place / "results" / f"{name}_smoke.png")
    # 7 inches at 300 dpi.
    assert picture.pixels.shape[1] == pytest.approx(2100, abs=40)
    assert picture.pixels.std() > 10


def test_the_curve_is_made_of_vectors_and_text(place):
    drawing = (place / "results" / "figure6_amplification_smoke.svg").read_text()
    assert "amplification k</text>" in drawing
    assert "<image" not in drawing


def test_tables_share_the_run_that_is_the_same(place):
    trained = {path.name for path in (place / "runs" / "smoke").iterdir()}
    assert "enla_k6_contrast0.02-0.08_seed0" in trained
    with open(place / "results" / "table2_ablation_smoke.csv", newline="") as file:
        table2 = {row["variant"]: row["psnr_y"] for row in csv.DictReader(file)}
    with open(place / "results" / "table3_n1_n2_smoke.csv", newline="") as file:
        table3 = {row["variant"]: row["psnr_y"] for row in csv.DictReader(file)}
    shared = "enla_k6_contrast0.02-0.08"
    assert table2[shared] == table3[shared]
    assert len(table2) == 5


def test_what_is_finished_is_not_trained_again_and_other_settings_are_refused(place):
    budget = BUDGETS["smoke"]
    runs = runs_of([without_attention()], budget, place / "runs", seeds=1)
    before = runs[0].weights.stat().st_mtime_ns
    train_all(runs, budget, train=place / "pictures")
    assert runs[0].weights.stat().st_mtime_ns == before
    with pytest.raises(EnlcaError, match="holds a run with other settings"):
        train_all(runs, budget, train=place / "Tiny")


def test_a_failure_is_one_line_and_the_others_go_on(place, monkeypatch, capsys, tmp_path):
    words = ["--budget", "smoke", "--test", "nowhere", "--out", tmp_path, "--report", tmp_path / "REPORT.md"]
    monkeypatch.setattr(sys, "argv", ["reproduce", *map(str, words), "--only", "figure5_visual"])
    assert reproduce.main() == 1
    assert capsys.readouterr().err.splitlines() == [
        "figure5_visual: nowhere: no such folder; name a folder with pictures"
    ]


def test_variants_that_differ_have_names_that_differ():
    variants = [without_attention(), enla(), enla(amplification=6), enla(contrast=(0.02, 0.08))]
    variants += [enla(amplification=6, contrast=(0.02, 0.04)), enla(amplification=6, contrast=(0.015, 0.04))]
    assert len({variant.name for variant in variants}) == len(variants)


def scores(variant, *values):
    return [Score(variant.name, seed, "Set5", value, 0.9, 1, 1.0) for seed, value in enumerate(values)]


def test_a_mean_knows_its_spread_and_one_seed_has_none():
    three = mean_of(scores(enla(), 30.0, 31.0, 32.0), enla())
    assert (three.value, three.spread, three.n) == (31.0, 1.0, 3)
    assert mean_of(scores(enla(), 30.0), enla()).spread is None


def test_a_gain_is_taken_seed_by_seed():
    both = scores(without_attention(), 30.0, 31.0, 32.0) + scores(enla(), 30.1, 31.1, 32.1)
    difference = gain(both, enla(), without_attention())
    assert difference.value == pytest.approx(0.1)
    assert difference.spread == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("difference", "verdict"),
    [
        (0.3, ": holds here"),
        (0.2, ": not decided here"),
        (-0.2, ": not decided here"),
        (-0.3, ": does not hold here"),
    ],
)
def test_a_claim_is_decided_by_students_t(difference, verdict):
    margin = scipy.stats.t.ppf(0.975, df=2) * 0.1 / 3**0.5
    assert 0.2 < margin < 0.3
    sentence = judged("it helps", Mean(difference, 0.1, 3))
    assert sentence.endswith(verdict)
    assert f"± {margin:.3f}" in sentence


def test_the_table_of_students_t_is_students_t():
    for n, quantile in T95.items():
        assert quantile == pytest.approx(scipy.stats.t.ppf(0.975, df=n - 1), abs=0.005)


def test_one_seed_decides_nothing():
    assert judged("it helps", Mean(1.0, None, 1)).endswith("not decided here")
