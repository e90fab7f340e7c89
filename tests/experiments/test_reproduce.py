"""The commands of the paper's tables and figures run at the smallest budget, and judge as they say."""

import csv
import shutil
import sys
from itertools import chain, repeat
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats
import torch

pytest.importorskip("matplotlib")

from experiments.scores import Score, Verdict, gain, mean_of
from experiments.trainings import train_all
from experiments.variants import BUDGETS, Budget, enla, runs_of, whole_seeds, without_attention

from enlca.checkpoint.store import load
from enlca.errors import EnlcaError
from enlca.image.picture import read_image
from experiments import ablation, reproduce, table3_n1_n2, table4_psnr, trainings

OTHER = ["Table 4: cost", "Beyond the paper: attention, arm by arm"]
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
    cells["table4"] = {
        name: row
        for name, row in cells["table4"].items()
        if name not in ("ENLCA-m128", "ENLCA-m64", "ENLCA-m8", "ENLCA-m4")
    }
    words = ["--budget", "smoke", "--train", folder / "pictures", "--test", folder / "Tiny"]
    words += ["--runs", folder / "runs", "--out", folder / "results", "--report", folder / "REPORT.md"]
    with pytest.MonkeyPatch.context() as patch:
        for module in (table3_n1_n2, table4_psnr):
            patch.setattr(module, "expected", lambda: cells)
        patch.setattr(sys, "argv", ["reproduce", *map(str, words)])
        assert reproduce.main() == 0
    return folder


def test_every_experiment_has_its_section_and_none_was_left_out(place):
    report = (place / "REPORT.md").read_text()
    headings = [line.removeprefix("## ") for line in report.splitlines() if line.startswith("## ")]
    assert headings == ["Table 1: benchmarks", *reproduce.TITLES.values(), *OTHER]
    made = report.split("## Table 1")[1]
    assert "Made by" in made
    assert made.count("Made by `python -m experiments.") == len(reproduce.TITLES)


def test_the_network_of_table_4_with_its_own_m_is_that_of_table_2_and_other_ms_are_other_networks(place):
    with open(place / "results" / "table4_psnr_smoke.csv", newline="") as file:
        psnr = {row["variant"]: row["psnr_y"] for row in csv.DictReader(file)}
    shared = "enla_k6_contrast0.02-0.08"
    with open(place / "results" / "table2_ablation_smoke.csv", newline="") as file:
        assert psnr[shared] in [row["psnr_y"] for row in csv.DictReader(file) if row["variant"] == shared]
    trained = {"none", "exact", "lsh", shared, *(f"enla_k6_m{m}_contrast0.02-0.08" for m in (2, 16, 256))}
    assert set(psnr) == trained | {"m2", "m16", "m32", "m256", "softmax"}


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


def test_a_package_that_is_missing_is_named_before_anything_is_trained(monkeypatch):
    monkeypatch.setitem(sys.modules, "experiments.drawing", None)
    monkeypatch.delitem(sys.modules, "experiments.figure6_amplification", raising=False)
    says = "experiments.drawing is not installed: pip install --group figures"
    assert reproduce.run("figure6_amplification", ["--budget", "paper"]) == says


def test_variants_that_differ_have_names_that_differ():
    variants = [without_attention(), enla(), enla(amplification=6), enla(contrast=(0.02, 0.08))]
    variants += [enla(amplification=6, contrast=(0.02, 0.04)), enla(amplification=6, contrast=(0.015, 0.04))]
    assert len({variant.name for variant in variants}) == len(variants)


def scores(variant, table):
    """Scores of a variant: a row for each seed, a column for each picture."""
    return [
        Score(variant.name, seed, "Set5", f"{picture}.png", value, 1, 1.0)
        for seed, row in enumerate(table)
        for picture, value in enumerate(row)
    ]


def test_a_mean_knows_its_spread_and_one_seed_has_none():
    three = mean_of(scores(enla(), [[29.0, 31.0], [30.0, 32.0], [31.0, 33.0]]), enla(), "Set5")
    assert (three.value, three.spread, three.n) == (31.0, 1.0, 3)
    assert mean_of(scores(enla(), [[30.0]]), enla(), "Set5").spread is None


