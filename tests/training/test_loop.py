import dataclasses

import pytest
import torch
from lightning.fabric import Fabric
from PIL import Image

from enlca.data.patches import PatchBatches
from enlca.network.sr import SRConfig, SRNetwork
from enlca.training.loop import Best, Training
from enlca.training.parse import read_config
from enlca.training.run_folder import TrainingFailed
from enlca.training.validation import ValidationSet


@pytest.fixture
def training(home):
    """A run of the tiny configuration in memory, with fields of `optim` changed, and its batches."""
    from enlca.data.packed import open_training_set

    def make(steps=40, **optim):
        config, _ = read_config(home / "tiny.yaml")
        config = dataclasses.replace(config, optim=dataclasses.replace(config.optim, **optim))
        config = dataclasses.replace(config, run=dataclasses.replace(config.run, steps=steps))
        packed = open_training_set(home / "pictures", scale=2, min_side=11, cache=home / "cache")
        made = Training(config, Fabric(accelerator="cpu", devices=1), validation=None)
        return made, PatchBatches(packed, patch=11, batch=3, seed=config.run.seed)

    return make


def test_weights_are_averaged_and_random_features_are_copied(training):
    made, batches = training(ema=0.75)
    average, wanted = made.averaged.state_dict(), None
    projections = [name for name in average if name.endswith("projection")]
    assert len(projections) == 3
    for step in range(10):
        made.run([batches[step]])
        weights = {name: tensor.clone() for name, tensor in made.network.state_dict().items()}
        wanted = (
            {name: 0.75 * wanted[name] + 0.25 * new for name, new in weights.items()} if step else weights
        )
        for name in average:
            if name in projections:
                assert torch.equal(average[name], weights[name])
            else:
                torch.testing.assert_close(average[name], wanted[name])
    assert not torch.equal(average["head.weight"], weights["head.weight"])


def test_without_an_average_the_weights_themselves_count(training):
    made, batches = training(ema=0.0)
    assert made.averaged is made.network
    made.run([batches[0]])


def test_only_the_networks_own_weights_are_trained_by_the_papers_adam(training):
    made, _ = training(ema=0.5, lr=3e-4)
    [group] = made.optimizer.param_groups
    assert (group["betas"], group["lr"], group["weight_decay"]) == ((0.9, 0.99), 3e-4, 0)
    assert {id(x) for x in group["params"]} == {id(x) for x in made.network.parameters()}


def test_random_features_change_when_an_epoch_begins_and_only_then(training):
    made, batches = training()
    draws = []
    for step in range(17):
        made.run([batches[step]])
        draws.append(made.network.body[0].attend.projection.clone())
    changes = [step for step in range(1, 17) if not torch.equal(draws[step], draws[step - 1])]
    assert changes == [8, 16]


def test_a_state_that_was_saved_and_loaded_goes_on_the_same(training, home):
    made, batches = training()
    made.run([batches[step] for step in range(7)])
    torch.save(made.state(), "state")
    again, _ = training()
    again.load_state(torch.load("state", weights_only=True))
    for one in (made, again):
        one.run([batches[step] for step in range(7, 13)])
    first, second = made.state(), again.state()
    for part in ("network", "average"):
        for name, tensor in first[part].items():
            assert torch.equal(second[part][name], tensor)


def test_the_best_validation_counts_for_the_pictures_that_it_was_measured_on(training, home):
    (home / "Val" / "2.png").rename(home / "pictures" / "2.png")
    made, _ = training()
    mine, other = ValidationSet(home / "Val", 2), ValidationSet(home / "pictures", 2)
    made.validation, made.best = mine, Best(99.0, 8)
    state = made.state()
    # A state of an earlier version does not tell its pictures.
    older = {name: value for name, value in state.items() if name != "validation"}
    for validation, saved, kept in [
        (ValidationSet(home / "Val", 2), state, True),
        (mine, older, True),
        (other, state, False),
        (None, state, False),
        (None, older, False),
    ]:
        again, _ = training()
        again.validation = validation
        again.load_state(saved)
        assert again.best == (Best(99.0, 8) if kept else Best())


def test_validation_pictures_that_are_nothing_but_border_are_refused_before_the_run(home, command):
    Image.new("RGB", (40, 4)).save(home / "Val" / "3.png")
    done = command("train", "tiny.yaml")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "Val/3.png: nothing is left of 40x4 pixels without a border of 2" in done.err
    assert not (home / "run").exists()


