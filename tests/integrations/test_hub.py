"""Networks as repositories: a round trip is equal to the bit, a contradiction is refused in one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from digests import digest
from loopback_hub import Hub, commit_of, serving
from safetensors import safe_open
from safetensors.torch import load_file as read_tensors
from safetensors.torch import save_file

from enlca.checkpoint.store import load_model
from enlca.errors import CheckpointError, MissingExtra, NotWritten
from enlca.integrations.hub import from_pretrained, push, save_pretrained
from enlca.network.sr import SRNetwork

SCORES = {"Set5": {"psnr_y": 31.25, "ssim_y": 0.8812, "n": 5}, "Mine": {"psnr_y": 20.5, "n": 3}}
TRAINING = {"data": ["DIV2K", "Flickr2K"], "steps": 1000}
FILES = ("config.json", "model.safetensors", "README.md")


@pytest.fixture
def folder(tiny_network, tmp_path):
    save_pretrained(tiny_network, tmp_path / "mine", scores=SCORES, training=TRAINING, license="cc-by-4.0")
    return tmp_path / "mine"


def rewritten(folder: Path, tensors=lambda them: None, card=lambda it: None) -> None:
    """Change the tensors or the card of a repository's checkpoint."""
    path = folder / "model.safetensors"
    with safe_open(path, framework="pt") as file:
        body = json.loads(file.metadata()["enlca"])
    weights = read_tensors(path)
    tensors(weights)
    card(body)
    save_file(weights, path, metadata={"enlca": json.dumps(body)})


def config(folder: Path, change) -> None:
    """Change config.json."""
    body = json.loads((folder / "config.json").read_text())
    change(body)
    (folder / "config.json").write_text(json.dumps(body))


def both(folder: Path, change) -> None:
    """Change the card and config.json alike."""
    rewritten(folder, card=change)
    config(folder, change)


def lacking(folder: Path) -> None:
    rewritten(folder, tensors=lambda them: them.pop("fuse.bias"))


# What is done to a good folder, and what the refusal says.
SPOILT = {
    "missing tensor": (lacking, "lacks fuse.bias"),
    "additional tensor": (
        lambda it: rewritten(it, tensors=lambda them: them.update({"more": torch.ones(2)})),
        "unexpected more",
    ),
    "card of another network": (
        lambda it: both(it, lambda card: card["network"].update(channels=6)),
        "does not fit its own settings",
    ),
    "config of another scale": (
        lambda it: config(it, lambda card: card["network"].update(scale=2)),
        "config.json and the card of model.safetensors differ in network",
    ),
    "config with better scores": (
        lambda it: config(it, lambda card: card["scores"]["Set5"].update(psnr_y=40.0)),
        "config.json and the card of model.safetensors differ in scores",
    ),
    "config with an unknown entry": (lambda it: config(it, lambda card: card.update(author="me")), "author"),
    "config that is no JSON": (
        lambda it: (it / "config.json").write_text("{"),
        "is not a card",
    ),
    "config that is binary": (
        lambda it: (it / "config.json").write_bytes(b"\xff"),
        "is not a card",
    ),
    "no config": (lambda it: (it / "config.json").unlink(), "has no config.json"),
    "no weights": (lambda it: (it / "model.safetensors").unlink(), "has no model.safetensors"),
    "pickle beside": (
        lambda it: torch.save({"a": torch.ones(1)}, it / "pytorch_model.bin"),
        "holds a pickle, pytorch_model.bin; only safetensors are taken",
    ),
    "pickle under a false name": (
        lambda it: torch.save({"a": torch.ones(1)}, it / "model.safetensors"),
        "not a readable .safetensors file",
    ),
    "no card": (
        lambda it: save_file({"a": torch.ones(1)}, it / "model.safetensors"),
        "not one that enlca wrote",
    ),
}


def test_a_folder_holds_what_was_saved_to_the_bit(folder, tiny_network):
    assert {path.name for path in folder.iterdir()} == {*FILES}
    again = from_pretrained(folder)
    assert isinstance(again, SRNetwork)
    assert not again.training
    assert digest(again) == digest(tiny_network)
    loaded = load_model(f"local-dir:{folder}")
    assert digest(loaded.model) == digest(tiny_network)
    assert loaded.card is not None
    assert (loaded.card.scores, loaded.card.training) == (SCORES, TRAINING)


