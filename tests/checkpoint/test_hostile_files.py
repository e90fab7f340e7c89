"""Files made to exhaust memory, time or a terminal are refused in one line, with nothing allocated."""

import io
import json
import struct
import time
import zipfile

import jaxtyping
import pytest
import torch
from safetensors.torch import save, save_file

from enlca.checkpoint.store import load_model
from enlca.errors import CheckpointError, MissingExtra
from enlca.peers import PEERS

LIMIT = 2.0  # seconds, as promised; the clock of the thread, since the machine may be busy


def refusal(path):
    started = time.thread_time()
    with pytest.raises((CheckpointError, MissingExtra)) as caught:
        load_model(path)
    assert time.thread_time() - started < LIMIT
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    assert len(line) < 700
    return line


def archive(pickle, compression=zipfile.ZIP_STORED, storages=()):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        file.writestr("x/data.pkl", pickle)
        file.writestr("x/version", "3\n")
        for key, content in storages:
            file.writestr(f"x/data/{key}", content)
    return buffer.getvalue()


def doubled(depth):
    """Opcodes of a tuple that holds one tuple twice, that another twice, and so on."""
    parts = [b")q\0"]
    parts += [bytes([ord("h"), i, ord("h"), i, 0x86, ord("q"), i + 1]) for i in range(depth)]
    return b"".join(parts)


