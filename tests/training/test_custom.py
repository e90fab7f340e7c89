"""A network of one's own is trained, resumed, evaluated and upscaled with as if it were enlca's."""

import sys
from pathlib import Path

import pytest
import torch

import enlca
from enlca.checkpoint.file import read_card
from enlca.checkpoint.store import load_model
from enlca.errors import CheckpointError, ConfigError
from enlca.models import REGISTERED, CustomConfig, register
from enlca.training.fit import fit
from enlca.training.parse import read_config, read_resumed

CODE = """
import torch

class Net(torch.nn.Module):
    input_multiple = 2
    def __init__(self, scale, width=5):
        super().__init__()
        self.scale = scale
        self.conv = torch.nn.Conv2d(3, width, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(width)
        self.last = torch.nn.Conv2d(width, 3 * scale**2, 3, padding=1)

    def forward(self, lr):
        assert lr.shape[2] % 2 == lr.shape[3] % 2 == 0
        return torch.nn.functional.pixel_shuffle(self.last(self.norm(self.conv(lr)).relu()), self.scale)

class Dropping(Net):
    def forward(self, lr):
        return torch.nn.functional.dropout(super().forward(lr), 0.2, self.training)

class Sharing(Net):
    def __init__(self, scale, width=5):
        super().__init__(scale, width)
        self.again = self.conv

class Deep(Net):
    def __init__(self, scale, width=5):
        super().__init__(scale, width)
        self.deep = torch.nn.Conv3d(1, 1, 3, padding=1)

    def forward(self, lr):
        return super().forward(self.deep(lr[:, None])[:, 0])

def wrong_size(scale):
    return torch.nn.Identity()

def fails(scale):
    raise RuntimeError("no such network")

def no_module(scale):
    return 7

number = 3
"""
CONFIG = """
data: {train: pictures, validation: Val, patch: 10, batch: 3, cache: cache}
network: {build: "mine:Net", scale: 2, settings: {width: 6}}
optim: {lr: 1.0e-3, ema: 0.9}
schedule: {kind: stable}
run: {dir: run, steps: 8, steps_per_epoch: 4, save_every: 4, log_every: 2, seed: 3, device: cpu}
"""


@pytest.fixture
def own(home, monkeypatch) -> Path:
    (home / "mine.py").write_text(CODE)
    (home / "own.yaml").write_text(CONFIG)
    yield home
    sys.modules.pop("mine", None)


def test_a_run_of_ones_own_network_is_kept_resumed_and_used(own, command):
    best = fit(*read_config(Path("own.yaml")))
    card = read_card(best)
    assert card.network == CustomConfig(build="mine:Net", scale=2, settings={"width": 6})
    assert card.scores["Val"]["psnr_y"] > 0
    straight = load_model("mine:Net@run").model.state_dict()
    assert next(iter(straight)) == "module.conv.weight"

    # In the file the tensors have the module's own names.
    from safetensors.torch import load_file

    assert {"conv.weight", "norm.running_mean", "last.bias"} <= load_file(best).keys()

    with pytest.raises(
        CheckpointError, match=r"built by mine:Net, which is code outside enlca; to run it, give"
    ):
        load_model(best)
    fit(*read_config(Path("own.yaml"), ["--run.dir", "half", "--run.steps", "5"]))
    fit(*read_resumed(Path("half"), ["--run.steps", "+3"]), resume=Path("half"))
    again = load_model("mine:Net@half/best.safetensors").model.state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in straight.items())

    done = command("evaluate", "--model", "mine:Net@run", "--data", "Val", "--scale", "2", "--device", "cpu")
    assert done.code == 0, done.err
    assert "Val" in done.out
    assert "Net of mine:Net" in command("info", "mine:Net@run").out
    picture = torch.rand(3, 7, 9)
    assert enlca.Upscaler("mine:Net@run", device="cpu")(picture).shape == (3, 14, 18)
    with pytest.raises(CheckpointError, match="upscales x2, not x3"):
        load_model("mine:Net@run", 3)

    register("mine:Net", sys.modules["mine"].Net)
    try:
        assert load_model(best).model.scale == 2
    finally:
        del REGISTERED["mine:Net"]


