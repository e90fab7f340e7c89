"""What the weights in the package promise: complete cards, and the scores that stand on them."""

import pytest
import torch
from lightning.fabric import Fabric
from safetensors.torch import load_file as read_tensors

from enlca.checkpoint import BASE, DEFAULT_MODEL
from enlca.checkpoint.file import load_file
from enlca.checkpoint.store import bundled
from enlca.evaluation.evaluate import evaluate, method_called
from enlca.network.zoo import NETWORKS
from enlca.training.validation import ValidationSet

# The least that may be shipped: PSNR-Y on Set5 and Set14.
FLOORS = {
    ("enlcn-tiny", 2): (37.65, 33.15),
    ("enlcn-tiny", 3): (33.9, 29.92),
    ("enlcn-tiny", 4): (31.62, 28.2),
    ("edsr-tiny", 4): (31.3, 28.0),
    ("enlcn-light", 2): (37.74, 33.28),
    ("enlcn-light", 3): (34.16, 30.13),
    ("enlcn-light", 4): (31.91, 28.38),
}
# What repairs photographs may lose on clean pictures.
REPAIRING = {("photo", 2): (36.1, 32.2), ("photo", 4): (31.1, 27.8)}


@pytest.fixture(params=bundled() or [None], ids=lambda item: item.path.name if item else "none")
def item(request):
    """One of the package's files; a package without any fails every test here."""
    assert request.param is not None, "there are no weights in src/enlca/checkpoint/weights"
    return request.param


def test_what_the_readme_promises_is_there():
    assert (FLOORS | REPAIRING).keys() <= {(item.name, item.scale) for item in bundled()}


def test_the_default_is_the_best_for_clean_pictures_and_worth_its_time():
    psnr = {(item.name, item.scale): item.card.scores["Set5"]["psnr_y"] for item in bundled()}
    for (name, scale), value in psnr.items():
        assert value <= psnr[DEFAULT_MODEL, scale], name
    assert psnr[DEFAULT_MODEL, 4] >= psnr["enlcn-tiny", 4] + 0.2


def test_a_bundled_file_loads_and_is_what_its_name_says(item):
    network, card = load_file(item.path)
    assert card == item.card
    assert card.network.scale == item.scale
    assert all(tensor.isfinite().all() for tensor in network.state_dict().values())


def test_bundled_networks_are_those_that_their_names_build():
    named = [item for item in bundled() if item.name in NETWORKS]
    assert named
    for item in named:
        assert item.card.network == NETWORKS[item.name](item.scale).config, item.path.name


def test_a_bundled_file_is_small_and_in_half_precision(item):
    assert {tensor.dtype for tensor in read_tensors(item.path).values()} == {torch.float16}
    assert item.path.stat().st_size < 5_000_000


def test_a_bundled_card_tells_how_its_weights_came_about(item):
    card = item.card
    assert card.variant in ("paper", "released")
    kinds = {"edsr-tiny": "none", "enlcn-light": "window", "photo": "window"}
    assert card.network.attention == kinds.get(item.name, "linear")
    assert card.training["data"]
    assert card.training["steps"] > 0
    assert card.scores.keys() >= {"Set5", "Set14"}


def test_weights_that_repair_say_how_their_pictures_were_degraded(item):
    assert ("degradation" in item.card.training) == ((item.name, item.scale) in REPAIRING)


def test_weights_that_repair_have_the_settings_of_those_that_strength_mixes_them_with():
    settings = {(item.name, item.scale): item.card.network for item in bundled()}
    for name, scale in settings.keys() & REPAIRING.keys():
        # So memory and time are the same, too.
        assert settings[name, scale] == settings[BASE, scale]


def test_the_contrastive_loss_was_on_in_the_training_of_weights_with_enla_and_of_no_others(item):
    training = item.card.training
    if item.card.network.attention in ("none", "window"):
        assert not training.keys() & {"contrast_weight", "n1", "n2", "hinge", "anchors"}
        return
    assert 0 < training["n1"] < training["n2"]
    assert training["contrast_weight"] > 0
    warm_up = training["contrast_after_epoch"] * training.get("steps_per_epoch", 1000)
    assert warm_up < training["steps"]


@pytest.mark.data
def test_the_score_on_the_card_is_what_evaluate_finds(item, shared_data):
    method = method_called(str(item.path), scale=item.scale, device="cpu")
    found = evaluate(method, [shared_data / "test" / "Set5"], scale=item.scale)
    assert found.failures == []
    measured = found.report.datasets()["Set5"]
    assert measured["n"] == 5
    assert item.card.scores["Set5"]["psnr_y"] == pytest.approx(measured["psnr_y"], abs=0.005)


@pytest.mark.data
def test_the_residual_blocks_are_alive(item, shared_data):
    pictures = ValidationSet(shared_data / "test" / "Set5", item.scale)
    found = pictures.score(load_file(item.path)[0], Fabric(accelerator="cpu", devices=1))
    assert found.dead_units is not None
    assert found.dead_units <= 0.1


def test_the_scores_on_the_card_are_good_enough_to_ship(item):
    set5, set14 = (FLOORS | REPAIRING)[item.name, item.scale]
    assert item.card.scores["Set5"]["psnr_y"] >= set5
    assert item.card.scores["Set14"]["psnr_y"] >= set14
