"""Weights between two models: a straight line from one to the other, refused where there is none."""

import pytest
import torch
from PIL import Image

from enlca.checkpoint.file import save
from enlca.checkpoint.mixing import mix
from enlca.errors import CheckpointError
from enlca.network.sr import SRConfig, SRNetwork

SETTINGS = {"channels": 8, "n_blocks": 2, "blocks_per_stage": 1, "embed_channels": 4, "n_features": 8}


def network(seed, **settings):
    torch.manual_seed(seed)
    return SRNetwork(SRConfig(**{"scale": 2, **SETTINGS, **settings})).eval()


@pytest.fixture
def files(tmp_path):
    """Two models of one ancestor, with random features of their own; and one of other settings."""
    for name, made in {"a": network(1), "b": network(2), "wide": network(3, channels=12)}.items():
        save(made, tmp_path / f"{name}.safetensors")
    return tmp_path


def tensors(made):
    return made.state_dict()


@pytest.mark.parametrize("strength", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_parameters_are_on_the_line_between_and_random_features_are_those_of_the_nearer(files, strength):
    a, b = tensors(network(1)), tensors(network(2))
    made = mix(files / "a.safetensors", files / "b.safetensors", strength=strength)
    learned = {name for name, _ in made.named_parameters()}
    assert learned
    assert learned != a.keys()
    for name, tensor in tensors(made).items():
        if name in learned:
            torch.testing.assert_close(tensor, a[name] + strength * (b[name] - a[name]))
        else:
            assert torch.equal(tensor, (b if strength >= 0.5 else a)[name]), name


def test_the_ends_are_the_models_to_the_bit(files):
    for strength, seed in ((0.0, 1), (1.0, 2)):
        made = tensors(mix(files / "a.safetensors", files / "b.safetensors", strength=strength))
        assert all(torch.equal(tensor, made[name]) for name, tensor in tensors(network(seed)).items())


def test_networks_of_other_settings_are_refused_in_one_line(files):
    with pytest.raises(CheckpointError, match=r"cannot be mixed: they differ in channels 8 and 12$"):
        mix(files / "a.safetensors", files / "wide.safetensors", strength=0.5)
    with pytest.raises(CheckpointError, match="upscales x2, not x4"):
        mix(files / "a.safetensors", files / "b.safetensors", strength=0.5, scale=4)
    with pytest.raises(ValueError, match=r"strength must be in \[0, 1\], got nan"):
        mix(files / "a.safetensors", files / "b.safetensors", strength=float("nan"))


def test_the_command_mixes(files, command, monkeypatch):
    monkeypatch.chdir(files)
    Image.effect_noise((9, 7), 60).convert("RGB").save("photo.png")

    def pixels(name, *more, model="b.safetensors"):
        done = command("upscale", "photo.png", "--model", model, "-o", name, *more)
        assert (done.code, done.err) == (0, "")
        return Image.open(name).tobytes()

    ends = [pixels("b.png"), pixels("a.png", model="a.safetensors")]
    base = ("--base", "a.safetensors", "--strength")
    assert [pixels("1.png", *base, 1), pixels("0.png", *base, 0)] == ends
    assert pixels("half.png", *base, 0.5) not in ends


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--base", "a.safetensors"), "--base is the model that --strength mixes with"),
        (("--strength", 1.5), "Invalid value for '--strength'"),
        (("--strength", "nan"), "Invalid value for '--strength'"),
        (
            ("--strength", 0.5, "--base", "wide.safetensors"),
            "cannot be mixed: they differ in channels 12 and 8",
        ),
        (("--strength", 0.5, "--base", "gone"), "unknown model 'gone'"),
    ],
)
def test_strength_that_cannot_be_is_refused_in_one_line(files, command, monkeypatch, words, message):
    monkeypatch.chdir(files)
    Image.new("RGB", (9, 7)).save("photo.png")
    done = command("upscale", "photo.png", "--model", "b.safetensors", *words)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert message in done.err
    assert not (files / "photo_x2.png").exists()
