"""The nodes for ComfyUI, against a stub that mimics its documented contract."""

import importlib.util
import sys
import tomllib
from pathlib import Path

import comfy_stub
import pytest
import torch

import enlca
from enlca.checkpoint.store import bundled
from enlca.errors import CheckpointError, PrecisionError

ROOT = Path(__file__).parents[2]
PACK = ROOT / "integrations" / "comfyui"
B, H, W = 3, 11, 13


@pytest.fixture
def comfy(tmp_path, tiny_model, monkeypatch):
    folder = tmp_path / "upscale_models"
    folder.mkdir()
    (folder / "mine.safetensors").write_bytes(tiny_model.read_bytes())
    made = comfy_stub.Comfy(folder)
    comfy_stub.install(made, monkeypatch)
    yield made
    sys.modules.pop("enlca.integrations.comfyui.nodes", None)


@pytest.fixture
def nodes(comfy):
    """As ComfyUI loads the folder in `custom_nodes`: by its path."""
    spec = importlib.util.spec_from_file_location("custom_nodes_enlca", PACK / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return comfy.nodes(module)


@pytest.fixture
def upscaler(comfy, nodes):
    return comfy.run(nodes["EnlcaLoadModel"], model="mine.safetensors", precision="fp32")[0]


def batch(channels, seed=0):
    return torch.rand(B, H, W, channels, generator=torch.Generator().manual_seed(seed))


def test_the_schema_is_the_one_that_workflows_are_saved_with(nodes):
    told = {
        name: (
            [(one.id, one.io_type) for one in node.define_schema().inputs],
            [(one.display_name, one.io_type) for one in node.define_schema().outputs],
            node.define_schema().category,
        )
        for name, node in nodes.items()
    }
    assert told == {
        "EnlcaLoadModel": (
            [("model", "COMBO"), ("precision", "COMBO")],
            [("upscaler", "ENLCA_UPSCALER")],
            "image/upscaling/enlca",
        ),
        "EnlcaUpscale": (
            [("upscaler", "ENLCA_UPSCALER"), ("image", "IMAGE")],
            [("image", "IMAGE")],
            "image/upscaling/enlca",
        ),
    }


def test_bundled_weights_and_files_of_comfyui_are_offered(comfy, nodes):
    def offered():
        return nodes["EnlcaLoadModel"].define_schema().inputs[0].options

    assert offered() == [*(f"{item.name} x{item.scale}" for item in bundled()), "mine.safetensors"]
    (comfy.folder / "more.pth").touch()
    assert offered()[-1] == "more.pth"
    [loaded] = comfy.run(nodes["EnlcaLoadModel"], model="enlcn-tiny x3", precision="auto")
    assert (loaded.scale, loaded.network.name) == (3, enlca.load("enlcn-tiny", scale=3).name)


def test_a_file_that_is_no_model_is_refused(comfy, nodes):
    (comfy.folder / "bad.safetensors").write_bytes(b"x" * 99)
    with pytest.raises(CheckpointError, match=r"bad\.safetensors"):
        comfy.run(nodes["EnlcaLoadModel"], model="bad.safetensors", precision="auto")


def test_the_precisions_offered_are_those_that_there_are(comfy, nodes):
    _, precision = nodes["EnlcaLoadModel"].define_schema().inputs
    for one in precision.options:
        comfy.run(nodes["EnlcaLoadModel"], model="mine.safetensors", precision=one)
    with pytest.raises(PrecisionError):
        nodes["EnlcaLoadModel"].execute("mine.safetensors", "fp8")


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("mode", ["whole", "stream"])
def test_each_image_of_a_batch_is_what_the_upscaler_makes_of_it(comfy, nodes, upscaler, channels, mode):
    upscaler.mode = mode
    images = batch(channels)
    [larger] = comfy.run(nodes["EnlcaUpscale"], upscaler=upscaler, image=images)
    assert larger.shape == (B, 4 * H, 4 * W, channels)
    assert larger.device.type == "cpu"
    upscaler.mode = "whole"
    expected = torch.stack([torch.from_numpy(upscaler(image.numpy())) for image in images])
    torch.testing.assert_close(larger, expected, atol=1e-5, rtol=0)


def test_alpha_is_kept(comfy, nodes, upscaler):
    images = batch(4)
    images[0, ..., 3] = 1
    images[1, ..., 3] = 0
    [larger] = comfy.run(nodes["EnlcaUpscale"], upscaler=upscaler, image=images)
    assert (larger[0, ..., 3] == 1).all()
    assert (larger[1, ..., 3] == 0).all()
    assert 0.2 < larger[2, ..., 3].std() / images[2, ..., 3].std() < 1.2


def test_images_are_taken_one_at_a_time(comfy, nodes, upscaler):
    sizes = []
    upscaler.network.register_forward_pre_hook(lambda network, lr: sizes.append(lr[0].shape))
    upscaler.mode = "whole"
    comfy.run(nodes["EnlcaUpscale"], upscaler=upscaler, image=batch(3))
    assert sizes == [(1, 3, H, W)] * B


def test_values_that_overshoot_are_clipped_and_nan_is_refused(comfy, nodes, upscaler):
    images = batch(3)
    over = images * 1.5 - 0.25
    [larger] = comfy.run(nodes["EnlcaUpscale"], upscaler=upscaler, image=over)
    [expected] = comfy.run(nodes["EnlcaUpscale"], upscaler=upscaler, image=over.clamp(0, 1))
    assert torch.equal(larger, expected)
    images[1, 2, 3] = torch.nan
    with pytest.raises(ValueError, match="nan"):
        comfy.run(nodes["EnlcaUpscale"], upscaler=upscaler, image=images)


@pytest.mark.parametrize("mode", ["whole", "stream"])
def test_progress_rises_over_the_whole_batch_to_its_end(comfy, nodes, upscaler, mode):
    upscaler.mode = mode
    comfy.run(nodes["EnlcaUpscale"], upscaler=upscaler, image=batch(3))
    shares = [value / most for value, most in comfy.progress]
    assert shares == sorted(shares)
    assert len(shares) >= B
    assert shares[0] <= 1 / B
    assert shares[-1] == 1


@pytest.mark.parametrize("cancel_after", [0, 1, 3])
def test_cancelling_stops_between_two_steps(comfy, nodes, upscaler, cancel_after):
    upscaler.mode = "stream"
    comfy.run(nodes["EnlcaUpscale"], upscaler=upscaler, image=batch(3))
    assert len(comfy.progress) > cancel_after + 1
    comfy.cancel_after = cancel_after
    with pytest.raises(comfy_stub.InterruptProcessingException):
        comfy.run(nodes["EnlcaUpscale"], upscaler=upscaler, image=batch(3))
    assert len(comfy.progress) == cancel_after


def test_outside_comfyui_the_package_is_imported_and_only_the_entry_point_fails():
    import asyncio

    from enlca.integrations.comfyui import comfy_entrypoint

    with pytest.raises(ModuleNotFoundError, match="comfy"):
        asyncio.run(comfy_entrypoint())


def test_the_registry_is_told_what_it_needs():
    file = tomllib.loads((PACK / "pyproject.toml").read_text("utf-8"))
    assert file["project"]["version"] == enlca.__version__
    assert file["project"]["dependencies"] == [f"enlca>={enlca.__version__}"]
    assert file["project"]["urls"]["Repository"]
    assert {"PublisherId", "DisplayName"} <= file["tool"]["comfy"].keys()