HEAD, STOP = b"\x80\x02", b"."
STORAGE = b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0aX\3\0\0\0cpuK\1tQ"
PICKLES = {
    "a key of tuples in tuples": (
        HEAD + b"}" + doubled(60) + b"Ns" + STOP,
        "its pickle is damaged or foreign",
    ),
    "a tuple as key": (HEAD + b"}K\1K\2\x86Ns" + STOP, "keys are not texts"),
    "a size of tuples in tuples": (
        HEAD + b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + b"K\0" + doubled(60) + b")NNtR" + STOP,
        "its pickle is damaged or foreign",
    ),
    "a storage of more than the file": (
        HEAD
        + b"}X\1\0\0\0wctorch._utils\n_rebuild_tensor_v2\n("
        + STORAGE.replace(b"K\1t", b"J\xff\xff\xff\x7ft")
        + b"K\0J\xff\xff\xff\x7f\x85K\1\x85\x89}tRs"
        + STOP,
        "describes a tensor of shape [2147483647], which it does not hold",
    ),
    "half a million numbers": (HEAD + b"](" + b"K\1" * 500_000 + b"e" + STOP, "far more than a network"),
    "a name of a megabyte": (
        HEAD + b"}X" + struct.pack("<I", 1 << 20) + b"w" * (1 << 20) + b"K\1s" + STOP,
        "which is not a tensor but of type int",
    ),
    "code": (HEAD + b"cos\nsystem\nX\4\0\0\0trueq\1\x85R" + STOP, "reading it would run os.system: refused"),
    "an empty stack": (HEAD + b"s" + STOP, "damaged or cut short"),
    "an unknown memo": (HEAD + b"h\7" + STOP, "damaged or cut short"),
    "no end": (HEAD + b"}", "damaged or cut short"),
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("case", PICKLES)
def test_pickles_that_would_cost_time_or_memory_are_refused(folder, case, zipped):
    pickle, reason = PICKLES[case]
    if case == "a name of a megabyte" and not zipped:
        reason = "damaged or cut short"  # storages have to follow
    (folder / "x.pt").write_bytes(archive(pickle) if zipped else pickle)
    assert reason in refusal("x.pt")


def test_stretched_tensors_are_refused(folder):
    wide = torch.zeros(1).expand(20_000, 20_000)
    for zipped in (True, False):
        torch.save({"head.0.weight": wide}, "x.pt", _use_new_zipfile_serialization=zipped)
        assert "describes a tensor of shape [20000, 20000], which it does not hold" in refusal("x.pt")


def test_one_storage_under_many_names_counts_each_time(folder):
    one = torch.zeros(50_000)
    torch.save({f"w{i}": one for i in range(50)}, "x.pt")
    assert "describes 2,500,000 numbers in" in refusal("x.pt")


def test_compressed_archives_are_refused(folder, state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile("x.pt", "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    assert "compressed, which PyTorch never does" in refusal("x.pt")


def test_an_archive_of_too_many_parts_is_refused_by_the_size_of_its_directory(folder):
    content = archive(HEAD + b"}" + STOP)
    at = content.rindex(b"PK\5\6") + 12
    (folder / "x.pt").write_bytes(content[:at] + struct.pack("<L", 1 << 30) + content[at + 4 :])
    assert "far more parts" in refusal("x.pt")


def test_a_header_of_millions_of_tensors_is_refused(folder):
    (folder / "x.safetensors").write_bytes(struct.pack("<Q", 5 << 20) + b"{" + bytes(6 << 20))
    assert "its header of 5,242,880 bytes describes far more than a network" in refusal("x.safetensors")


def test_empty_tensors_have_no_shape_to_deduce_from(folder):
    for shape in ((10**12, 0), (0, 64, 3, 3)):
        torch.save(
            {"head.0.weight": torch.zeros(shape), "body.0.conv_match1.0.weight": torch.zeros(1)}, "x.pt"
        )
        assert f"of shape {list(shape)}, which is empty" in refusal("x.pt")
        save_file({"head.0.weight": torch.zeros(shape)}, "x.safetensors")
        assert "which is empty" in refusal("x.safetensors")


@pytest.mark.parametrize("name", PEERS)
def test_shapes_of_another_size_are_refused_before_a_model_is_built(name, small_sizes):
    peer = PEERS[name]
    tensors = peer.write(peer.build(scale=2, **small_sizes[name]))
    for changed in (name for name in (*list(tensors)[2:4], list(tensors)[-4]) if tensors[name].ndim):
        shape = tensors[changed].shape
        for wrong in ((10**9, *shape[1:]), (*shape[:1], 10**9, *shape[2:]), (), (0,)):
            if len(wrong) <= 4:
                # Not a file's: those are refused for what they do not hold.
                hostile = tensors | {changed: torch.zeros(()).expand(wrong)}
                with pytest.raises(CheckpointError):
                    peer.read(hostile)


CARDS = {
    "blocks": ({"n_blocks": 10**4, "blocks_per_stage": 1}, "does not fit its own settings: 10000 blocks"),
    "many blocks": ({"n_blocks": 10**7, "blocks_per_stage": 1}, "n_blocks must be at most 65536"),
    "channels": ({"channels": 8000}, "does not fit its own settings: 2 blocks of up to 8000 channels"),
    "features": ({"n_features": 10**9}, "n_features must be at most"),
    "fewer features": ({"n_features": 60_000}, "does not fit its own settings"),
    "embedding": ({"embed_channels": 50_000}, "does not fit its own settings"),
    "kernel": ({"embed_kernel": 10**9 + 1}, "embed_kernel must be odd, from 1 to 255"),
    "amplification": ({"amplification": float("inf")}, "amplification must be positive"),
    "mean of texts": ({"mean": ["a", "b", "c"]}, "mean must be three numbers"),
    "a longer mean": ({"mean": [0.5] * 10**5}, "mean must be three numbers"),
    "a name of a megabyte": ({"w" * 10**6: 1}, "unknown network settings"),
}
BODIES = {
    "training is a list": (lambda body: body | {"training": [1]}, "training '[1]', which is not an object"),
    "scores are a list": (lambda body: body | {"scores": [1]}, "scores '[1]', which is not an object"),
    "scores of no numbers": (lambda body: body | {"scores": {"Set5": 3}}, "scores that are no objects"),
    "a variant of numbers": (lambda body: body | {"variant": 7}, "variant that is no text"),
    "half a surrogate": (lambda body: body | {"training": {"data": "\ud800"}}, "surrogates not allowed"),
    "no function": (
        lambda body: body | {"network": {"build": 7, "scale": 2, "settings": {}}},
        "build must be a text",
    ),
    "a function": (
        lambda body: body | {"network": {"build": "os:abort", "scale": 2, "settings": {}}},
        "built by os:abort, which is code outside enlca; to run it, give os:abort@x.safetensors",
    ),
}


def rewritten(network, change):
    tensors = {name: x.contiguous() for name, x in network.state_dict().items()}
    body = {
        "format": 1,
        "network": network.config.to_dict(),
        "variant": "paper",
        "training": {},
        "scores": {},
    }
    text = change(body)
    save_file(
        tensors, "x.safetensors", metadata={"enlca": text if isinstance(text, str) else json.dumps(text)}
    )


@pytest.mark.parametrize("case", CARDS)
def test_cards_that_ask_for_more_than_the_file_holds_are_refused(folder, tiny_network, case):
    settings, reason = CARDS[case]
    rewritten(tiny_network, lambda body: body | {"network": body["network"] | settings})
    assert reason in refusal("x.safetensors")


def test_a_number_beyond_floats_is_refused(folder, tiny_network, monkeypatch):
    # The types that tests check say so first.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    rewritten(tiny_network, lambda body: body | {"network": body["network"] | {"res_scale": 10**400}})
    assert "int too large to convert to float" in refusal("x.safetensors")


@pytest.mark.parametrize("case", BODIES)
def test_cards_of_other_types_are_refused(folder, tiny_network, case):
    change, reason = BODIES[case]
    rewritten(tiny_network, change)
    assert reason in refusal("x.safetensors")


def test_a_card_nested_too_deep_is_refused(folder, tiny_network):
    rewritten(tiny_network, lambda body: "[" * 100_000)
    assert "nested too deep" in refusal("x.safetensors")


@pytest.mark.parametrize("kind", [torch.int64, torch.complex64])
def test_weights_of_another_type_are_refused(folder, tiny_network, kind):
    tensors = {name: x.contiguous() for name, x in tiny_network.state_dict().items()}
    tensors["fuse.bias"] = tensors["fuse.bias"].to(kind)
    body = {
        "format": 1,
        "network": tiny_network.config.to_dict(),
        "variant": "paper",
        "training": {},
        "scores": {},
    }
    (folder / "x.safetensors").write_bytes(save(tensors, metadata={"enlca": json.dumps(body)}))
    assert "holds 'fuse.bias', which is not of floating-point numbers" in refusal("x.safetensors")


def test_escapes_for_the_terminal_are_not_printed(folder, tiny_network, command):
    rewritten(
        tiny_network, lambda body: body | {"training": {"data": "\x1b[2J\x07evil"}, "variant": "\x1b[31m"}
    )
    done = command("info", "./x.safetensors")
    assert done.code == 0
    assert "evil" in done.out
    assert "\x1b" not in done.out + done.err
    assert "\x07" not in done.out
