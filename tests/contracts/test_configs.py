"""Every configuration in `configs/` can be read, and its header says what a run of it needs and gives."""

import json
import re
from pathlib import Path

import pytest

from enlca.training.parse import read_config
from enlca.training.recipes import recipes

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "configs").glob("*.yaml"))
NAMES = [path.stem for path in FILES]
# Of no table of their own: a first try, and what the arms of ablations and of the ladder differ from.
OTHERS = ["smoke", "ablation_small", "ladder"]
CONTROLS = ["edsr_tiny_x4", "edsr_light_x4", "edsr_x4", "nlan_tiny_x4", "nlan_light_x4", "nlan_x4"]


def config(name):
    return read_config(ROOT / "configs" / f"{name}.yaml")[0]


def test_all_recipes_are_there():
    families = [f"enlcn{size}_x{scale}" for size in ("", "_light", "_tiny") for scale in (2, 3, 4)]
    continued = ["enlcn_light_wide_x4", "enlcn_tiny_continued_x4"]
    others = ["released_x4", "light_trunk_x4", "photo_x2", "photo_x4", *continued, *OTHERS]
    assert sorted([*families, *CONTROLS, *others]) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_configuration_is_read_and_is_what_its_name_says(name):
    settings = config(name)
    if name not in OTHERS:
        assert settings.network.scale == int(name[-1])
        assert settings.run.dir == Path("runs") / name
    kinds = {"edsr": "none", "light": "none", "ladder": "none", "nlan": "exact"}
    ours = "window" if name.startswith(("enlcn_light", "photo")) else "linear"
    assert settings.network.attention == kinds.get(name.split("_")[0], ours)


@pytest.mark.parametrize("name", NAMES)
def test_the_header_says_command_hardware_cost_expected_and_measured(name):
    header = "".join(re.findall(r"(?m)^#.*\n", (ROOT / "configs" / f"{name}.yaml").read_text()))
    assert f"enlca train configs/{name}.yaml" in header
    for word in ("Hardware and cost: ", "Expected", "Measured"):
        assert f"# {word}" in header, word
    assert max(map(len, header.splitlines())) <= 120
    assert "@" not in header


def test_every_recipe_is_known_by_name_and_listed_with_its_first_sentence(command):
    assert {name: path.name for name, path in recipes().items()} == {name: f"{name}.yaml" for name in NAMES}
    lines = command("configs").out.splitlines()
    assert [line.split()[0] for line in lines] == sorted(NAMES)
    smoke = "A network in a minute: proof that training works here, on two cores and any folder of pictures"
    assert f"smoke            {smoke}" in lines
    assert all(len(line.split()) > 3 for line in lines)
    listed = json.loads(command("configs", "--json").out)["configs"]
    assert [one["name"] for one in listed] == sorted(NAMES)


def test_a_recipe_is_shown_and_trained_by_its_name(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "configs" / "smoke.yaml").read_text()
    assert command("configs", "show", "smoke").out == text
    resolved = command("train", "smoke", "--run.steps", 7, "--print_config")
    assert resolved.code == 0
    assert "steps: 7" in resolved.out
    for words in (("train", "smok"), ("configs", "show", "smok")):
        done = command(*words)
        assert done.code == 2
        assert done.err.startswith("enlca: unknown configuration 'smok'; known: ablation_small, ")
    done = command("train", "configs/smoke.yaml")
    assert done.err.endswith("no such configuration file; it is in the package: give its name, smoke\n")
    assert "show which?" in command("configs", "show").err


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_papers_recipe_is_the_papers(scale):
    settings = config(f"enlcn_x{scale}")
    assert settings.data.patch == {2: 46, 3: 32, 4: 28}[scale]
    assert (settings.data.batch, settings.run.steps, settings.run.steps_per_epoch) == (16, 10**6, 1000)
    assert (settings.optim.lr, settings.optim.betas, settings.optim.ema) == (1e-4, (0.9, 0.99), 0)
    assert (settings.schedule.kind, settings.schedule.halve_at) == ("halve", [200, 400, 600, 800])
    assert (settings.schedule.contrast_after, settings.schedule.redraw_every) == (150, None)
    loss, network = settings.loss, settings.network
    assert (loss.contrast_weight, loss.relevant, loss.start, loss.margin) == (1e-3, 0.02, 0.08, 1)
    assert (loss.hinge, loss.irrelevant_floor, loss.anchors) == (False, 0, None)
    assert (network.channels, network.n_blocks) == (256, 32)
    assert (network.embed_channels, network.n_features) == (64, 128)
    assert (network.amplification, network.embed_kernel, network.feature_floor) == (6, 3, 0)


def test_the_released_recipe_is_the_released_codes():
    settings = config("released_x4")
    loss, network = settings.loss, settings.network
    assert (loss.relevant, loss.start, loss.hinge, loss.irrelevant_floor) == (15, 50, True, 1e-6)
    assert (network.embed_kernel, network.feature_floor, network.embed_eps) == (1, 1e-4, 5e-5)
    assert (settings.data.patch, settings.optim.betas[1], settings.run.variant) == (48, 0.999, "released")
    assert (settings.schedule.contrast_after, settings.schedule.redraw_every) == (100, 640)


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_differs_from_its_network_in_attention_and_loss_only(name):
    twin, control = config("enlcn" + name[4:]), config(name)
    assert control.data == twin.data
    assert control.optim == twin.optim
    assert control.loss.contrast_weight == 0
    for field in ("steps", "steps_per_epoch", "seed", "precision"):
        assert getattr(control.run, field) == getattr(twin.run, field)
    for field in ("scale", "channels", "n_blocks", "res_scale", "upsampler", "skip"):
        assert getattr(control.network, field) == getattr(twin.network, field)