@pytest.mark.parametrize("build", ["mine:Dropping", "mine:Sharing", "mine:Deep"])
def test_dropout_shared_weights_and_those_of_three_dimensions_go_on_to_the_bit(own, build):
    words = ["--network.build", build]
    straight = fit(*read_config(Path("own.yaml"), words)).read_bytes()
    fit(*read_config(Path("own.yaml"), [*words, "--run.dir", "half", "--run.steps", "5"]))
    again = fit(*read_resumed(Path("half"), ["--run.steps", "+3"]), resume=Path("half"))
    assert again.read_bytes() == straight


def test_a_run_begins_with_the_weights_of_another(own):
    fit(*read_config(Path("own.yaml")))
    begun = fit(
        *read_config(Path("own.yaml"), ["--run.dir", "b", "--run.start_from", "run/best.safetensors"])
    )
    assert read_card(begun).training["started_from"] == "best.safetensors"
    overrides = [
        "--run.dir",
        "c",
        "--run.start_from",
        "run/best.safetensors",
        "--network.settings.width",
        "7",
    ]
    with pytest.raises(ConfigError, match=r"holds another network: it has module.conv.weight of shape \[6"):
        fit(*read_config(Path("own.yaml"), overrides))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--optim.kind", "muon"], "muon knows the parts of enlca's networks"),
        (["--network.channels", "8"], "unknown entry network.channels; network has build, scale, settings"),
        (["--network.scale", "1"], "scale must be a whole number from 2 to 16"),
        (["--network.build", ""], "build must be module:function"),
    ],
)
def test_settings_that_such_a_run_has_not_are_refused(own, overrides, message):
    with pytest.raises(ConfigError, match=message):
        read_config(Path("own.yaml"), overrides)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mine:gone", "mine:gone: mine has no function gone"),
        ("mine:number", "mine:number: mine has no function number"),
        ("mine:fails", r"mine:fails\(scale=4\) fails: RuntimeError: no such network"),
        ("mine:no_module", "mine:no_module returns a int, not a torch.nn.Module"),
        ("nowhere_at_all:Net", "nowhere_at_all:Net: there is no module nowhere_at_all in"),
        ("broken_code:Net", "broken_code:Net: importing broken_code fails: SyntaxError"),
        ("mine:Net@own.yaml", "own.yaml: not a file that PyTorch wrote"),
        ("mine:Net@gone.pt", "gone.pt: no such checkpoint file"),
        ("mine:Net@enlcn-tiny", "^enlcn-tiny: no such checkpoint file"),
        ("mine:Net@other.pt", r"other.pt: does not fit mine:Net: it lacks conv.weight"),
    ],
)
def test_what_cannot_be_built_is_one_line(own, spec, message):
    (own / "broken_code.py").write_text("def (")
    torch.save({"x": torch.ones(1)}, "other.pt")
    with pytest.raises(CheckpointError, match=message) as caught:
        load_model(spec)
    assert "\n" not in str(caught.value)


def test_a_module_that_returns_another_size_is_told_so(own):
    model = load_model("mine:wrong_size", 3).model
    with pytest.raises(
        CheckpointError, match=r"returns \(1, 3, 5, 7\) for \(1, 3, 5, 7\) at x3, not \(1, 3, 15, 21\)"
    ):
        model(torch.rand(1, 3, 5, 7))


def test_a_registered_name_is_a_model_everywhere(own, monkeypatch):
    monkeypatch.syspath_prepend(str(own))
    from mine import Net

    register("mine", Net)
    try:
        network = load_model("mine", 3).model
        assert (network.scale, network.input_multiple, network.name) == (3, 2, "Net")
        assert enlca.Upscaler("mine", scale=2, device="cpu")(torch.rand(3, 5, 5)).shape == (3, 10, 10)
    finally:
        del REGISTERED["mine"]
    with pytest.raises(ValueError, match="without @"):
        register("mine@1", Net)
