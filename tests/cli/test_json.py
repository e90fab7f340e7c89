"""`--json` prints one JSON object and nothing else there, `--json-file F` writes it: in every command."""

import csv
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import typer.main
from PIL import Image

from enlca.cli.app import app

COMMANDS = typer.main.get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue]
WITHOUT_RESULTS = {"convert", "export", "explore", "serve", "train", "resume", "data", "hub"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder: a benchmark of two pictures and SR pictures that differ from them."""
    random = np.random.default_rng(3)
    for name in ("a", "b"):
        hr = random.integers(0, 256, (46, 42, 3), dtype=np.uint8)
        for place, pixels in (("Set/HR", hr), ("sr", np.minimum(hr, 250))):
            (tmp_path / place).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / place / f"{name}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


CALLS = {
    "evaluate": ("evaluate", "Set", "--model=bicubic", "--scale=2"),
    "compare": ("compare", "Set", "--model=bicubic", "--model=sr", "--scale=2"),
    "score": ("score", "sr", "Set", "--scale=2"),
    "audit": ("audit", "sr", "Set", "--scale=2"),
    "degrade": ("degrade", "Set/HR", "lr", "--scale=2"),
    "cost": ("cost", "--size", "5x7"),
    "info": ("info", "enlcn-tiny"),
    "models": ("models",),
    "check": ("data", "check", "Set"),
    "upscale": ("upscale", "Set/HR/a.png", "-o", "x.png", "--overwrite"),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_file_has_what_is_printed(folder, command, name):
    printed = command(*CALLS[name], "--json")
    assert (printed.code, printed.err) == (0, "")
    both = command(*CALLS[name], "--json", "--json-file", "x.json")
    written = json.loads((folder / "x.json").read_text())
    assert written == json.loads(both.out)
    assert written.keys() == json.loads(printed.out).keys()
    plain = command(*CALLS[name], "--json-file", "y.json")
    assert not plain.out.startswith("{")
    assert json.loads((folder / "y.json").read_text()).keys() == written.keys()


def test_every_command_with_results_has_both_options():
    for name in COMMANDS.keys() - WITHOUT_RESULTS:
        options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
        assert options >= {"--json", "--json-file"}, name


@pytest.mark.parametrize("spelt", [("--json", "x.json"), ("--json=x.json",)])
@pytest.mark.parametrize("name", ["evaluate", "compare", "score"])
def test_the_old_spelling_still_writes_the_file_and_says_so(folder, command, name, spelt):
    done = command(*CALLS[name], *spelt)
    assert done.code == 0
    assert done.out.startswith("| data set |")
    assert done.err.startswith("enlca: --json FILE is --json-file FILE now")
    assert json.loads((folder / "x.json").read_text())


def test_json_before_a_folder_prints(folder, command):
    done = command("score", "--scale=2", "--json", "sr", "Set")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["datasets"]["Set"]["n"] == 2


def test_audit_has_the_scores_of_each_picture(folder, command):
    body = json.loads(command(*CALLS["audit"], "--json", "--csv", "x.csv").out)
    score = json.loads(command(*CALLS["score"], "--json").out)
    assert body["n"] == 2
    protocol = body["conventions"][0]
    assert protocol["images"].keys() == {"a", "b"}
    for image in score["images"]:
        assert protocol["images"][image["image"]]["psnr"] == pytest.approx(image["psnr_y"], abs=1e-9)
    mean = np.mean([image["psnr"] for image in protocol["images"].values()])
    assert protocol["psnr"] == pytest.approx(mean, abs=1e-9)
    rows = list(csv.DictReader((folder / "x.csv").open()))
    assert len(rows) == 2 * len(body["conventions"])
    assert float(rows[0]["psnr"]) == protocol["images"][rows[0]["image"]]["psnr"]


def test_models_are_listed_with_numbers(command):
    found = json.loads(command("models", "--json").out)["models"]
    [tiny] = [one for one in found if (one["name"], one["scale"]) == ("enlcn-tiny", 4)]
    assert tiny["scores"]["Set5"]["psnr_y"] > 31
    assert tiny["bytes"] > 1e5
    assert tiny["parameters"] > 1e5


def test_degrade_says_what_it_did(folder, command):
    assert command(*CALLS["degrade"]).out == "lr: 2 made\n"
    assert command(*CALLS["degrade"]).out == "lr: 0 made, 2 there already\n"
    Image.fromarray(np.zeros((23, 21, 3), np.uint8)).save(folder / "lr" / "a.png")
    done = command(*CALLS["degrade"])
    assert (done.code, done.out) == (1, "lr: 0 made, 1 there already, 1 failed\n")
    assert "exists, with other pixels" in done.err


def test_what_cannot_be_written_loses_nothing_that_is_printed(command, tmp_path, monkeypatch, tiny_model):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (5, 7)).save("a.png")
    words = ("upscale", "a.png", "--model", tiny_model, "--json", "--json-file", "a.png/x.json")
    done = command(*words)
    assert done.code == 1
    assert json.loads(done.out)["done"] == 1
    assert done.err.startswith("enlca: a.png/x.json: cannot be written: ")


def test_a_pipe_gets_the_object_and_stays_a_pipe(command, tmp_path, monkeypatch, tiny_model):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (5, 7)).save("a.png")
    os.mkfifo("pipe")
    with ThreadPoolExecutor(1) as reader:
        read = reader.submit(Path("pipe").read_text)
        assert command("upscale", "a.png", "--model", tiny_model, "--json-file", "pipe").code == 0
        assert json.loads(read.result(60))["done"] == 1
    assert Path("pipe").is_fifo()