def test_a_state_that_is_older_than_a_setting_had_its_default(training):
    made, _ = training()
    state = made.state()
    settings = dict(state["settings"])
    assert settings.pop("feature_floor") == SRConfig(scale=2).feature_floor
    again, _ = training()
    again.load_state(state | {"settings": settings})


def test_settings_of_the_optimiser_may_change_when_a_run_is_resumed(training):
    made, batches = training(kind="muon", momentum=0.95)
    made.run([batches[0]])
    again, _ = training(kind="muon", momentum=0.9, weight_decay=0.1)
    again.load_state(made.state())
    adam, muon = again.optimizer.param_groups
    assert (adam["betas"], muon["momentum"], muon["weight_decay"]) == ((0.9, 0.99), 0.9, 0.1)


def test_a_gradient_is_clipped_to_the_norm_asked_for(training):
    seen = []
    for clip in (None, 1e-3):
        made, batches = training(clip=clip)
        parameters = list(made.network.parameters())
        made.optimizer.step = lambda *rest, of=parameters: seen.append(
            torch.nn.utils.get_total_norm([parameter.grad for parameter in of])
        )
        made.run([batches[0]])
    assert seen[0] > 1e-2
    torch.testing.assert_close(seen[1], torch.tensor(1e-3))


def test_a_nan_stops_the_run_before_it_reaches_a_weight(home, command, monkeypatch):
    step = Training._step

    def poisoned(self, number, batch):
        if number == 7:
            with torch.no_grad():
                self.network.fuse.bias[2] = float("nan")
        return step(self, number, batch)

    monkeypatch.setattr(Training, "_step", poisoned)
    done = command("train", "tiny.yaml")
    assert (done.code, done.out) == (1, "")
    [line] = done.err.splitlines()
    assert line.startswith("enlca: step 7: the weight fuse.bias is not finite; nothing of this step is saved")
    assert line.endswith("enlca resume run --optim.lr 0.0005")
    state = torch.load("run/last.ckpt", weights_only=True)
    assert state["step"] == 5
    assert all(tensor.isfinite().all() for tensor in state["network"].values())


def test_muons_rate_is_halved_too_in_the_advice_after_a_nan(training):
    made, batches = training(kind="muon", muon_lr=0.02)
    with torch.no_grad():
        made.network.fuse.bias[2] = float("nan")
    with pytest.raises(TrainingFailed, match=r"--optim\.lr 0\.0005 --optim\.muon_lr 0\.01$"):
        made.run([batches[0]])


def test_where_steps_are_not_checked_a_nan_stops_the_run_before_anything_is_saved_or_validated(training):
    made, batches = training()
    made.checks_each_step = False
    made.run([batches[step] for step in range(6)])
    with torch.no_grad():
        made.network.fuse.bias[2] = float("nan")
    # Rows are written every 3 steps and an epoch ends after 8: the first that are looked at.
    with pytest.raises(TrainingFailed, match=r"^by step 7: the weight head\.weight is not finite"):
        made.run([batches[step] for step in range(6, 12)])
    assert made.done == 8


def test_progress_tells_the_numbers_of_the_run(home):
    from enlca.training.fit import fit

    settings, text = read_config(home / "tiny.yaml")
    seen = []
    fit(settings, text, on_progress=seen.append)
    assert (seen[-1].step, seen[-1].steps) == (40, 40)
    assert seen[-1].numbers.keys() >= {"psnr", "l1", "contrast", "gap", "steps_per_second", "lr"}
    assert [now.step for now in seen] == sorted({now.step for now in seen})


def test_a_run_begins_with_the_weights_of_another_scale(home, command):
    assert command("train", "tiny.yaml", "--run.steps=1").code == 0
    words = (
        "train",
        "tiny.yaml",
        "--run.steps=1",
        "--optim.lr=1e-12",
        "--run.start_from=run/best.safetensors",
    )
    assert command(*words, "--run.dir=other", "--network.scale=3").code == 0
    first, other = (torch.load(f"{run}/last.ckpt", weights_only=True)["network"] for run in ("run", "other"))
    for name, tensor in first.items():
        if name.startswith("upsampler.") or name.endswith("projection"):
            continue
        # `best` holds the average, which after one step is the weights.
        torch.testing.assert_close(other[name], tensor, rtol=0, atol=1e-9)
    done = command(*words, "--run.dir=third", "--network.channels=12")
    assert done.code == 2
    assert "run.start_from: run/best.safetensors holds another network (body.0.embed.key.weight" in done.err
    assert not (home / "third").exists()