def test_a_gain_is_taken_seed_by_seed_and_picture_by_picture():
    worse = np.array([[30.0, 20.0, 25.0], [31.0, 21.0, 24.0]])
    gains = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    both = scores(without_attention(), [*worse, worse[0]]) + scores(enla(), worse + gains)
    np.testing.assert_allclose(gain(both, enla(), without_attention(), "Set5"), gains, atol=1e-12)


BY_PICTURE = np.array([-0.06, -0.03, 0.0, 0.03, 0.06])
BY_SEED = np.array([[-0.04], [0.0], [0.04]])


@pytest.mark.parametrize(
    ("difference", "by_seed", "by_picture", "word"),
    [
        (0.2, 1, 1, "holds here"),
        (-0.2, 1, 1, "does not hold here"),
        # More than the pictures differ, less than Student's t of three seeds.
        (0.09, 1, 0, "not decided here"),
        (-0.09, 1, 0, "not decided here"),
        # All seeds agree, the pictures do not.
        (0.03, 0, 1, "not decided here"),
        (0.0, 0, 0, "not decided here"),
    ],
)
def test_a_claim_is_decided_over_seeds_and_pictures_and_over_seeds_alone(
    difference, by_seed, by_picture, word
):
    verdict = Verdict.of(difference + by_seed * BY_SEED + by_picture * BY_PICTURE)
    assert verdict.word == word
    margin = scipy.stats.t.ppf(0.975, df=2) * 0.04 / 3**0.5 * by_seed
    assert verdict.seeds.high - verdict.seeds.mean == pytest.approx(margin, abs=1e-9)
    assert f"seeds ± {margin:.3f}" in str(verdict)


def test_one_seed_decides_nothing():
    verdict = Verdict.of(np.full((1, 24), 1.0))
    assert verdict.word == "not decided here"
    assert str(verdict).endswith("one seed")


def test_only_seeds_of_all_variants_are_compared(tmp_path):
    runs = runs_of([without_attention(), enla()], BUDGETS["smoke"], tmp_path, seeds=2)
    assert whole_seeds(runs, runs[:3]) == runs[:2]
    with pytest.raises(EnlcaError, match="1 of 4 trainings are finished, but no seed of all variants"):
        whole_seeds(runs, runs[1:2])


def test_out_of_time_a_training_is_saved_and_the_next_call_goes_on_to_the_same_bytes(place, monkeypatch):
    often = {"run.steps": 8, "run.log_every": 2, "schedule.warmup": 2}
    budget, settings = Budget("often", "smoke.yaml", 1, often), {"train": place / "pictures"}
    straight, run = (
        runs_of([without_attention()], budget, place / name, seeds=1)[0] for name in ("straight", "stopped")
    )
    assert train_all([straight], budget, **settings) == [straight]
    clock = chain([0.0, 0.0], repeat(61.0))
    monkeypatch.setattr(trainings, "time", SimpleNamespace(time=lambda: next(clock)))
    assert train_all([run], budget, minutes=1, **settings) == []
    assert torch.load(run.path / "last.ckpt")["step"] == 3
    assert train_all([run], budget, minutes=0, **settings) == []
    assert train_all([run], budget, **settings) == [run]
    own, other = (load(one.weights).state_dict() for one in (run, straight))
    assert all(torch.equal(own[name], other[name]) for name in other)
    assert train_all([run], budget, minutes=0, **settings) == [run]


def test_a_training_killed_before_its_first_save_is_begun_anew(place):
    budget = BUDGETS["smoke"]
    [run] = runs_of([enla()], budget, place / "killed", seeds=1)
    assert train_all([run], budget, train=place / "pictures") == [run]
    for name in ("last.ckpt", "previous.ckpt", "best.safetensors"):
        (run.path / name).unlink(missing_ok=True)
    assert train_all([run], budget, train=place / "pictures") == [run]
