import shutil

import pytest
import torch

import enlca
from enlca.checkpoint import store
from enlca.checkpoint.store import bundled, load, load_with_card, locate, short_name
from enlca.errors import CheckpointError
from enlca.network.zoo import edsr


@pytest.fixture
def weights(tiny_model, tmp_path, monkeypatch):
    """A package with `tiny` at x2 and x4 and `other` at x3."""
    shutil.copy(tiny_model, tmp_path / "tiny_x4.safetensors")
    small = {"channels": 8, "n_blocks": 1, "blocks_per_stage": 1}
    enlca.save(edsr(2, **small), tmp_path / "tiny_x2.safetensors")
    enlca.save(edsr(3, **small), tmp_path / "other_x3.safetensors")
    (tmp_path / "README.md").touch()
    monkeypatch.setattr(store, "WEIGHTS", tmp_path)
    return tmp_path


def test_names_and_scales_are_those_of_the_files(weights):
    found = [(item.name, item.scale, item.card.network.scale) for item in bundled()]
    assert found == [("other", 3, 3), ("tiny", 2, 2), ("tiny", 4, 4)]


def test_a_name_means_x4_or_the_only_scale_there_is(weights):
    assert locate("tiny") == weights / "tiny_x4.safetensors"
    assert locate("tiny", 2) == weights / "tiny_x2.safetensors"
    assert locate("other") == weights / "other_x3.safetensors"


def test_an_unknown_name_lists_the_known_ones(weights):
    with pytest.raises(CheckpointError, match="unknown model 'huge'; known: other, tiny; or give"):
        load("huge")


def test_an_empty_package_says_that_it_knows_none(weights, monkeypatch):
    monkeypatch.setattr(store, "WEIGHTS", weights / "nowhere")
    with pytest.raises(CheckpointError, match="unknown model 'tiny'; known: none;"):
        load("tiny")


def test_a_scale_without_weights_lists_those_that_have_some(weights):
    with pytest.raises(CheckpointError, match="tiny has no weights for x3; available: x2, x4"):
        load("tiny", scale=3)


def test_a_file_is_taken_by_its_suffix_or_by_a_folder_in_its_name(weights, tiny_network, monkeypatch):
    monkeypatch.chdir(weights)
    for name in ("tiny_x4.safetensors", "./tiny_x4.safetensors", weights / "tiny_x4.safetensors"):
        assert load(name).config == tiny_network.config
    (weights / "tiny_x4.safetensors").rename(weights / "renamed")
    assert load("./renamed").config == tiny_network.config


@pytest.mark.parametrize(
    "path", ["/abs/olute/mine", "a/mine.pt", "mine.safetensors", "mine", "mine/best.safetensors"]
)
def test_a_model_is_called_without_folders_and_suffix(path):
    assert short_name(path) == "mine"


def test_nothing_is_drawn_from_the_global_generator(tiny_model):
    before = torch.get_rng_state()
    load(tiny_model)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_file_of_another_scale_is_refused(tiny_model):
    with pytest.raises(CheckpointError, match=r"tiny\.safetensors: upscales x4, not x2"):
        load(tiny_model, scale=2)
    assert load(tiny_model, scale=4).config.scale == 4


def test_a_network_comes_ready_to_use(tiny_model, tiny_network):
    network, card = load_with_card(tiny_model)
    assert not network.training
    assert card.network == network.config == tiny_network.config
    lr = torch.rand(1, 3, 7, 5)
    with torch.no_grad():
        assert torch.equal(network(lr), tiny_network(lr))
