"""`enlca export`: a checked file, whole or not at all."""

import subprocess
import sys

import pytest
import torch

import enlca
from enlca.export import verify
from enlca.export.engines import OnnxEngine, OpenVinoEngine
from enlca.export.graphs import IR
from enlca.network.sr import SRConfig, SRNetwork


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "exports"
    place.mkdir()
    return place


@pytest.fixture
def extra():
    for package in ("onnx", "onnxscript", "onnxruntime", "openvino"):
        pytest.importorskip(package, reason=f"no {package}: pip install 'enlca[export]'")


@pytest.fixture
def quick(linear_graph, monkeypatch):
    """The export of `model`, made before."""
    monkeypatch.setattr(verify, "onnx_graph", lambda network, card: linear_graph.graph)


def test_an_onnx_file_computes_what_the_checkpoint_computes(command, model, folder, small_network, extra):
    done = command("export", model, folder / "m.onnx")
    assert done.code == 0, done.err
    assert done.err == ""
    assert "differs from PyTorch by at most" in done.out
    assert [path.name for path in folder.iterdir()] == ["m.onnx"]
    lr = torch.rand(1, 3, 13, 17)
    with torch.no_grad():
        expected = small_network("linear")(lr)
    found = OnnxEngine((folder / "m.onnx").read_bytes())(lr)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_an_ir_is_two_files_that_belong_together(command, model, folder, quick, small_network):
    (folder / "m.xml").write_text("an older one")
    (folder / "m.bin").write_text("an older one")
    assert command("export", model, folder / "m.xml").code == 0
    assert sorted(path.name for path in folder.iterdir()) == ["m.bin", "m.xml"]
    ir = IR((folder / "m.xml").read_bytes(), (folder / "m.bin").read_bytes())
    lr = torch.rand(1, 3, 13, 17)
    with torch.no_grad():
        expected = small_network("linear")(lr)
    torch.testing.assert_close(OpenVinoEngine(ir)(lr), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["m.onnx", "m.xml"])
def test_a_file_that_computes_something_else_is_not_written(
    command, model, folder, quick, name, small_network
):
    changed = small_network("linear")
    with torch.no_grad():
        changed.upsampler[0].bias += 1e-3
    enlca.save(changed, model)
    (folder / name).write_text("an older one")
    done = command("export", model, folder / name)
    assert done.code == 1
    assert done.err.startswith("enlca: the exported network differs from PyTorch by ")
    assert done.err.count("\n") == 1
    assert [path.name for path in folder.iterdir()] == [name]
    assert (folder / name).read_text() == "an older one"


@pytest.mark.parametrize("name", ["m.onnx", "m.xml"])
def test_a_full_disk_is_one_line_and_leaves_nothing(command, model, folder, quick, name, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    done = command("export", model, folder / name)
    assert done.code == 1
    assert done.err == f"enlca: {folder / name}: cannot be written: No space left on device\n"
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_whatever_ends_the_work_leaves_nothing(model, folder, quick, stop, monkeypatch, small_network):
    def end(*args):
        raise stop

    monkeypatch.setattr(verify, "check_parity", end)
    network = small_network("linear")
    with pytest.raises(stop):
        verify.export_file(network, verify.Card(network=network.config), folder / "m.onnx")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("m.pt", "exports to .onnx or .xml (OpenVINO); got m.pt"),
        ("missing/m.onnx", "there is no folder"),
        ("taken.onnx", "is a folder"),
    ],
)
def test_a_wrong_name_is_refused_in_one_line(command, folder, out, says):
    (folder / "taken.onnx").mkdir()
    done = command("export", "enlcn-tiny", folder / out)
    assert (done.code, done.out) == (2, "")
    assert says in done.err
    assert done.err.count("\n") == 1


def test_an_unknown_model_and_a_scale_without_weights_are_refused(command, folder, extra):
    done = command("export", "enlcn-giant", folder / "m.onnx")
    assert done.code == 2
    assert "unknown model 'enlcn-giant'" in done.err
    assert command("export", "enlcn-tiny", folder / "m.onnx", "--scale", "5").code == 2
    assert list(folder.iterdir()) == []


def test_nlsn_is_refused_in_one_line(command, folder, tmp_path, extra):
    path = tmp_path / "nlsn.safetensors"
    settings = {"channels": 8, "n_blocks": 1, "blocks_per_stage": 1, "attention": "lsh"}
    enlca.save(SRNetwork(SRConfig(scale=2, **settings)), path)
    done = command("export", path, folder / "m.onnx")
    assert done.code == 2
    assert "attention lsh (NLSA) cannot be exported" in done.err
    assert done.err.count("\n") == 1
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime", "openvino"])
def test_a_missing_package_is_one_line_that_says_how_to_get_it(command, folder, package, monkeypatch, extra):
    monkeypatch.setitem(sys.modules, package, None)
    done = command("export", "enlcn-tiny", folder / ("m.xml" if package == "openvino" else "m.onnx"))
    assert done.code == 2
    remedy = "pip install 'enlca[export]'"
    assert done.err == f"enlca: export needs {package}: {remedy}\n"


def test_openvino_reports_nothing_to_its_makers():
    pytest.importorskip("openvino", reason="no openvino: pip install 'enlca[export]'")
    program = (
        "import sys; from enlca.export.graphs import import_extra; import_extra('openvino'); "
        "print(*(name for name in sys.modules if name.startswith('openvino_telemetry')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
