"""`.pt` files: read without running anything, refused in one line, written whole."""

import io
import os
import pickle
import zipfile

import pytest
import torch
from PIL import Image

from enlca.checkpoint import torch_file
from enlca.checkpoint.official import load_official, save_official
from enlca.checkpoint.store import load_with_card
from enlca.errors import CheckpointError


def bytes_of(content, **how):
    buffer = io.BytesIO()
    torch.save(content, buffer, **how)
    return buffer.getvalue()


def refusal(content, path="x.pt"):
    """The line by which a file with this content, or these bytes, is refused."""
    with open(path, "wb") as file:
        file.write(content if isinstance(content, bytes) else bytes_of(content))
    with pytest.raises(CheckpointError) as caught:
        load_official(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    assert "weights_only" not in line
    return line


def assert_same_state(network, other):
    state, again = network.state_dict(), other.state_dict()
    assert again.keys() == state.keys()
    for name, tensor in state.items():
        assert torch.equal(again[name], tensor), name


class Command:
    """What a stranger may put into a pickle."""

    def __reduce__(self):
        return os.mkdir, ("pwned",)


def test_a_file_comes_back_bit_for_bit_and_is_marked_released(folder, network):
    save_official(network, "x.pt")
    again, card = load_with_card("x.pt")
    assert_same_state(network, again)
    assert not again.training
    assert card.network == again.config == network.config
    assert card.variant == "released"
    assert (card.training["n1"], card.training["n2"], card.training["hinge"]) == (15, 50, True)


def test_a_command_loads_a_file_without_a_card_once(folder, network, command, monkeypatch):
    save_official(network, "x.pt")
    Image.new("RGB", (7, 5)).save("x.png")
    inspect, looked_into = torch_file.inspect_file, []
    monkeypatch.setattr(torch_file, "inspect_file", lambda path: (looked_into.append(path), inspect(path)))
    assert command("upscale", "x.png", "--model", "x.pt", "-o", "y.png").code == 0
    assert len(looked_into) == 1


def test_a_written_file_holds_the_authors_state_dict_and_nothing_else(folder, network, state):
    save_official(network, "x.pt")
    assert os.listdir() == ["x.pt"]
    stored = torch.load("x.pt", weights_only=True)
    assert list(stored) == list(state)
    assert {tensor.dtype for tensor in stored.values()} == {torch.float32}
    save_official(network, "y.pt")
    with open("x.pt", "rb") as x, open("y.pt", "rb") as y:
        assert x.read() == y.read()


def test_files_from_before_pytorch_1_6_and_of_half_precision_are_read(folder, network, state):
    torch.save(state, "old.pt", _use_new_zipfile_serialization=False)
    assert_same_state(network, load_official("old.pt"))
    torch.save({name: tensor.half() for name, tensor in state.items()}, "half.pt")
    again = load_official("half.pt").state_dict()
    assert all(torch.equal(again[name], x.half().float()) for name, x in network.state_dict().items())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"params": {}, "params_ema": state, "epoch": 7},
        lambda state: {"params": state},
        lambda state: {"epoch": 3, "state_dict": {f"module.{name}": x for name, x in state.items()}},
        lambda state: {"model": {"params": state}, "optimizer": {"state": {0: {"step": torch.ones(1)}}}},
        lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_what_training_code_stores_around_weights_is_taken_off(folder, network, state, wrap, zipped):
    torch.save(wrap(state), "x.pt", _use_new_zipfile_serialization=zipped)
    assert_same_state(network, load_official("x.pt"))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_malicious_pickle_is_refused_and_not_run(folder, state, zipped):
    state["head.0.bias"] = Command()
    line = refusal(bytes_of(state, _use_new_zipfile_serialization=zipped))
    assert "refused" in line
    assert "mkdir" in line
    assert "pwned" not in os.listdir()


def test_a_pickle_that_is_not_pytorchs_is_refused_and_not_run(folder):
    assert "not a file of tensors alone" in refusal(pickle.dumps({"x": Command()}))
    assert "pwned" not in os.listdir()


def test_a_whole_network_instead_of_its_tensors_is_refused(folder):
    assert "torch.nn.modules.conv.Conv2d" in refusal(torch.nn.Conv2d(3, 3, 1))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.001, 0.02, 0.5, 0.99])
def test_a_file_that_was_cut_short_is_refused(folder, state, zipped, share):
    whole = bytes_of(state, _use_new_zipfile_serialization=zipped)
    assert "damaged" in refusal(whole[: max(3, int(share * len(whole)))])


