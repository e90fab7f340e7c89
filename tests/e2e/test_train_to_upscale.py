"""A network of one's own, from pictures to an upscaled picture, by the commands alone."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from enlca.checkpoint.file import load_file
from enlca.data.patches import REDRAW, seed_of
from enlca.network.sr import SRNetwork
from enlca.training.parse import read_config

STEPS, EPOCH = 20, 10
CONFIG = """\
data: {train: pictures, validation: Val, patch: 11, batch: 3, cache: cache}
network: {scale: 4, channels: 8, n_blocks: 2, blocks_per_stage: 1, embed_channels: 4, n_features: 8,
          res_scale: 1.0, upsampler: direct, skip: bilinear}
loss: {anchors: 7, contrast_weight: 0.01}
optim: {lr: 1.0e-3, ema: 0.9, clip: 1.0}
schedule: {kind: cosine, warmup: 3, contrast_after: 1}
run: {dir: run, steps: 20, steps_per_epoch: 10, save_every: 5, log_every: 2, seed: 3}
"""


def textured(seed, height, width):
    """Waves and noise: something to learn, and something that cannot be."""
    random = np.random.default_rng(seed)
    row, column = np.indices((height, width))
    waves = [np.sin(row * a + column * b) for a, b in random.uniform(0.2, 1.5, (3, 2))]
    return (128 + 90 * np.stack(waves, axis=-1) + random.normal(0, 8, (height, width, 3))).clip(0, 255)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with pictures, a configuration, and the run that `enlca train` made of them."""
    home = tmp_path_factory.mktemp("home")
    for folder, sizes in {"pictures": [(61, 67), (53, 71), (47, 47)], "Val": [(47, 53), (61, 43)]}.items():
        (home / folder).mkdir()
        for seed, size in enumerate(sizes):
            pixels = textured(seed + len(sizes), *size).astype(np.uint8)
            Image.fromarray(pixels).save(home / folder / f"{seed}.png")
    (home / "tiny.yaml").write_text(CONFIG)
    # The first run is a process of its own: what reaches a user's terminal is seen there only.
    settings = {"OMP_NUM_THREADS": str(torch.get_num_threads()), "CUDA_VISIBLE_DEVICES": ""}
    program = [sys.executable, "-m", "enlca", "train", "tiny.yaml"]
    done = subprocess.run(
        program, cwd=home, env=os.environ | settings, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "best weights: run/best.safetensors\n", "")
    return home


@pytest.fixture(autouse=True)
def at_home(home, monkeypatch):
    """Further runs are trained in this process, on the CPU as the first one."""
    monkeypatch.chdir(home)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def metrics(name):
    """The filled cells of one column, with their steps."""
    with open("run/metrics.csv", newline="") as file:
        return {int(row["step"]): float(row[name]) for row in csv.DictReader(file) if row[name]}


def projections(state):
    return {name: tensor for name, tensor in state.items() if name.endswith("projection")}


def drawn_in(epoch):
    """The random features that a run of this seed has in an epoch."""
    config = read_config(Path("tiny.yaml"))[0]
    network = SRNetwork(config.network)
    network.redraw_(torch.Generator().manual_seed(seed_of(config.run.seed, REDRAW, epoch)))
    return projections(network.state_dict())


def test_a_run_leaves_what_is_contracted_and_nothing_else(home):
    names = {path.name for path in (home / "run").iterdir()}
    events = {name for name in names if name.startswith("events.out.tfevents.")}
    assert len(events) == 1
    states = {"last.ckpt", "previous.ckpt"}
    assert names - events == {"best.safetensors", "metrics.csv", "config.yaml", "environment.json", *states}
    assert json.loads((home / "run" / "environment.json").read_text())["torch"] == torch.__version__
    assert sorted(path.name for path in home.iterdir()) == ["Val", "cache", "pictures", "run", "tiny.yaml"]


def test_the_contrastive_loss_joins_after_its_warm_up_and_is_logged():
    contrast, l1, total = metrics("contrast"), metrics("l1"), metrics("total")
    assert list(contrast) == list(range(2, STEPS + 1, 2))
    assert {step: value != 0 for step, value in contrast.items()} == {step: step > EPOCH for step in contrast}
    for step, value in total.items():
        assert value == pytest.approx(l1[step] + 0.01 * contrast[step], rel=1e-5)


SIZE = {"0": [b"52", b"44"], "1": [b"40", b"60"]}


def test_tensorboard_gets_the_same_numbers_and_the_validation_pictures(home):
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    [file] = (home / "run").glob("events.*")
    seen, pictures = {}, {}
    for event in EventFileLoader(str(file)).Load():
        for value in event.summary.value:
            if value.tensor.float_val:
                seen.setdefault(value.tag, {})[event.step] = value.tensor.float_val[0]
            else:
                pictures[value.tag, event.step] = value.tensor.string_val[:2]
    assert pictures == {(f"validation/{name}", step): SIZE[name] for name in SIZE for step in (EPOCH, STEPS)}
    for name in ("contrast", "l1", "psnr"):
        assert seen[name] == pytest.approx(metrics(name))