def test_non_local_blocks_inserted_into_a_trunk_change_nothing_at_first(home, command):
    from enlca.checkpoint.file import load_file
    from enlca.training.start import load_weights

    words = ("train", "tiny.yaml", "--run.steps=3", "--network.attention=none", "--loss.contrast_weight=0")
    assert command(*words, "--network.blocks_per_stage=2").code == 0
    config, _ = read_config(home / "tiny.yaml", ["--run.start_from=run/best.safetensors"])
    network = SRNetwork(config.network).eval()
    network.load_state_dict(load_weights(config))
    trunk, _ = load_file("run/best.safetensors")
    lr = torch.rand(2, 3, 13, 17)
    torch.testing.assert_close(network(lr), trunk(lr))
    assert len(network.non_local_blocks) == 3
    assert all(block.embed.query.weight.any() for block in network.non_local_blocks)
    short = ("--network.n_blocks=1", "--run.dir=short")
    done = command("train", "tiny.yaml", "--run.start_from=run/best.safetensors", *short)
    assert (done.code, "holds another network (2 residual blocks there, 1 here)" in done.err) == (2, True)
    made = command("train", "tiny.yaml", "--run.start_from=run/best.safetensors", "--run.dir=grown")
    assert made.code == 0
    grown, _ = load_file("grown/best.safetensors")
    assert all(block.embed.value.weight.any() for block in grown.non_local_blocks)


@pytest.mark.parametrize("attention", ["linear", "window", "lsh", "none"])
@pytest.mark.parametrize("trunk", [False, True])
def test_other_weights_of_branches_change_nothing_at_first(home, attention, trunk):
    from enlca.checkpoint.file import save
    from enlca.training.start import load_weights

    config, _ = read_config(
        home / "tiny.yaml", ["--network.attention", attention, "--loss.contrast_weight=0"]
    )
    own = {"attention": "none", "blocks_per_stage": 2} if trunk else {}
    source = SRNetwork(dataclasses.replace(config.network, res_scale=0.7, attention_scale=0.3, **own)).eval()
    save(source, home / "source.safetensors")
    run = dataclasses.replace(config.run, start_from=home / "source.safetensors")
    settings = dataclasses.replace(config.network, res_scale=-0.1, attention_scale=2.0)
    network = SRNetwork(settings).eval()
    network.load_state_dict(load_weights(dataclasses.replace(config, network=settings, run=run)))
    lr = torch.rand(2, 3, 13, 17)
    torch.testing.assert_close(network(lr), source(lr))


def test_a_run_begins_with_bundled_weights_of_its_scale_by_their_name(home, command):
    from enlca.checkpoint.store import load_model
    from enlca.network.zoo import enlcn_tiny
    from enlca.training.start import load_weights

    config, _ = read_config(home / "tiny.yaml", ["--run.start_from", "enlcn-tiny"])
    for scale in (2, 3):
        network = enlcn_tiny(scale)
        found = load_weights(dataclasses.replace(config, network=network.config))
        torch.testing.assert_close(found, load_model("enlcn-tiny", scale).model.state_dict(), rtol=0, atol=0)
    done = command("train", "tiny.yaml", "--run.start_from", "enlcn-tny")
    assert done.code == 2
    assert "unknown model 'enlcn-tny'; known: " in done.err


@pytest.mark.parametrize(
    "extra", [["--data.workers", "2"], ["--data.resident", "true"], ["--run.precision=bf16-mixed"]]
)
def test_the_same_patches_come_from_workers_and_from_the_device(home, command, extra, rows):
    assert command("train", "tiny.yaml", "--run.steps=6").code == 0
    assert command("train", "tiny.yaml", "--run.steps=6", "--run.dir=other", *extra).code == 0
    tolerance = 0.01 if "bf16" in extra[0] else 0
    for one, other in zip(rows("run"), rows("other"), strict=True):
        assert float(other["l1"]) == pytest.approx(float(one["l1"]), rel=tolerance)
