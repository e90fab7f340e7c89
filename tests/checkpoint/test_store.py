import os
from dataclasses import fields

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file as read_tensors

from enlca.checkpoint import file
from enlca.checkpoint.file import Card, load_file, read_card, save
from enlca.network.sr import SRConfig
from enlca.network.zoo import edsr, nlan

TRAINING = {"data": "somewhere", "steps": 20, "n1": 0.02, "n2": 0.08}
SCORES = {"Set5": {"psnr_y": 31.4159, "n": 5}}
SMALL = {"channels": 8, "n_blocks": 2, "blocks_per_stage": 1}


def assert_same_state(network, other):
    state, again = network.state_dict(), other.state_dict()
    assert again.keys() == state.keys()
    for name, tensor in state.items():
        assert torch.equal(again[name], tensor), name


def test_a_network_comes_back_bit_for_bit_with_its_card(tiny_network, tmp_path):
    path = tmp_path / "x.safetensors"
    save(tiny_network, path, variant="released", training=TRAINING, scores=SCORES)
    again, card = load_file(path)
    assert_same_state(tiny_network, again)
    assert again.config == tiny_network.config
    expected = Card(network=tiny_network.config, variant="released", training=TRAINING, scores=SCORES)
    assert card == read_card(path) == expected
    assert not again.training


def test_what_a_loaded_network_makes_is_the_same_to_the_bit(tiny_network, tmp_path):
    save(tiny_network, tmp_path / "x.safetensors")
    lr = torch.rand(1, 3, 13, 11, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(load_file(tmp_path / "x.safetensors")[0](lr), tiny_network(lr))


@pytest.mark.parametrize("make", [edsr, nlan])
def test_networks_of_other_kinds_come_back_too(make, tmp_path):
    network = make(3, **SMALL, embed_channels=4, skip="bilinear")
    save(network, tmp_path / "x.safetensors")
    again, card = load_file(tmp_path / "x.safetensors")
    assert_same_state(network, again)
    assert card.network.attention == network.config.attention


def test_the_random_features_travel_with_the_weights(tiny_network, tmp_path):
    save(tiny_network, tmp_path / "x.safetensors")
    names = [name for name in read_tensors(tmp_path / "x.safetensors") if name.endswith("projection")]
    assert len(names) == 3


def test_half_precision_halves_the_file_and_loads_as_float32(tiny_network, tmp_path):
    save(tiny_network, tmp_path / "32.safetensors")
    save(tiny_network, tmp_path / "16.safetensors", dtype=torch.float16)
    stored = read_tensors(tmp_path / "16.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    again = load_file(tmp_path / "16.safetensors")[0].state_dict()
    assert {tensor.dtype for tensor in again.values()} == {torch.float32}
    for name, tensor in tiny_network.state_dict().items():
        assert torch.equal(again[name], tensor.half().float()), name
    numbers = sum(tensor.numel() for tensor in stored.values())
    saved = (tmp_path / "32.safetensors").stat().st_size - (tmp_path / "16.safetensors").stat().st_size
    assert saved == pytest.approx(2 * numbers, rel=0.05)


def test_storing_leaves_the_network_as_it_was(tiny_network, tmp_path):
    before = {name: tensor.clone() for name, tensor in tiny_network.state_dict().items()}
    save(tiny_network, tmp_path / "x.safetensors", dtype=torch.float16)
    for name, tensor in tiny_network.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, before[name])


def test_every_setting_survives_json():
    words = {"attention": "exact", "features": "sharp", "upsampler": "direct", "skip": "bilinear"}
    other = {"scale": 3, "n_blocks": 6, "blocks_per_stage": 3, "mean": (0.1, 0.2, 0.3), **words}
    for field in fields(SRConfig):
        if field.name not in other:
            assert field.type in (int, float), f"add a value for {field.name}"
            other[field.name] = 2 * field.default + field.type(3)
    # A floor needs the default features, and other features no floor: each is left out once.
    for default in ("features", "feature_floor"):
        values = {name: value for name, value in other.items() if name != default}
        card = Card(network=SRConfig(**values), variant="released", training=TRAINING, scores=SCORES)
        again = Card.from_json(card.to_json())
        assert again == card
        same = [f.name for f in fields(SRConfig) if getattr(again.network, f.name) == f.default]
        assert same == [default]


def test_the_card_is_read_without_the_weights(tiny_model, monkeypatch):
    class NoWeights:
        def __init__(self, path, framework):
            self.file = safe_open(path, framework)

        def __enter__(self):
            self.file.__enter__()
            return self

        def __exit__(self, *error):
            return self.file.__exit__(*error)

        def metadata(self):
            return self.file.metadata()

    monkeypatch.setattr(file, "safe_open", NoWeights)
    assert read_card(tiny_model).network.scale == 4


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tiny_network, tmp_path, monkeypatch, step, error
):
    path = tmp_path / "x.safetensors"
    save(tiny_network, path, training=TRAINING)
    before = path.read_bytes()

    def fail(*arguments):
        raise error

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(type(error)):
        save(tiny_network, path, training={"steps": 99})
    monkeypatch.undo()
    assert [file.name for file in tmp_path.iterdir()] == ["x.safetensors"]
    assert path.read_bytes() == before


def test_a_new_file_takes_the_place_of_the_old_one(tiny_network, tmp_path):
    path = tmp_path / "x.safetensors"
    save(tiny_network, path, training={"steps": 1})
    save(tiny_network, path, training={"steps": 2})
    assert read_card(path).training == {"steps": 2}
    assert [file.name for file in tmp_path.iterdir()] == ["x.safetensors"]


def test_others_may_read_the_file(tiny_model):
    assert tiny_model.stat().st_mode & 0o777 == 0o644
