import dataclasses
from pathlib import Path

import pytest

from enlca.errors import ConfigError
from enlca.training.config import TrainConfig
from enlca.training.parse import read_config
from enlca.training.recipes import find_config, recipes

MINIMAL = "data: {train: pictures}\nnetwork: {scale: 2}\nrun: {dir: run, steps: 7}\n"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(MINIMAL)
    return path


def test_what_the_file_does_not_say_is_the_papers(file):
    config, _ = read_config(file)
    assert (config.data.patch, config.optim.betas) == (28, (0.9, 0.99))
    assert (config.loss.relevant, config.loss.start, config.loss.margin) == (0.02, 0.08, 1.0)
    assert (config.schedule.contrast_after, config.schedule.kind) == (150, "halve")
    assert (config.network.channels, config.network.amplification, config.network.n_features) == (256, 6, 128)


def test_any_field_can_be_overridden(file):
    overrides = ["--run.steps", "11", "--network.attention=none", "--optim.betas", "[0.8, 0.9]"]
    overrides += ["--network.features", "sharp"]
    config, text = read_config(file, [*overrides, "--data.validation", "Val", "--loss.anchors", "5"])
    assert (config.run.steps, config.network.attention, config.optim.betas) == (11, "none", (0.8, 0.9))
    assert config.network.features == "sharp"
    assert (str(config.data.validation), config.loss.anchors) == ("Val", 5)
    file.write_text(text)
    assert read_config(file) == (config, text)


def test_the_resolved_text_names_every_field(file):
    config, text = read_config(file)
    assert "\nversion: 1" in text
    for section in dataclasses.fields(TrainConfig):
        if section.name == "version":
            continue
        for field in dataclasses.fields(getattr(config, section.name)):
            assert f"\n  {field.name}:" in text


