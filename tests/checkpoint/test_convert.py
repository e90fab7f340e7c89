"""`enlca convert`: the authors' `.pt` to our `.safetensors` and back, by suffix."""

import os

import pytest
import torch

import enlca
from enlca.checkpoint.file import load_file, read_card


def test_convert_goes_both_ways_and_says_what_it_made(folder, network, state, command):
    torch.save(state, "theirs.pt")
    parameters = sum(parameter.numel() for parameter in network.parameters())
    done = command("convert", "theirs.pt", "ours.safetensors")
    line = f"theirs.pt -> ours.safetensors (x2, {parameters:,} parameters, variant released)\n"
    assert done == (0, line, "")
    ours = load_file("ours.safetensors")[0].state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in network.state_dict().items())
    card = read_card("ours.safetensors")
    assert (card.variant, card.training["n1"], card.training["n2"]) == ("released", 15, 50)
    assert command("convert", "ours.safetensors", "again.pt").code == 0
    again = torch.load("again.pt", weights_only=True)
    assert list(again) == list(state)
    assert all(torch.equal(again[name], tensor) for name, tensor in state.items())
    assert "n1                       15" in command("info", "./ours.safetensors").out


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("good.pt", "copy.pt"), "converts .pt to .safetensors or back; got good.pt and copy.pt"),
        (("good.pt", "x.onnx"), "converts .pt to .safetensors or back"),
        (("good", "x.pt"), "converts .pt to .safetensors or back"),
        (("good.pt", "link.safetensors"), "good.pt and link.safetensors are the same file"),
        (("gone.pt", "x.safetensors"), "gone.pt: no such checkpoint file"),
        (("bad.pt", "x.safetensors"), "bad.pt: not a file that PyTorch wrote"),
        (("tiny.safetensors", "x.pt"), "x.pt: no place in the authors' layout"),
        (("tiny.safetensors", "x.pt"), "skip 'none', and this network 'bilinear'"),
        (("good.pt", "nowhere/x.safetensors"), "nowhere/x.safetensors: cannot be written: No such file"),
        (("good.pt", "folder.safetensors"), "folder.safetensors: cannot be written: Is a directory"),
        (("good.pt",), "Missing argument"),
    ],
)
def test_what_cannot_be_converted_is_one_line_and_exit_code_2(
    folder, state, tiny_network, command, words, reason
):
    torch.save(state, "good.pt")
    os.link("good.pt", "link.safetensors")
    enlca.save(tiny_network, "tiny.safetensors")
    (folder / "bad.pt").write_text("dear diary")
    (folder / "folder.safetensors").mkdir()
    before = {path.name: path.is_file() and path.read_bytes() for path in folder.iterdir()}
    done = command("convert", *words)
    assert (done.code, done.out) == (2, "")
    [line] = done.err.splitlines()
    assert reason in line
    assert {path.name: path.is_file() and path.read_bytes() for path in folder.iterdir()} == before
