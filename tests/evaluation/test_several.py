"""Several `--model` in one call of `enlca evaluate`, and folders of pictures among them."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from enlca.evaluation.several import methods_called
from enlca.models import REGISTERED

S = 4


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(3)
    (tmp_path / "Mine").mkdir()
    for name in ("a", "b"):
        Image.fromarray(generator.integers(0, 256, (44, 52, 3), np.uint8)).save(
            tmp_path / "Mine" / f"{name}.png"
        )
    return tmp_path / "Mine"


def test_several_models_make_one_table_and_one_file(folder, tiny_model, tmp_path, command):
    words = ("evaluate", folder, "--scale", S, "--model=bicubic", "--model", tiny_model)
    kept = tmp_path / "kept"
    done = command(
        *words, "--json-file", tmp_path / "x.json", "--csv", tmp_path / "x.csv", "--save-images", kept
    )
    assert (done.code, done.err) == (0, "")
    alone = [
        command("evaluate", "--data", folder, "--scale", S, "--model", m) for m in ("bicubic", tiny_model)
    ]
    assert done.out.splitlines()[2:] == [one.out.splitlines()[2] for one in alone]
    results = json.loads((tmp_path / "x.json").read_text())["results"]
    assert [list(result) for result in results] == [["protocol", "model", "datasets", "images"]] * 2
    rows = csv.DictReader((tmp_path / "x.csv").open())
    assert [(row["model"], row["image"]) for row in rows] == [
        (model, image) for model in ("bicubic", "tiny") for image in "ab"
    ]
    made = sorted(path.relative_to(kept).as_posix() for path in kept.glob("**/*.png"))
    assert made == [f"{model}/Mine/{image}.png" for model in ("bicubic", "tiny") for image in "ab"]
    # What was kept is a method of its own, and scores the same.
    again = command("evaluate", folder, "--scale", S, "--model", kept / "tiny")
    assert again.out.splitlines()[2] == done.out.splitlines()[3]


def test_models_of_one_name_are_called_by_their_folders(tiny_model, tmp_path):
    files = [tmp_path / run / "weights.safetensors" for run in ("one", "two")]
    for file in files:
        file.parent.mkdir()
        shutil.copy(tiny_model, file)
    names = [method.name for method in methods_called([*map(str, files), "bicubic"], scale=S)]
    assert names == ["one/weights", "two/weights", "bicubic"]


@pytest.mark.parametrize("place", ["a", "a/best.safetensors"])
def test_runs_of_one_name_are_called_by_the_folders_around_them(tiny_model, tmp_path, place):
    models = [tmp_path / around / place for around in ("one", "two")]
    for around in ("one", "two"):
        (tmp_path / around / "a").mkdir(parents=True)
        shutil.copy(tiny_model, tmp_path / around / "a" / "best.safetensors")
    assert [method.name for method in methods_called([*map(str, models)], scale=S)] == ["one/a", "two/a"]


def test_pictures_of_one_method_at_a_scale_are_called_by_the_folders_around_them(tmp_path):
    models = [tmp_path / around / "a" / "x4" for around in ("one", "two")]
    for model in models:
        model.mkdir(parents=True)
    assert [method.name for method in methods_called([*map(str, models)], scale=S)] == ["one/a", "two/a"]


def test_a_name_wins_over_a_folder_that_is_called_alike(folder, tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("evaluate", folder, "--scale", S, "--save-images=bicubic", "--model")
    first = command(*words, "bicubic")
    Image.new("RGB", (52, 44)).save("bicubic/Mine/a.png")
    assert command(*words, "bicubic").out == first.out
    assert command(*words, "./bicubic").out == first.out
    (tmp_path / "enlcn-tiny").mkdir()
    methods = methods_called(["enlcn-tiny", "./enlcn-tiny"], scale=S)
    assert [method.protocol for method in methods] == ["whole", "given"]


def test_the_best_of_a_run_is_called_after_the_run(tiny_model, tmp_path):
    run = tmp_path / "my-run"
    run.mkdir()
    shutil.copy(tiny_model, run / "best.safetensors")
    for model in (run, run / "best.safetensors"):
        [method] = methods_called([str(model)], scale=S)
        assert (method.name, method.about["name"]) == ("my-run", str(model))
        assert "a checkpoint of enlca" in method.about["kind"]


def test_a_network_of_ones_own_is_called_by_its_function(monkeypatch):
    class Enlarge(torch.nn.Upsample):
        def __init__(self, scale):
            super().__init__(scale_factor=scale)

    monkeypatch.setitem(REGISTERED, "mine", Enlarge)
    assert [method.name for method in methods_called(["mine", "bicubic"], scale=S)] == ["mine", "bicubic"]


def test_a_model_named_twice_is_refused(folder, command):
    done = command("evaluate", folder, "--scale", S, "--model=bicubic", "--model=bicubic")
    assert done.code == 2
    assert done.err == "enlca: two models are called bicubic, so their rows would mix; rename one\n"


def test_without_a_folder_the_option_is_named(command):
    done = command("evaluate", "--model=bicubic", "--scale", S)
    assert done.code == 2
    assert "name a benchmark folder: --data DIR" in done.err


def test_a_picture_that_cannot_be_read_is_named_once(folder, tiny_model, command):
    (folder / "c.png").write_text("not a picture")
    done = command("evaluate", folder, "--scale", S, "--model=bicubic", "--model", tiny_model)
    assert done.code == 1
    assert len(done.err.splitlines()) == 1
    assert [line.split(" | ")[-1] for line in done.out.splitlines()[2:]] == ["2 |", "2 |"]
