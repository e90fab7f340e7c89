"""Two processes on one machine, joined by gloo, do what one process does with their batches together."""

import os
import signal
import subprocess
import sys

import pytest
import torch

TWO = ("--run.devices", "2", "--data.batch", "4")
ONE = ("--data.batch", "8")
# Without anchors there is nothing that the devices draw for themselves.
SAME = ("--loss.anchors", "null", "--schedule.contrast_after", "0", "--run.steps", "9")

GRADIENTS = """
import sys, torch
from enlca.training.fit import fit
from enlca.training.loop import Training
from enlca.training.parse import read_config
from pathlib import Path

step = Training._step
def recorded(self, number, batch):
    update = self.ddp_optimizer.step
    def keep():
        gradients = {name: x.grad.clone() for name, x in self.network.named_parameters()}
        projections = [x for name, x in self.network.named_buffers() if name.endswith("projection")]
        rank = self.fabric.global_rank
        torch.save((gradients, [x.clone() for x in projections]), f"{self.config.run.dir}_{number}_{rank}")
        update()
    self.ddp_optimizer.step = keep
    try:
        return step(self, number, batch)
    finally:
        self.ddp_optimizer.step = update
Training._step = recorded
settings, text = read_config(Path("tiny.yaml"), sys.argv[1:])
fit(settings, text)
"""


def run(*words):
    settings = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [sys.executable, *words],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


@pytest.mark.parametrize("kind", ["adam", "muon"])
def test_two_processes_have_the_gradients_features_and_validation_of_one(home, rows, kind):
    (home / "gradients.py").write_text(GRADIENTS)
    for name, words in {"one": ONE, "two": TWO}.items():
        done = run("gradients.py", *SAME, *words, "--run.dir", name, "--optim.kind", kind)
        assert done.returncode == 0, done.stderr
    for step in (0, 8):
        alone, first, second = (torch.load(f"{name}_{step}_{rank}") for name, rank in WHO)
        for name, gradient in alone[0].items():
            torch.testing.assert_close(first[0][name], gradient, rtol=1e-4, atol=1e-6)
            assert torch.equal(second[0][name], first[0][name])
        for one, mine, theirs in zip(alone[1], first[1], second[1], strict=True):
            assert torch.equal(mine, one)
            assert torch.equal(theirs, one)
    one, two = ([float(row["psnr"]) for row in rows(name) if row["psnr"]] for name in ("one", "two"))
    assert len(one) == 2  # after an epoch of 8 steps, and at the end; 3 pictures for 2 processes
    assert two == pytest.approx(one, abs=1e-3)


WHO = (("one", 0), ("two", 0), ("two", 1))


def test_the_mean_of_three_pictures_on_two_processes_is_that_of_one_to_the_last_bit(home, command):
    assert command("train", "tiny.yaml", "--run.steps=8", "--optim.lr=1e-30").code == 0
    words = ("tiny.yaml", "--run.steps=8", "--optim.lr=1e-30", "--run.devices=2", "--run.dir=two")
    done = run("-m", "enlca", "train", *words)
    assert (done.returncode, done.stdout, done.stderr) == (0, "best weights: two/best.safetensors\n", "")
    best = [torch.load(f"{name}/last.ckpt")["best"] for name in ("run", "two")]
    assert best[0] == best[1]


def test_two_processes_that_are_stopped_stop_at_the_same_step_and_can_go_on(home):
    words = ("tiny.yaml", "--run.devices=2", "--run.steps=100000", "--data.validation=null")
    program = [sys.executable, "-m", "enlca", "train", *words]
    process = subprocess.Popen(program, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not (home / "run" / "last.ckpt").exists():
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    stopped = torch.load("run/last.ckpt")["step"]
    assert stopped % 10 == 0
    assert (process.returncode, err) == (
        130,
        f"enlca: stopped after step {stopped}; go on with: enlca resume run\n",
    )


def test_more_devices_than_there_are_is_one_line(home, command):
    done = command("train", "tiny.yaml", "--run.device=cuda")
    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert done.err.startswith("enlca: run.device, run.devices: ")
    assert not (home / "run").exists()