def test_the_resolved_configuration_gives_the_same_run_again(command):
    config, text = read_config(Path("tiny.yaml"))
    assert read_config(Path("run/config.yaml")) == (config, text)
    assert Path("run/config.yaml").read_text() == text
    assert command("train", "tiny.yaml", "--print_config").out == text


def test_the_best_weights_carry_their_history_and_their_score(command):
    _, card = load_file("run/best.safetensors")
    psnr = metrics("psnr")
    best = max(psnr, key=lambda step: psnr[step])
    assert list(psnr) == [EPOCH, STEPS]
    assert card.training["steps"] == best
    expected = {"data": "pictures", "n1": 0.02, "n2": 0.08, "seed": 3, "contrast_weight": 0.01}
    assert card.training.items() >= {**expected, "steps_planned": STEPS}.items()
    assert card.scores == {"Val": {"psnr_y": pytest.approx(psnr[best], abs=1e-4)}}
    shown = [" ".join(line.split()) for line in command("info", "run/best.safetensors").out.splitlines()]
    assert {"n1 0.02", "n2 0.08", "data pictures", f"steps {best}"} <= set(shown)


def test_evaluate_finds_the_score_that_validation_found(command):
    start = ("evaluate", "--model", "run/best.safetensors", "--data", "Val", "--scale", 4)
    done = command(*start, "--json-file", "scores.json")
    assert (done.code, done.err) == (0, "")
    with open("scores.json") as file:
        body = json.load(file)
    assert body["datasets"]["Val"]["n"] == 2
    assert body["datasets"]["Val"]["psnr_y"] == pytest.approx(max(metrics("psnr").values()), abs=1e-3)
    os.remove("scores.json")


def test_the_trained_network_upscales_a_picture(command):
    done = command("upscale", "Val/0.png", "--model", "run/best.safetensors", "-o", "large.png")
    assert done == (0, "Val/0.png -> large.png (212x188)\n", "")
    with Image.open("large.png") as made:
        assert made.size == (212, 188)
    os.remove("large.png")


def test_random_features_are_redrawn_every_epoch_and_copied_into_the_average():
    state = torch.load("run/last.ckpt", weights_only=True)
    network = state["network"]
    average = {name.removeprefix("module."): tensor for name, tensor in state["average"].items()}
    first, second = drawn_in(0), drawn_in(1)
    assert len(second) == 3
    for name, drawn in second.items():
        assert not torch.equal(drawn, first[name])
        assert torch.equal(network[name], drawn)
        assert torch.equal(average[name], drawn)
    assert not torch.equal(network["head.weight"], average["head.weight"])
    best, card = load_file("run/best.safetensors")
    for name, drawn in drawn_in(card.training["steps"] // EPOCH - 1).items():
        assert torch.equal(best.state_dict()[name], drawn)


def test_the_same_seed_gives_the_same_weights_bit_for_bit(home, command):
    assert command("train", "tiny.yaml", "--run.dir", "again").code == 0
    once, again = ((home / run / "best.safetensors").read_bytes() for run in ("run", "again"))
    assert again == once
    first, second = ((home / run / "last.ckpt").read_bytes() for run in ("run", "again"))
    assert first == second


def test_another_seed_gives_other_weights(home, command):
    for seed in (3, 4):
        options = ("--run.dir", f"seed{seed}", "--run.seed", seed, "--run.steps=1", "--data.validation=null")
        assert command("train", "tiny.yaml", *options).code == 0
    first, second = (load_file(home / f"seed{seed}" / "best.safetensors")[0].state_dict() for seed in (3, 4))
    assert not torch.equal(first["head.weight"], second["head.weight"])


def test_a_folder_that_holds_a_run_is_left_alone(home, command):
    before = {path: path.read_bytes() for path in (home / "run").iterdir()}
    done = command("train", "tiny.yaml")
    assert (done.code, done.out) == (2, "")
    advice = "go on with it by `enlca resume run`, choose another with --run.dir, or move it away"
    assert done.err == f"enlca: run already holds a run; {advice}\n"
    assert {path: path.read_bytes() for path in (home / "run").iterdir()} == before


def test_without_validation_the_last_weights_are_kept_without_a_score(home, command):
    options = ("--run.dir", "short", "--run.steps", 4, "--data.validation", "null")
    assert command("train", "tiny.yaml", *options).code == 0
    network, card = load_file(home / "short" / "best.safetensors")
    assert card.scores == {}
    assert card.training["steps"] == 4
    last = torch.load(home / "short" / "last.ckpt", weights_only=True)
    assert last["step"] == 4
    assert torch.equal(network.state_dict()["head.weight"], last["average"]["module.head.weight"])
