"""Files that spandrel knows become an `SRModel`; spandrel knows ours after `install`."""

import importlib.util
import sys
import types

import pytest
import torch
from safetensors.torch import load_file as read_tensors

import enlca
from enlca.checkpoint.community import CommunityModel
from enlca.checkpoint.file import EMBEDDED
from enlca.checkpoint.store import load_model
from enlca.errors import CheckpointError, MissingExtra
from enlca.inference.execute import padded

LR = torch.rand(1, 3, 13, 17, generator=torch.Generator().manual_seed(0))
NEEDED = ("InterpolationMode", "normalize", "rotate")


@pytest.fixture(scope="module")
def spandrel():
    """spandrel, with a stub for what it imports of torchvision, which has no build beside a CPU's PyTorch."""
    if importlib.util.find_spec("spandrel") is None or importlib.util.find_spec("einops") is None:
        pytest.skip("needs spandrel: pip install --no-deps spandrel einops")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional"):
            stub = types.ModuleType(name)
            stub.__spec__ = importlib.machinery.ModuleSpec(name, None)
            patch.setitem(sys.modules, name, stub)
        for name in NEEDED:
            setattr(sys.modules["torchvision.transforms.functional"], name, None)
        import spandrel

        yield spandrel


def compact(scale=2, channels=3):
    from spandrel.architectures.Compact import Compact

    torch.manual_seed(3)
    return Compact(num_in_ch=channels, num_out_ch=channels, num_feat=4, num_conv=2, upscale=scale).eval()


def span(scale=2):
    from spandrel.architectures.SPAN import SPAN

    torch.manual_seed(5)
    return SPAN(num_in_ch=3, num_out_ch=3, feature_channels=4, upscale=scale).eval()


def swinir(scale=2):
    from spandrel.architectures.SwinIR import SwinIR

    torch.manual_seed(4)
    sizes = {"embed_dim": 12, "depths": [2], "num_heads": [2], "window_size": 8, "mlp_ratio": 2.0}
    return SwinIR(upscale=scale, upsampler="pixelshuffle", img_size=32, **sizes).eval()


