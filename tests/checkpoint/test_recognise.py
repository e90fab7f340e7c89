"""What a file is follows from its tensors: every known kind is read by the same call, and says what it is."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

import enlca
from enlca.checkpoint.edsr import from_edsr, to_edsr
from enlca.checkpoint.official import to_official
from enlca.checkpoint.store import load_model
from enlca.errors import CheckpointError, MissingExtra
from enlca.network.zoo import edsr
from enlca.peers import PEERS

LR = torch.rand(1, 3, 24, 20, generator=torch.Generator().manual_seed(0))


def refusal(path):
    with pytest.raises(CheckpointError) as caught:
        load_model(path)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 700
    return line


@pytest.mark.parametrize("name", PEERS)
@torch.no_grad()
def test_each_method_is_recognised_by_its_published_names(folder, name, small_sizes):
    peer = PEERS[name]
    torch.manual_seed(1)
    model = peer.build(scale=2, **small_sizes[name]).eval()
    torch.save({"params_ema": {f"module.{key}": x for key, x in peer.write(model).items()}}, "x.pth")
    loaded = load_model("x.pth", 2)
    assert peer.reference in loaded.kind
    assert loaded.kind.startswith(peer.name)
    assert type(loaded.model) is type(model)
    assert torch.equal(loaded.model(LR), model(LR))
    save_file({key: x.contiguous() for key, x in peer.write(model).items()}, "x.safetensors")
    assert type(load_model("x.safetensors", 2).model) is type(model)
    with pytest.raises(CheckpointError, match=r"x\.safetensors: .*(x5|got 5)"):
        load_model("x.safetensors", 5)


@pytest.mark.parametrize("name", PEERS)
def test_a_method_that_lacks_a_tensor_is_told_so(folder, name, small_sizes):
    peer = PEERS[name]
    tensors = peer.write(peer.build(scale=2, **small_sizes[name]))
    lost = list(tensors)[len(tensors) // 2]
    torch.save({key: tensor for key, tensor in tensors.items() if key != lost}, "x.pt")
    assert f"not {peer.name}: it lacks {lost}" in refusal("x.pt")


def random_edsr(scale, **sizes):
    torch.manual_seed(2)
    return edsr(
        scale, **{"channels": 6, "n_blocks": 3, "blocks_per_stage": 3, "res_scale": 1.0, **sizes}
    ).eval()


@pytest.mark.parametrize("scale", [2, 3, 4])
@torch.no_grad()
def test_edsr_goes_through_its_published_layout_and_back(folder, scale):
    network = random_edsr(scale)
    tensors = to_edsr(network)
    torch.save(tensors, "edsr.pt")
    loaded = load_model("edsr.pt")
    assert loaded.kind == "EDSR (Lim et al. 2017, CVPRW), PyTorch file in its published layout"
    assert loaded.card.network == network.config
    torch.testing.assert_close(loaded.model(LR), network(LR), rtol=0, atol=1e-5)
    again = to_edsr(loaded.model)
    assert list(again) == list(tensors)
    assert all(torch.allclose(again[name], x, rtol=1e-5) for name, x in tensors.items())


@torch.no_grad()
def test_a_published_edsr_sees_pictures_up_to_255_less_the_mean():
    """Against EDSR's own composition, written out by its published names."""
    state = to_edsr(random_edsr(2))

    def conv(x, name):
        weight = state[f"{name}.weight"]
        return torch.nn.functional.conv2d(x, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2)

    head = conv(conv(255 * LR, "sub_mean"), "head.0")
    x = head
    for block in range(3):
        x = x + conv(conv(x, f"body.{block}.body.0").relu(), f"body.{block}.body.2")
    x = torch.nn.functional.pixel_shuffle(conv(conv(x, "body.3") + head, "tail.0.0"), 2)
    expected = conv(conv(x, "tail.1"), "add_mean") / 255
    torch.testing.assert_close(from_edsr(state)(LR), expected, rtol=0, atol=1e-5)


