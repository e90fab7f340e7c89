"""Paired arms: what they change, what they are compared with, and the page that comes of them."""

import csv
import shutil
from pathlib import Path

import pytest
import torch
from experiments.arms import Arm, Study, parser_of, run, with_steps
from experiments.attention_arms import ARMS, BLOCKS, MEAN, NONE, STUDY, from_trunk
from experiments.variants import Budget, enla, exact, without_attention

import enlca
from enlca.attention.block import NonLocalBlock
from enlca.errors import EnlcaError
from enlca.network.sr import SRConfig, SRNetwork
from enlca.training.parse import FIELDS
from experiments import attention_arms, ladder

IMAGES = Path(__file__).parents[2] / "docs" / "images"
STUDIES = {study.name: study for study in (ladder.STUDY, STUDY)}


@pytest.mark.parametrize("name", STUDIES)
def test_arms_change_fields_that_there_are_and_are_compared_with_arms_that_there_are(name):
    for arm in STUDIES[name].arms.values():
        for field in arm.overrides:
            section, _, inner = field.partition(".")
            assert inner in FIELDS[section]
        assert set(arm.against) <= set(STUDIES[name].arms)


def test_arms_that_are_compared_see_the_same_patches():
    for arm in ARMS.values():
        for other in arm.against:
            for field in ("data.patch", "data.batch"):
                assert arm.overrides.get(field) == ARMS[other].overrides.get(field)


def test_features_without_length_make_the_mean_of_v():
    torch.manual_seed(3)
    small = {"amplification": MEAN["network.amplification"], "n_features": MEAN["network.n_features"]}
    block = NonLocalBlock(7, dim=5, res_scale=1.0, **small)
    x = torch.randn(2, 7, 11, 13)
    mean = block.embed(x).v.mean(dim=2)
    torch.testing.assert_close(block(x) - x, mean[..., None, None].expand_as(x), atol=1e-5, rtol=0)


def test_ten_blocks_have_the_parameters_of_two_attention_blocks():
    def parameters(**settings):
        network = SRNetwork(SRConfig(scale=4, channels=32, embed_channels=16, embed_kernel=3, **settings))
        return sum(parameter.numel() for parameter in network.parameters())

    more = {
        name.partition(".")[2]: value for name, value in ARMS[BLOCKS].overrides.items() if "network" in name
    }
    ten, attending = parameters(**more), parameters(n_blocks=8, attention="exact")
    assert abs(ten - attending) < 0.01 * ten


@pytest.fixture(scope="module")
def trunk(tmp_path_factory):
    """A network without attention, of no training."""
    path = tmp_path_factory.mktemp("trunk") / "small" / "best.safetensors"
    path.parent.mkdir()
    enlca.save(
        SRNetwork(SRConfig(scale=4, channels=8, n_blocks=2, blocks_per_stage=1, attention="none")), path
    )
    return path


def test_all_arms_begin_with_the_trunk_in_its_sizes(trunk):
    study = from_trunk(trunk)
    assert study.budget.overrides["run.start_from"] == trunk
    assert study.budget.overrides["network.channels"] == 8
    assert study.budget.name == "arms_from_small"
    assert ARMS.keys() - study.arms.keys() == {BLOCKS}


def test_a_trunk_with_attention_is_refused(tiny_model):
    with pytest.raises(EnlcaError, match="a trunk has no attention; this network has linear"):
        from_trunk(tiny_model)


def test_an_arm_that_does_not_begin_with_a_trunk_is_refused(trunk):
    words = ["--arms", NONE, BLOCKS, "--trunk", str(trunk)]
    with pytest.raises(EnlcaError, match="none_10_blocks does not begin with a trunk"):
        attention_arms.study(attention_arms.parser().parse_args(words))


def test_an_arm_that_learns_from_a_teacher_needs_one(tmp_path):
    with pytest.raises(EnlcaError, match="teacher_1 needs --teacher DIR"):
        ladder.study(ladder.parser().parse_args(["--arms", "teacher_1"]))
    study = ladder.study(ladder.parser().parse_args(["--arms", "teacher_1", "--teacher", str(tmp_path)]))
    assert study.arms["teacher_1"].overrides == {"loss.teacher": 1.0, "data.teacher": tmp_path}


def test_the_page_has_every_finished_arm_beside_what_it_is_compared_with(tmp_path, capsys):
    for name in ("pictures", "Tiny"):
        (tmp_path / name).mkdir()
        shutil.copy(IMAGES / "bricks_crop.png", tmp_path / name)
    arms = {
        "none": Arm(without_attention().overrides),
        "exact_k24": Arm(exact(24).overrides, ("none",)),
        "enla_k6": Arm(enla(amplification=6).overrides, ("none", "exact_k24")),
    }
    study = Study(
        "some_arms", "some_arms", "Some arms", Budget("tiny", "smoke.yaml", 1, {"schedule.warmup": 1}), arms
    )
    study = with_steps(study, 2)
    words = ["--train", "pictures", "--test", "Tiny", "--runs", "runs", "--out", "results"]
    words = [
        str(tmp_path / word) if word in ("pictures", "Tiny", "runs", "results") else word for word in words
    ]
    line = parser_of(None, arms, ["none", "enla_k6"])
    words += ["--size", "9", "--rounds", "1"]
    run(study, line.parse_args([*words, "--minutes", "0"]))
    assert "no arm is finished yet" in capsys.readouterr().out
    run(study, line.parse_args(words))
    page = (tmp_path / "results" / "some_arms_2.md").read_text()
    assert "| enla_k6 | none | " in page
    assert "one seed: **not decided here**" in page
    assert "exact_k24" not in page
    with open(tmp_path / "results" / "some_arms_2.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["variant"], row["dataset"], row["image"]) for row in rows] == [
        (name, "Tiny", "bricks_crop") for name in ("none", "enla_k6")
    ]
    assert (tmp_path / "runs" / "tiny_2" / "none_seed0" / "scores.json").exists()