@pytest.mark.parametrize("case", SPOILT)
def test_a_folder_that_contradicts_itself_is_refused_in_one_line(folder, case):
    spoil, reason = SPOILT[case]
    spoil(folder)
    with pytest.raises(CheckpointError) as caught:
        from_pretrained(folder)
    assert reason in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_missing_is_named():
    with pytest.raises(CheckpointError, match="local-dir:nowhere: there is no such folder"):
        load_model("local-dir:nowhere")


def test_a_folder_has_no_revisions(folder):
    with pytest.raises(ValueError, match="no revisions"):
        from_pretrained(folder, revision="v1")


def test_a_repository_is_taken_wherever_a_model_is(folder, tmp_path, command, monkeypatch):
    from PIL import Image

    from enlca.evaluation.evaluate import method_called
    from enlca.inference.target_size import network_scales
    from enlca.serve.engine import known_models

    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (7, 5), (200, 100, 50)).save("photo.png")
    name = f"local-dir:{folder.name}"
    done = command("upscale", "photo.png", "--model", name)
    assert (done.code, done.err) == (0, "")
    with Image.open("photo_x4.png") as made:
        assert made.size == (28, 20)
    assert json.loads(command("info", name, "--json").out)["scores"] == SCORES
    assert network_scales(name)[0] == [4]
    assert method_called(name, scale=4).name == "mine"
    assert list(known_models([name])) == ["mine"]
    refused = command("upscale", "photo.png", "--model", name, "--scale", 2, "--overwrite")
    assert refused.code in (0, 2)


def test_the_model_card_says_to_the_hub_what_the_checkpoint_says(folder):
    hub = pytest.importorskip("huggingface_hub", reason="needs pip install 'enlca[hub]'")
    card = hub.ModelCard.load(folder / "README.md")
    assert (card.data.library_name, card.data.pipeline_tag) == ("enlca", "image-to-image")
    assert card.data.license == "cc-by-4.0"
    found = {(one.dataset_name, one.metric_type): one.metric_value for one in card.data.eval_results}
    assert found == {("Set5", "psnr"): 31.25, ("Set5", "ssim"): 0.8812, ("Mine", "psnr"): 20.5}
    assert "| Set5 | 31.25 | 0.8812 |" in card.text
    assert "DIV2K, Flickr2K" in card.text