def test_a_file_whose_second_half_never_arrived_is_refused(folder, state):
    whole = bytes_of(state)
    half = len(whole) // 2
    assert "damaged" in refusal(whole[:half] + bytes(len(whole) - half))


def test_one_wrong_bit_in_a_weight_is_noticed(folder, state):
    whole = bytearray(bytes_of(state))
    at = whole.index(state["body.10.weight"].numpy().tobytes())
    whole[at + 1] ^= 1
    assert "damaged" in refusal(bytes(whole))


def test_other_files_and_no_file_are_refused(folder, network):
    assert "not a file that PyTorch wrote" in refusal(b"dear diary, " * 99)
    assert "the file is empty (0 bytes)" in refusal(b"")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("diary.txt", "dear diary")
    assert "damaged" in refusal(archive.getvalue())
    for name in ("gone.pt", "."):
        with pytest.raises(CheckpointError, match="no such checkpoint file"):
            load_official(name)


CONTENTS = {
    "a list": (lambda state: [*state.values()], "holds a list, not tensors by name"),
    "a number as name": (lambda state: {3: torch.ones(1)}, "holds something called 3"),
    "a list in a wrapper": (
        lambda state: {"state_dict": [state]},
        "holds 'state_dict', which is not a tensor",
    ),
    "integers": (lambda state: state | {"head.0.bias": torch.ones(6).int()}, "holds 'head.0.bias', which is"),
    "no numbers": (lambda state: {"x": torch.ones(3, device="meta")}, "holds 'x', which is not a dense"),
    "nothing": (lambda state: {}, "lacks head.0.weight"),
    "another network": (lambda state: {"body.0.body.0.weight": torch.ones(1)}, "lacks head.0.weight"),
    "no upsampler": (
        lambda state: {name: x for name, x in state.items() if not name.startswith("tail.")},
        "lacks tail.0.0.weight",
    ),
    "half the keys": (
        lambda state: dict([*state.items()][: len(state) // 2]),
        "lacks tail.0.0.weight",
    ),
    "a missing attention": (
        lambda state: {name: x for name, x in state.items() if not name.startswith("body.9.")},
        "lacks body.9.conv_match1.0.weight; lacks body.9.conv_match1.0.bias; lacks"
        " body.9.conv_match2.0.weight (and 4 more)",
    ),
    "no end": (
        lambda state: {name: x for name, x in state.items() if not name.startswith("body.10.")},
        "lacks body.10.weight; lacks body.10.bias",
    ),
    "something more": (lambda state: state | {"extra": torch.ones(1)}, "has an unexpected extra"),
    "a prefix on one": (lambda state: state | {"module.x": torch.ones(1)}, "has an unexpected module.x"),
    "a far place": (
        lambda state: state | {"body.999999999.weight": torch.ones(1)},
        "unexpected body.999999999",
    ),
    "a longer upsampler": (
        lambda state: state | {"tail.0.4.bias": torch.ones(24)},
        "has an unexpected tail.0.4.bias",
    ),
    "another shape": (
        lambda state: state | {"body.3.body.2.bias": torch.ones(7)},
        "has body.3.body.2.bias of shape [7] instead of [6]",
    ),
    "no shape": (lambda state: state | {"head.0.weight": torch.ones(())}, "channels must be at least 1"),
    "another scale": (
        lambda state: state | {"tail.0.0.weight": torch.ones(54, 6, 3, 3)},
        "has tail.0.0.bias of shape [24] instead of [54]",
    ),
    "pixels up to 255": (
        lambda state: state | {"sub_mean.bias": 255 * state["sub_mean.bias"]},
        "sub_mean.bias is (-114.4, -111.5, -103) instead of (-0.4488, -0.4371, -0.404): only networks for",
    ),
    "another mean": (
        lambda state: state | {"add_mean.bias": torch.tensor([0.5, 0.5, 0.5])},
        "add_mean.bias is (0.5, 0.5, 0.5) instead of",
    ),
    "other colours": (
        lambda state: state | {"sub_mean.weight": state["sub_mean.weight"].flip(0)},
        "sub_mean.weight is (0, 0, 1, 0, 1, 0, 1, 0, 0) instead of (1, 0, 0, 0, 1, 0, 0, 0, 1)",
    ),
}


@pytest.mark.parametrize("case", CONTENTS)
def test_contents_that_do_not_fit_are_refused_by_name(folder, state, case):
    change, reason = CONTENTS[case]
    assert reason in refusal(change(state))