@pytest.mark.parametrize(("build", "name"), [(span, "SPAN"), (swinir, "SwinIR")])
@torch.no_grad()
def test_a_community_file_is_an_sr_model_with_its_facts(spandrel, folder, build, name):
    network = build()
    torch.save({"params_ema": network.state_dict()}, "community.pth")
    loaded = load_model("community.pth", 2)
    assert loaded.kind == f"{name}, PyTorch file, read by spandrel"
    assert (loaded.card, loaded.model.scale, loaded.model.name) == (None, 2, name)
    descriptor = spandrel.MAIN_REGISTRY.load(network.state_dict())
    model = loaded.model
    assert isinstance(model, CommunityModel)
    assert model.input_multiple == descriptor.size_requirements.multiple_of
    assert model.half_safe == (descriptor.supports_half and descriptor.supports_bfloat16)
    assert model.tile_overlap == (32 if descriptor.tiling is spandrel.ModelTiling.SUPPORTED else 64)
    sr = padded(model)(LR)
    assert sr.shape == (1, 3, 26, 34)
    # spandrel pads to the same size with a mirror, we with edge pixels.
    wide, high = descriptor.size_requirements.get_padding(17, 13)
    same = network(torch.nn.functional.pad(LR, (0, wide, 0, high), mode="replicate"))[..., :26, :34]
    torch.testing.assert_close(sr, same, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_file_that_both_know_is_read_here_and_gives_the_same(spandrel, folder):
    network = compact()
    torch.save(network.state_dict(), "both.pth")
    loaded = load_model("both.pth")
    assert loaded.kind == "SRVGGNetCompact (Wang et al. 2021, ICCVW), PyTorch file in its published layout"
    torch.testing.assert_close(loaded.model(LR), network(LR), rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_model_of_grey_pictures_gets_each_colour(spandrel, folder):
    network = compact(channels=1)
    torch.save(network.state_dict(), "grey.pth")
    sr = load_model("grey.pth").model(LR)
    for colour in range(3):
        one = network(LR[:, colour : colour + 1])
        torch.testing.assert_close(sr[:, colour : colour + 1], one, rtol=0, atol=1e-6)


def test_what_does_not_upscale_is_refused(spandrel, folder):
    torch.save(compact(scale=1).state_dict(), "x.pth")
    with pytest.raises(CheckpointError, match=r"x\.pth: a RealESRGAN Compact for Restoration, x1: only"):
        load_model("x.pth")


def test_what_spandrel_does_not_fit_is_one_line(spandrel, folder):
    state = compact().state_dict()
    torch.save({name: tensor for name, tensor in state.items() if name != "body.2.weight"}, "x.pth")
    with pytest.raises(CheckpointError, match=r"x\.pth: spandrel cannot read it: ") as caught:
        load_model("x.pth")
    assert "\n" not in str(caught.value)
    torch.save({"encoder.weight": torch.ones(3, 3)}, "x.pth")
    with pytest.raises(CheckpointError, match="and none that spandrel knows"):
        load_model("x.pth")


@pytest.mark.parametrize(
    "content",
    [
        {"body.999999999.weight": (1,), "body.0.weight": (4, 3, 3, 3), "body.1.weight": (4,)},
        {"model.0.weight": (1,), "model.1.sub.999999999.RDB1.conv1.0.weight": (1,)},
        {"conv_first.weight": (64,), "layers.0.residual_group.blocks.0.norm1.weight": (1,)},
    ],
)
def test_names_that_ask_spandrel_for_too_much_are_refused(spandrel, folder, content):
    torch.save({name: torch.ones(shape) for name, shape in content.items()}, "x.pth")
    with pytest.raises(CheckpointError, match=r"x\.pth: "):
        load_model("x.pth")


def test_without_torchvision_one_line_says_what_to_install(folder, monkeypatch):
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.setattr("enlca.checkpoint.community.find_spec", lambda name: None)
    torch.save({"encoder.weight": torch.ones(3, 3)}, "x.pth")
    with pytest.raises(MissingExtra) as caught:
        load_model("x.pth")
    line = str(caught.value)
    assert "pip install 'enlca[community]'" in line
    assert f"a torchvision that fits PyTorch {torch.__version__}" in line
    assert "\n" not in line


def test_the_card_is_embedded_and_read_without_metadata(folder, tiny_network, command):
    enlca.save(tiny_network, "plain.safetensors", training={"steps": 3}, scores={"Set5": {"psnr_y": 30.5}})
    assert command("convert", "plain.safetensors", "embedded.safetensors", "--embed-card").code == 0
    tensors = read_tensors("embedded.safetensors")
    assert tensors.keys() == tiny_network.state_dict().keys() | {EMBEDDED}
    from safetensors.torch import save_file

    save_file(tensors, "bare.safetensors")
    for name in ("embedded.safetensors", "bare.safetensors"):
        loaded = load_model(name)
        assert loaded.card == load_model("plain.safetensors").card
        assert torch.equal(loaded.model.state_dict()["fuse.bias"], tiny_network.state_dict()["fuse.bias"])
    done = command("convert", "plain.safetensors", "x.pt", "--embed-card")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "--embed-card writes .safetensors" in done.err


@torch.no_grad()
def test_spandrel_reads_our_files_after_install(spandrel, folder, tiny_network, state, network):
    from enlca.integrations.spandrel import install

    registry = spandrel.MAIN_REGISTRY.copy()
    install(registry)
    install(registry)
    enlca.save(tiny_network, "ours.safetensors", embed_card=True)
    found = spandrel.ModelLoader(registry=registry).load_from_file("ours.safetensors")
    assert (found.scale, found.purpose, found.architecture.name) == (4, "SR", "ENLCN (enlca)")
    assert found.tiling is spandrel.ModelTiling.DISCOURAGED
    assert torch.equal(found(LR), tiny_network(LR).clamp(0, 1))
    torch.save(state, "theirs.pth")
    theirs = spandrel.ModelLoader(registry=registry).load_from_file("theirs.pth")
    assert torch.equal(theirs(LR), network(LR).clamp(0, 1))
    assert "ENLCN" not in spandrel.MAIN_REGISTRY