def test_edsr_of_full_size_has_the_published_number_of_weights():
    with torch.device("meta"):
        tensors = to_edsr(edsr(4))
    assert sum(x.numel() for name, x in tensors.items() if "mean" not in name) == 43_089_923
    assert {"body.31.body.2.weight", "body.32.bias", "tail.0.2.weight", "tail.1.weight"} <= tensors.keys()


def test_an_edsr_of_another_range_is_read_and_of_another_mean_refused(folder):
    state = to_edsr(random_edsr(2))
    for name in ("sub_mean.bias", "add_mean.bias"):
        state[name] = state[name] / 255
    assert from_edsr(state).scale == 2
    state["sub_mean.bias"] = torch.tensor([-0.5, -0.5, -0.5])
    torch.save(state, "x.pt")
    assert "another mean or range" in refusal("x.pt")


def test_the_authors_network_is_recognised(folder, network, state):
    torch.save({"model": state}, "model_best.pt")
    loaded = load_model("model_best.pt")
    assert loaded.kind == "ENLCN as its authors released it (Xia et al. 2022, AAAI)"
    assert loaded.card.variant == "released"
    assert to_official(network.config, loaded.model.state_dict()).keys() == state.keys()


def test_what_fits_nothing_is_told_what_is_known(folder):
    torch.save({"encoder.weight": torch.ones(3, 3)}, "x.pt")
    with pytest.raises((CheckpointError, MissingExtra)) as caught:
        load_model("x.pt")
    line = str(caught.value)
    assert line.startswith("x.pt: ")
    assert all(name in line for name in ("ENLCN", "EDSR", "RCAN", "SAN", "LapSRN"))
    assert "\n" not in line


def test_weights_that_are_not_finite_are_refused(folder, tiny_network, small_sizes):
    peer = PEERS["rcan"]
    tensors = peer.write(peer.build(scale=2, **small_sizes["rcan"]))
    tensors["body.1.body.2.bias"] = torch.tensor([1.0, float("nan"), 0.0, 0.0])
    torch.save(tensors, "x.pt")
    assert "its 'body.1.body.2.bias' holds NaN or infinity" in refusal("x.pt")
    tensors = {name: x.clone() for name, x in tiny_network.state_dict().items()}
    tensors["fuse.bias"][3] = float("inf")
    broken = type(tiny_network)(tiny_network.config)
    broken.load_state_dict(tensors)
    enlca.save(broken, "x.safetensors")
    assert refusal("x.safetensors") == "x.safetensors: its fuse.bias holds NaN or infinity"


def test_a_run_folder_means_its_best_weights(folder, tiny_model):
    (folder / "run").mkdir()
    shutil.copy(tiny_model, "run/best.safetensors")
    assert load_model("run").path == folder.relative_to(folder) / "run" / "best.safetensors"


def test_info_says_what_a_file_is(folder, command, small_sizes):
    peer = PEERS["rdn"]
    torch.save(peer.write(peer.build(scale=3, **small_sizes["rdn"])), "rdn.pt")
    done = command("info", "rdn.pt")
    assert done.code == 0
    assert "RDN (Zhang et al. 2018" in done.out
    assert "x3, " in done.out
    facts = json.loads(command("info", "rdn.pt", "--json").out)
    assert facts["kind"].startswith("RDN")
    assert facts["scale"] == 3


def test_pictures_are_upscaled_by_a_foreign_file(folder, command, small_sizes):
    from enlca.image.picture import Picture, read_image, write_image

    peer = PEERS["srfbn"]
    torch.save(peer.write(peer.build(scale=3, **small_sizes["srfbn"])), "srfbn.pth")
    write_image(folder / "lr.png", Picture((255 * LR[0].permute(1, 2, 0)).byte().numpy()))
    done = command("upscale", "lr.png", "-o", "sr.png", "--model", "srfbn.pth")
    assert done.code == 0, done.err
    assert read_image(folder / "sr.png").layers.shape == (72, 60, 3)