MISTAKES = {
    "unknown field": (["--run.pace", "3"], "unknown entry run.pace; run has dir, steps, steps_per_epoch"),
    "unknown section": (["--runs.steps", "3"], "unknown section 'runs'; there are data, network, run, loss"),
    "device": (["--run.device", "tpu"], "run.device must be one of auto, cpu, cuda, mps; got 'tpu'"),
    "redraws": (["--schedule.redraw_every", "0"], "schedule.redraw_every must be at least 1"),
    "workers": (["--data.resident=true", "--data.workers=2"], "data.resident cuts patches on the device"),
    "word for a number": (["--run.steps", "many"], "run.steps"),
    "no steps": (["--run.steps", "0"], "run.steps must be at least 1, got 0"),
    "negative seed": (["--run.seed", "-1"], "run.seed must be at least 0, got -1"),
    "half a channel": (["--network.channels", "8.5"], "network.channels"),
    "scale": (["--network.scale", "5"], "scale must be one of 2, 3, 4; got 5"),
    "attention": (["--network.attention", "soft"], "attention must be one of none, exact, linear"),
    "blocks": (["--network.n_blocks", "7"], "must be a multiple of blocks_per_stage"),
    "schedule": (
        ["--schedule.kind", "step"],
        "schedule.kind must be one of cosine, halve, stable; got 'step'",
    ),
    "precision": (["--run.precision", "8"], "run.precision must be one of 32-true"),
    "variant": (["--run.variant", "mine"], "run.variant must be one of paper, released"),
    "rate": (["--optim.lr", "0"], "optim.lr must be positive"),
    "average": (["--optim.ema", "1"], "optim.ema must be in [0, 1), got 1"),
    "betas": (["--optim.betas", "[0.9, 1.0]"], "optim.betas must be in [0, 1), got [0.9, 1.0]"),
    "clip": (["--optim.clip", "0"], "optim.clip must be positive"),
    "patch": (["--data.patch", "0"], "data.patch must be at least 1"),
    "share": (["--loss.relevant", "1.5"], "relevant must be a share between 0 and 1"),
    "anchors": (["--loss.anchors", "0"], "anchors must be at least 1"),
    "optimiser": (["--optim.kind", "sgd"], "optim.kind must be one of adam, muon; got 'sgd'"),
    "muon's rate": (["--optim.muon_lr", "0"], "optim.muon_lr must be positive"),
    "momentum": (["--optim.momentum", "1"], "optim.momentum must be in [0, 1), got 1"),
    "weight decay": (["--optim.weight_decay", "-1"], "optim.weight_decay must be at least 0, got -1"),
    "decay of all weight": (
        ["--optim.kind", "muon", "--optim.weight_decay", "200"],
        "optim.weight_decay times optim.muon_lr must be below 1, got 200.0 x 0.01",
    ),
    "weight decay of Adam": (["--optim.weight_decay", "0.1"], "optim.weight_decay is Muon's"),
    "decay of a cosine": (
        ["--schedule.kind", "cosine", "--schedule.decay_from", "3"],
        "schedule.decay_from belongs to kind stable, not to cosine",
    ),
    "decay after the end": (
        ["--schedule.kind", "stable", "--schedule.decay_from", "7"],
        "schedule.decay_from (7) must come before run.steps (7)",
    ),
    "preset": (["--data.degradation.preset", "film"], "unknown preset 'film'; there are clean, web, phone"),
    "degraded on a device": (
        ["--data.degradation.preset", "web", "--data.resident", "true"],
        "data.degradation makes LR pictures on the processor",
    ),
    "degraded and softened": (
        ["--data.degradation.preset", "web", "--data.soften", "[0, 1]"],
        "data.degradation has blurs of its own: leave out data.soften",
    ),
    "degraded for a teacher": (
        ["--data.degradation.preset", "web", "--data.teacher", "T", "--loss.teacher", "1"],
        "data.degradation makes LR pictures that no teacher has seen",
    ),
    "gradients": (["--loss.gradient", "-1"], "gradient must be finite and not negative, got -1"),
    "blur": (["--data.soften", "[1.0, 0.5]"], "data.soften must be [low, high] with 0 <= low <= high <= 4.0"),
    "share of blurred patches": (["--data.soften_share", "2"], "data.soften_share must be in [0, 1], got 2"),
    "blur on a device": (
        ["--data.soften", "[0, 1]", "--data.resident", "true"],
        "data.soften makes LR pictures on the processor",
    ),
    "a teacher without weight": (["--data.teacher", "made"], "data.teacher and loss.teacher go together"),
    "weight without a teacher": (["--loss.teacher", "0.5"], "data.teacher and loss.teacher go together"),
    "more than a teacher": (["--loss.teacher", "1.5"], "teacher must be in [0, 1], got 1.5"),
    "seed": (["--run.seed", str(2**64)], "run.seed must be at most 9223372036854775807"),
    "rate that is no number": (["--optim.lr", ".nan"], "optim.lr must be positive and finite, got nan"),
    "endless rate": (["--optim.muon_lr", ".inf"], "optim.muon_lr must be positive and finite, got inf"),
    "clip that is no number": (
        ["--optim.clip", ".nan"],
        "optim.clip must be positive, or null for none; got nan",
    ),
    "channels": (["--network.channels", "1000000000"], "channels must be at most 65536, got 1000000000"),
    "scale of blocks": (
        ["--network.res_scale", ".nan"],
        "res_scale, attention_scale and mean must be finite",
    ),
    "mean": (["--network.mean", "[.inf, 0, 0]"], "res_scale, attention_scale and mean must be finite"),
    "kernel": (["--network.embed_kernel", "1001"], "embed_kernel must be odd, from 1 to 255; got 1001"),
    "floor": (["--network.feature_floor", ".nan"], "feature_floor must be finite and not negative, got nan"),
    "batch": (["--data.batch", "1000000000"], "data.batch must be at most 16384, got 1000000000"),
    "many workers": (["--data.workers", "100000"], "data.workers must be at most 1024, got 100000"),
    "endless margin": (["--loss.margin", ".inf"], "margin must be finite, got inf"),
    "weight": (
        ["--loss.contrast_weight", ".nan"],
        "contrast_weight must be finite and not negative, got nan",
    ),
    "share that is no number": (["--loss.relevant", ".nan"], "relevant must be a share between 0 and 1"),
    "ranks": (["--loss.start", "0.99"], "contrast needs ranks up to"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_that_names_the_file_and_the_field(file, command, case):
    overrides, reason = MISTAKES[case]
    done = command("train", file, *overrides)
    assert (done.code, done.out) == (2, "")
    [line] = done.err.splitlines()
    assert line.startswith(f"enlca: {file}: ")
    assert reason in line
    assert not (file.parent / "run").exists()


FILES = {
    "unknown key": (MINIMAL + "optim: {speed: 3}\n", "optim.speed; optim has kind, lr, betas, muon_lr"),
    "unknown section": (MINIMAL + "extra: {a: 3}\n", "unknown section 'extra'; there are data, network"),
    "of a newer version": (MINIMAL + "version: 2\n", "version 2, this enlca reads version 1; update enlca"),
    "section that is a number": (MINIMAL.replace("{scale: 2}", "2"), "network"),
    "field that is a number": (
        MINIMAL.replace("{scale: 2}", "{1: 2}"),
        "unknown entry network.1; network has scale",
    ),
    "missing field": (MINIMAL.replace("steps: 7", "seed: 7"), "run.steps"),
    "not YAML": ("data: [unclosed\n", "not YAML: while parsing"),
    "deep": ("[" * 100_000, "not YAML: nested deeper than 32 levels"),
    "no day": ("network: 2001-99-99\n", "not YAML: month must be in 1..12"),
    "no number": ("network: !!int 'abc'\n", "not YAML: invalid literal for int()"),
    "a list in itself": ("data: &x [*x]\n", "not YAML: more than 10000 values, aliases followed"),
    "aliases of aliases": (
        "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
        + "".join(f"{b}: &{b} [{', '.join(9 * [f'*{a}'])}]\n" for a, b in ("ab", "bc", "cd", "de", "ef")),
        "not YAML: more than 10000 values, aliases followed",
    ),
    "long": ("# " + "x" * (1 << 20), "not YAML: more than 1048576 bytes"),
    "NUL": (MINIMAL.replace("dir: run", 'dir: "r\\0n"'), "not YAML: a text with a NUL character"),
    "a list": ("- data\n", "expected the sections data, network, run, loss, optim, schedule"),
    "empty": ("", "empty (0 bytes)"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_with_a_mistake_is_one_line(file, command, case):
    text, reason = FILES[case]
    file.write_text(text)
    done = command("train", file, "--print_config")
    assert (done.code, done.out) == (2, "")
    [line] = done.err.splitlines()
    assert line.startswith(f"enlca: {file}: ")
    assert len(line) > len(f"enlca: {file}: ")
    assert reason in line


def test_a_file_that_is_not_there_or_no_text_is_named(tmp_path):
    for path in (tmp_path / "gone.yaml", tmp_path):
        with pytest.raises(ConfigError, match="no such configuration file"):
            read_config(path)
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"x\.yaml: "):
        read_config(tmp_path / "x.yaml")


def test_a_folder_does_not_hide_the_configuration_that_is_called_alike(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smoke").mkdir()
    assert find_config("smoke") == recipes()["smoke"]
    (tmp_path / "smoke").rmdir()
    (tmp_path / "smoke").write_text(MINIMAL)
    assert find_config("smoke") == Path("smoke")


def test_the_ranks_matter_only_where_there_is_a_contrastive_loss(file):
    ranks = ["--loss.start", "0.99"]
    for off in (["--network.attention", "none"], ["--loss.contrast_weight", "0"]):
        assert read_config(file, [*ranks, *off])[0].loss.start == 0.99


def test_pictures_that_are_not_there_are_one_line(file, command):
    done = command("train", file, "--data.train", file.parent / "gone")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "gone: no such folder" in done.err