def test_without_scores_and_licence_the_model_card_claims_neither(tiny_network, tmp_path):
    save_pretrained(tiny_network, tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "license" not in text
    assert "Not measured." in text


def test_without_the_client_one_line_says_what_to_install(monkeypatch, tiny_model):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for call in (lambda: load_model("hf-hub:a/b"), lambda: push(tiny_model, "me/mine")):
        with pytest.raises(MissingExtra, match=r"pip install 'enlca\[hub\]'"):
            call()


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def told(tiny_network, tiny_model, tmp_path_factory):
    """What `hub_client.py` was told by a hub with good and spoilt repositories, and that hub."""
    pytest.importorskip("huggingface_hub", reason="needs pip install 'enlca[hub]'")
    place = tmp_path_factory.mktemp("hub")
    save_pretrained(tiny_network, place / "good", scores=SCORES)
    good = files_of(place / "good")
    other = SRNetwork(tiny_network.config)
    save_pretrained(other, place / "v1")
    hub = Hub({"org/good": {"main": good, "v1": files_of(place / "v1"), commit_of(good): good}})
    for number, (spoil, _) in enumerate(SPOILT.values()):
        save_pretrained(tiny_network, place / f"bad{number}", scores=SCORES)
        spoil(place / f"bad{number}")
        hub.repositories[f"org/bad{number}"] = {"main": files_of(place / f"bad{number}")}
    models = [
        *("hf-hub:org/good", "hf-hub:org/good@v1", f"hf-hub:org/good@{commit_of(good)}"),
        *(f"hf-hub:org/bad{number}" for number in range(len(SPOILT))),
        *("hf-hub:org/good@v9", "hf-hub:org/none", "hf-hub:org/gated", "hf-hub:a/b/c", "hf-hub:"),
    ]
    with serving(hub):
        done = subprocess.run(
            [sys.executable, Path(__file__).with_name("hub_client.py")],
            input=json.dumps({"models": models, "file": str(tiny_model)}),
            env=os.environ
            | {
                "HF_ENDPOINT": hub.address,
                "HF_HUB_DISABLE_XET": "1",
                "HF_HUB_DISABLE_TELEMETRY": "1",
                "HF_HOME": str(place / "cache"),
                "HF_TOKEN": "hf_loopback",
                "NO_PROXY": "127.0.0.1",
            },
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) | {"stderr": done.stderr, "other": digest(other), "hub": hub}


def test_a_repository_of_the_hub_gives_what_was_saved_to_the_bit(told, tiny_network):
    commit = commit_of(told["hub"].repositories["org/good"]["main"])
    for model in ("hf-hub:org/good", f"hf-hub:org/good@{commit}", "Upscaler"):
        assert told[model] == {"digest": digest(tiny_network)}


def test_a_revision_is_that_revision(told):
    assert told["hf-hub:org/good@v1"] == told["from_pretrained"] == {"digest": told["other"]}


def test_repositories_that_contradict_themselves_are_refused_in_one_line(told):
    for number, (case, (_, reason)) in enumerate(SPOILT.items()):
        refusal = told[f"hf-hub:org/bad{number}"]
        assert reason in refusal["error"], case
        assert f"bad{number}" in refusal["error"]
        assert "\n" not in refusal["error"]
        assert refusal["code"] == 2


def test_what_the_hub_does_not_have_is_said_in_one_line(told):
    reasons = {
        "hf-hub:org/good@v9": "the repository has no such revision",
        "hf-hub:org/none": "no such repository, or a private one",
        "hf-hub:org/gated": "is given out by its owners only",
        "hf-hub:a/b/c": "hf-hub:a/b/c: ",
        "hf-hub:": "hf-hub:: ",
    }
    for model, reason in reasons.items():
        assert reason in told[model]["error"]
        assert "\n" not in told[model]["error"]


def test_only_files_of_the_repository_are_asked_for(told):
    fetched = {line.rpartition("/")[2] for line in told["hub"].seen if "/resolve/" in line}
    assert fetched <= {"model.safetensors", "config.json"}


def test_a_pushed_network_comes_back_to_the_bit(told, tiny_network):
    assert told["push"]["text"].startswith(told["hub"].address + "/me/mine/commit/")
    assert told["pushed"] == {"digest": digest(tiny_network)}
    assert {*told["hub"].repositories["me/mine"]["main"]} == {*FILES}
    assert b'license: "cc-by-4.0"' in told["hub"].repositories["me/mine"]["main"]["README.md"]


def test_a_refused_upload_is_one_line_with_exit_code_1(told):
    refusal = told["push without a token"]
    assert refusal["error"].startswith("hf-hub:me/mine: ")
    assert "\n" not in refusal["error"]
    assert refusal["code"] == NotWritten.exit_code


def test_without_the_hub_an_earlier_download_does(told, tiny_network):
    assert told["offline, downloaded before"] == {"digest": digest(tiny_network)}
    assert "cannot be reached, and there is no earlier download" in told["offline, never downloaded"]["error"]


def test_where_the_connection_breaks_an_earlier_download_does(told, tiny_network):
    assert told["broken, downloaded before"] == {"digest": digest(tiny_network)}
    assert told["broken, never downloaded"]["error"] == "hf-hub:org/good: [Errno 104] reset by peer"


def test_a_full_disk_is_not_taken_for_a_hub_that_cannot_be_reached(told):
    assert told["full disk"]["error"] == "hf-hub:org/good: [Errno 28] No space left on device"


def test_nothing_is_printed_where_stderr_is_no_terminal(told):
    assert told["stderr"] == ""


def test_the_command_pushes(told, command, monkeypatch):
    sent = {}
    monkeypatch.setattr(
        "enlca.integrations.hub.push",
        lambda model, repository, **facts: sent.update(facts) or "https://there",
    )
    assert command("hub", "push", "enlcn-tiny", "me/mine").out == "https://there\n"
    assert sent == {"scale": None, "license": "apache-2.0", "private": False}
    line = command("hub", "push", "a.safetensors", "me/mine", "--private", "--json").out
    assert json.loads(line)["model"] == "hf-hub:me/mine"
    assert line.endswith("}\n")
    assert (sent["license"], sent["private"]) == (None, True)
