"""A checkpoint that does not fit is refused, by a line that names the file and the reason."""

import json
import os

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file as read_tensors
from safetensors.torch import save_file

from enlca.checkpoint.file import load_file, read_card
from enlca.errors import CheckpointError


@pytest.fixture
def rewrite(tiny_model, tmp_path):
    """Writes the tiny model once more, with its tensors or its card changed."""

    def write(tensors=lambda them: None, card=lambda it: None):
        with safe_open(tiny_model, framework="pt") as file:
            body = json.loads(file.metadata()["enlca"])
        weights = read_tensors(tiny_model)
        tensors(weights)
        text = json.dumps(body if (new := card(body)) is None else new)
        save_file(weights, tmp_path / "x.safetensors", metadata={"enlca": text})
        return tmp_path / "x.safetensors"

    return write


def refusal(path, load=load_file):
    with pytest.raises(CheckpointError) as caught:
        load(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    return line


def test_a_checkpoint_written_again_unchanged_is_loaded(rewrite):
    assert load_file(rewrite())[1].network.scale == 4


def test_a_missing_tensor_is_named(rewrite):
    assert "lacks fuse.bias" in refusal(rewrite(lambda them: them.pop("fuse.bias")))


def test_missing_random_features_are_missing(rewrite):
    path = rewrite(lambda them: them.pop("body.0.attend.projection"))
    assert "lacks body.0.attend.projection" in refusal(path)


def test_an_unexpected_tensor_is_named(rewrite):
    assert "unexpected extra.weight" in refusal(
        rewrite(lambda them: them.update({"extra.weight": torch.ones(1)}))
    )


def test_a_tensor_of_another_shape_is_named_with_both_shapes(rewrite):
    path = rewrite(lambda them: them.update({"fuse.bias": torch.ones(5)}))
    assert "fuse.bias of shape [5] instead of [8]" in refusal(path)


def test_many_problems_are_counted_instead_of_listed(rewrite):
    line = refusal(rewrite(lambda them: [them.pop(name) for name in list(them)[:10]]))
    assert line.count("lacks") == 3
    assert "and 7 more" in line


CARDS = {
    "another version": (lambda card: card.update(format=99), "checkpoint format 99"),
    "no version": (lambda card: card.pop("format"), "checkpoint format None"),
    "unknown setting": (lambda card: card["network"].update(depth=3), r"unknown network settings ['depth']"),
    "no scale": (lambda card: card["network"].pop("scale"), "lack 'scale'"),
    "impossible scale": (lambda card: card["network"].update(scale=5), "scale must be one of 2, 3, 4"),
    "impossible type": (lambda card: card["network"].update(channels="8"), "channels must be of type int"),
    "half a channel": (lambda card: card["network"].update(channels=8.5), "channels must be of type int"),
    "two colours": (lambda card: card["network"].update(mean=[0.1, 0.2]), "mean"),
    "missing entry": (lambda card: card.pop("variant"), "expected"),
    "unknown entry": (lambda card: card.update(author="me"), "author"),
    "no network": (lambda card: card.update(network=None), "network"),
    "a list": (lambda card: [card], "not a JSON object"),
}


@pytest.mark.parametrize("case", CARDS)
def test_a_card_that_this_version_does_not_understand_is_refused(rewrite, case):
    change, reason = CARDS[case]

    def card(body):
        changed = change(body)
        return changed if isinstance(changed, list) else None

    assert reason in refusal(rewrite(card=card))


def test_a_card_for_another_network_does_not_fit(rewrite):
    line = refusal(rewrite(card=lambda card: card["network"].update(n_blocks=3)))
    assert "does not fit its own settings: lacks body.5" in line


def test_another_programs_safetensors_are_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    for metadata in (None, {"format": "pt"}):
        save_file({"weight": torch.ones(3)}, path, metadata=metadata)
        assert "not one that enlca wrote" in refusal(path)


@pytest.mark.parametrize("left", [0, 5, 100, -1])
def test_a_truncated_file_is_refused(rewrite, left):
    path = rewrite()
    os.truncate(path, left if left >= 0 else path.stat().st_size + left)
    for load in (load_file, read_card):
        assert "not a readable .safetensors file" in refusal(path, load)


def test_a_text_file_is_refused(tmp_path):
    (tmp_path / "x.safetensors").write_text("dear diary, today I trained a network\n" * 9)
    assert "not a readable .safetensors file" in refusal(tmp_path / "x.safetensors")


def test_a_pickle_is_refused_without_being_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    torch.save({"weight": Trap()}, tmp_path / "x.safetensors")
    assert "not a readable .safetensors file" in refusal(tmp_path / "x.safetensors")
    assert not (tmp_path / "sprung").exists()


def test_a_file_that_is_not_there_is_named(tmp_path):
    assert "no such checkpoint file" in refusal(tmp_path / "x.safetensors")
    assert "no such checkpoint file" in refusal(tmp_path)
