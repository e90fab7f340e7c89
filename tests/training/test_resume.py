"""A run that was stopped, killed or damaged goes on and ends as if nothing had happened."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from enlca.checkpoint.file import read_card
from enlca.errors import StateError
from enlca.runtime.files import lock_folder
from enlca.training import run_folder
from enlca.training import state as run_state
from enlca.training.loop import Training

KILLED = """
import os, signal, sys
from enlca.training.loop import Training

step = Training._step
def dies(self, number, batch):
    if number == {step}:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, number, batch)
Training._step = dies
sys.argv = ["enlca", "train", "tiny.yaml", "--run.dir", "{run}"]
from enlca.cli import main
main()
"""


def kill_at(step, run):
    """A training process that is killed before it takes a step."""
    settings = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    program = [sys.executable, "-c", KILLED.format(step=step, run=run)]
    done = subprocess.run(program, env=os.environ | settings, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.fixture
def assert_same(rows):
    """Two runs ended in the same bytes and measured the same numbers."""

    def compare(run, other):
        for name in ("best.safetensors", "last.ckpt"):
            assert (run / name).read_bytes() == (other / name).read_bytes(), name
        assert rows(run) == rows(other)

    return compare


def test_a_run_killed_at_step_17_and_resumed_ends_in_the_same_bytes(home, command, straight, assert_same):
    kill_at(17, "killed")
    assert torch.load("killed/last.ckpt")["step"] == 15
    done = command("resume", "killed")
    assert done == (0, "best weights: killed/best.safetensors\n", "")
    assert_same(home / "killed", straight)


EVERYTHING = (
    "--optim.kind=muon",
    "--schedule.kind=stable",
    "--schedule.decay_from=9",
    "--data.teacher=teacher",
    "--loss.teacher=0.5",
    "--data.soften=[0.4,1.2]",
    "--data.leave_out=held_out.txt",
    "--data.more=more",
    "--data.more_share=0.3",
    "--run.steps=24",
)


@pytest.fixture
def teacher(home):
    """The teacher's pictures of the one that is not left out and of the one more: mod-cropped, in grey."""
    from PIL import Image

    (home / "held_out.txt").write_text("# tested on\n0.png\n")
    (home / "more").mkdir()
    (home / "teacher").mkdir()
    picture = Image.open(home / "pictures" / "1.png")
    picture.rotate(180).save(home / "more" / "2.png")
    width, height = (side // 2 * 2 for side in picture.size)
    for path in (home / "pictures" / "1.png", home / "more" / "2.png"):
        Image.open(path).crop((0, 0, width, height)).convert("L").save(home / "teacher" / path.name)


def test_muon_a_stable_schedule_a_teacher_softening_and_more_pictures_go_on_to_the_bit(
    home, command, teacher, monkeypatch, assert_same
):
    assert command("train", "tiny.yaml", *EVERYTHING).code == 0
    facts = read_card(home / "run" / "best.safetensors").training
    assert (facts["left_out"], facts["more"], facts["more_share"]) == ("held_out.txt", "more", 0.3)
    for stop in (5, 14):
        with monkeypatch.context() as patch:
            patch.setattr(Training, "_agreed_to_stop", lambda self, stop=stop: self.done == stop)
            assert command("train", "tiny.yaml", *EVERYTHING, f"--run.dir=stopped{stop}").code == 130
        assert command("resume", f"stopped{stop}").code == 0
        assert_same(home / f"stopped{stop}", home / "run")


def test_a_run_on_degraded_patches_goes_on_to_the_bit_with_any_number_of_processes(
    home, command, monkeypatch, assert_same
):
    words = ("--data.degradation.preset={web: 2, strong: 1}", "--loss.gradient=0.5", "--run.steps=10")
    assert command("train", "tiny.yaml", *words).code == 0
    facts = read_card(home / "run" / "best.safetensors").training
    assert (facts["degradation"], facts["gradient"]) == ({"web": 2, "strong": 1}, 0.5)
    with monkeypatch.context() as patch:
        patch.setattr(Training, "_agreed_to_stop", lambda self: self.done == 6)
        assert command("train", "tiny.yaml", *words, "--run.dir=stopped").code == 130
    assert command("resume", "stopped", "--data.workers=2").code == 0
    assert_same(home / "stopped", home / "run")


@pytest.mark.parametrize(
    ("folder", "name", "renamed", "reason"),
    [
        ("teacher", "1.png", "3.png", "1.png: the teacher has no picture of this name"),
        ("more", "2.png", "1.png", "1 of 2 pictures cannot be used: 1.png: two pictures have this name"),
    ],
)
def test_a_teacher_whose_pictures_do_not_fit_is_refused_before_anything_is_written(
    home, command, teacher, folder, name, renamed, reason
):
    (home / folder / name).rename(home / folder / renamed)
    done = command("train", "tiny.yaml", *EVERYTHING)
    assert done.code == 1
    [line] = done.err.splitlines()
    assert reason in line
    assert not (home / "run").exists()


def test_a_list_of_pictures_that_are_not_there_is_refused_before_anything_is_written(home, command):
    (home / "list.txt").write_text("2.png\n")
    done = command("train", "tiny.yaml", "--data.leave_out=list.txt")
    assert done.code == 2
    [line] = done.err.splitlines()
    assert "1 of 1 pictures of list.txt are not in data.train: 2.png; " in line
    assert not (home / "run").exists()


def test_a_branch_decays_while_the_trunk_stays_as_it_is(home, command, rows, monkeypatch):
    stable = ("--schedule.kind=stable", "--run.steps=1000")
    with monkeypatch.context() as patch:
        patch.setattr(Training, "_agreed_to_stop", lambda self: self.done == 11)
        assert command("train", "tiny.yaml", *stable).code == 130
    before = {path.name: path.read_bytes() for path in (home / "run").iterdir()}
    words = ("--run.dir=branch", "--schedule.decay_from", "now", "--run.steps", "+6")
    assert command("resume", "run", *words) == (0, "best weights: branch/best.safetensors\n", "")
    assert {path.name: path.read_bytes() for path in (home / "run").iterdir()} == before
    assert torch.load("branch/last.ckpt")["step"] == 17
    assert rows("branch")[: len(rows("run"))] == rows("run")
    assert [float(row["lr"]) for row in rows("branch") if row["lr"]][-1] < 1e-3
    done = command("resume", "run", *words)
    assert (done.code, "branch already holds a run" in done.err) == (2, True)


def test_steps_counted_from_the_saved_state_need_one(home, command, straight):
    (home / "run" / "last.ckpt").unlink()
    (home / "run" / "previous.ckpt").unlink()
    done = command("resume", "run", "--run.steps=+5")
    assert (done.code, done.err) == (
        2,
        "enlca: run: nothing was saved yet, so there is no step to count from\n",
    )


@pytest.mark.parametrize("stop", [1, 5, 8, 9, 16, 39])
def test_a_run_stopped_after_any_step_ends_in_the_same_bytes(
    home, command, straight, stop, monkeypatch, assert_same
):
    step = Training._step

    def stops(self, number, batch):
        if number == stop - 1:
            signal.raise_signal(signal.SIGINT)
        return step(self, number, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "_step", stops)
        done = command("train", "tiny.yaml", "--run.dir", "stopped")
    assert done.code == 130
    assert done.err == f"enlca: stopped after step {stop}; go on with: enlca resume stopped\n"
    assert torch.load("stopped/last.ckpt")["step"] == stop
    assert command("resume", "stopped").code == 0
    assert_same(home / "stopped", straight)


def test_nlsa_draws_its_rotations_from_the_step(home, command, monkeypatch):
    words = ("train", "tiny.yaml", "--network.attention=lsh", "--loss.contrast_weight=0", "--run.steps=9")
    assert command(*words).code == 0
    with monkeypatch.context() as patch:
        patch.setattr(Training, "_agreed_to_stop", lambda self: self.done == 4)
        assert command(*words, "--run.dir", "stopped").code == 130
    assert command("resume", "stopped").code == 0
    assert (home / "stopped" / "last.ckpt").read_bytes() == (home / "run" / "last.ckpt").read_bytes()


def test_a_truncated_state_falls_back_to_the_one_before_and_says_so(home, command, straight, assert_same):
    kill_at(17, "killed")
    os.truncate("killed/last.ckpt", 5000)
    done = command("resume", "killed")
    assert done.code == 0
    [line] = done.err.splitlines()
    assert line.startswith("enlca: killed/last.ckpt is damaged (")
    assert line.endswith("; going on from previous.ckpt, step 10")
    assert_same(home / "killed", straight)


def test_a_kill_between_the_two_renames_loses_nothing(home, command, straight, assert_same):
    kill_at(17, "killed")
    os.rename("killed/last.ckpt", "killed/.next.ckpt")
    assert command("resume", "killed").err == ""
    assert_same(home / "killed", straight)
    assert not (home / "killed" / ".next.ckpt").exists()


def test_a_run_killed_before_its_first_save_begins_again(home, command, straight, assert_same):
    kill_at(3, "killed")
    assert command("resume", "killed").code == 0
    assert_same(home / "killed", straight)


@pytest.fixture
def dies(monkeypatch):
    """Makes a training of this process die before it takes a step, as if it was killed."""

    def at(step, command, *words):
        before = Training._step

        def killed(self, number, batch):
            if number == step:
                raise RuntimeError("killed")
            return before(self, number, batch)

        with monkeypatch.context() as patch:
            patch.setattr(Training, "_step", killed)
            with pytest.raises(RuntimeError, match="killed"):
                command(*words)

    return at


def test_a_run_killed_before_its_first_save_begins_again_with_the_weights_that_it_started_from(
    home, command, straight, dies, assert_same
):
    words = ("train", "tiny.yaml", "--run.start_from=run/best.safetensors", "--run.steps=6")
    assert command(*words, "--run.dir=begun").code == 0
    dies(3, command, *words, "--run.dir=killed")
    remark = "enlca: killed: nothing was saved yet, so the run begins again\n"
    assert command("resume", "killed") == (0, "best weights: killed/best.safetensors\n", remark)
    assert_same(home / "killed", home / "begun")


def test_a_branch_killed_before_its_first_save_goes_on_from_where_it_branched(
    home, command, dies, monkeypatch, assert_same
):
    with monkeypatch.context() as patch:
        patch.setattr(Training, "_agreed_to_stop", lambda self: self.done == 11)
        assert command("train", "tiny.yaml").code == 130
    branch = ("resume", "run", "--run.steps=15")
    assert command(*branch, "--run.dir=whole").code == 0
    dies(12, command, *branch, "--run.dir=killed")
    assert command("resume", "killed") == (0, "best weights: killed/best.safetensors\n", "")
    assert_same(home / "killed", home / "whole")


def test_without_validation_a_resumed_run_ends_with_the_last_weights(home, command, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Training, "_agreed_to_stop", lambda self: self.done == 11)
        assert command("train", "tiny.yaml").code == 130
    assert read_card(home / "run" / "best.safetensors").training["steps"] == 8
    assert command("resume", "run", "--data.validation=null", "--run.steps=13").code == 0
    card = read_card(home / "run" / "best.safetensors")
    assert (card.training["steps"], card.scores) == (13, {})


def test_a_finished_run_is_answered_at_once(home, command, straight, monkeypatch):
    # Neither its pictures nor a device are needed.
    monkeypatch.setattr("enlca.training.fit.launch", lambda run: pytest.fail("a device was asked for"))
    monkeypatch.setattr("enlca.training.fit._open", lambda *_: pytest.fail("pictures were decoded"))
    done = command("resume", "run")
    assert (done.code, done.out) == (0, "best weights: run/best.safetensors\n")
    assert done.err == "enlca: run is finished, after step 40; --run.steps +N takes N more\n"


def test_environment_json_has_the_command_and_the_commit(home, command):
    assert command("train", "tiny.yaml", "--run.steps", 1, "--run.dir", "a b").code == 0
    found = json.loads((home / "a b" / "environment.json").read_text())
    assert found["command"] == "enlca train tiny.yaml --run.steps 1 --run.dir 'a b'"
    root = Path(__file__).parents[2]
    if (root / ".git").exists():
        asked = ["git", "-C", str(root), "rev-parse", "HEAD"]
        head = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
        assert found["commit"].rstrip("+") == head


def test_a_finished_run_stays_as_it_is(home, command, straight):
    before = {path: path.read_bytes() for path in straight.iterdir() if "events" not in path.name}
    assert command("resume", "run").out == "best weights: run/best.safetensors\n"
    assert {path: path.read_bytes() for path in before} == before


def test_a_second_ctrl_c_ends_at_once(home, command, monkeypatch):
    def stops(self, number, batch):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("still there")

    monkeypatch.setattr(Training, "_step", stops)
    done = command("train", "tiny.yaml")
    assert done == (130, "", "enlca: interrupted; nothing is left half-written\n")


def test_sigterm_saves_as_ctrl_c_does(home, command, monkeypatch):
    step = Training._step

    def stops(self, number, batch):
        signal.raise_signal(signal.SIGTERM)
        return step(self, number, batch)

    monkeypatch.setattr(Training, "_step", stops)
    assert command("train", "tiny.yaml").err == "enlca: stopped after step 1; go on with: enlca resume run\n"


def test_what_cannot_be_gone_on_from_is_one_line(home, command, straight):
    for word, reason in {"nowhere": "no run to go on with", "Val": "no run to go on with"}.items():
        done = command("resume", word)
        assert (done.code, done.out) == (2, "")
        assert reason in done.err
    before = (straight / "last.ckpt").read_bytes()
    for change, reason in {
        ("--network.channels", 12): "another network (channels 8 there, 12 here)",
        ("--optim.ema", 0): "optim.ema was not 0 when the state was saved",
    }.items():
        done = command("resume", "run", *change)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert reason in done.err
    assert (straight / "last.ckpt").read_bytes() == before
    for name in ("last.ckpt", "previous.ckpt"):
        os.truncate(straight / name, 99)
    done = command("resume", "run")
    assert done.code == 2
    assert "nothing to go on from" in done.err
    torch.save({"format": 2}, straight / "last.ckpt")
    assert "state format 2, this version of enlca reads 1" in command("resume", "run").err


def test_a_full_disk_costs_one_state_and_not_the_run(home, command, straight, monkeypatch, assert_same):
    write, calls = run_folder.write_state, []

    def full(folder, state):
        calls.append(state["step"])
        if state["step"] == 10:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(folder, state)

    monkeypatch.setattr(run_folder, "write_state", full)
    done = command("train", "tiny.yaml", "--run.dir", "full")
    assert done.code == 0
    reason = "full/last.ckpt cannot be written: No space left on device"
    assert done.err == f"enlca: {reason}; training goes on, and what was saved before is kept\n"
    assert calls == list(range(5, 41, 5))
    assert_same(home / "full", straight)


def test_a_disk_that_is_full_at_the_end_is_an_error_and_the_state_before_stays(home, command, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    write = run_state.write_atomically
    words = ("train", "tiny.yaml", "--run.steps", 10, "--data.validation", "null")
    monkeypatch.setattr(
        run_state,
        "write_atomically",
        lambda path, content: (write if not (home / "run" / "last.ckpt").exists() else full)(path, content),
    )
    done = command(*words)
    assert (done.code, done.out) == (1, "")
    assert (
        "run/last.ckpt cannot be written: No space left on device; what was saved before is kept" in done.err
    )
    assert torch.load("run/last.ckpt")["step"] == 5


def test_training_works_outside_the_main_thread(home):
    from enlca.training.fit import fit
    from enlca.training.parse import read_config

    made = []
    settings, text = read_config(home / "tiny.yaml", ["--run.steps", "2"])
    thread = threading.Thread(target=lambda: made.append(fit(settings, text)))
    thread.start()
    thread.join()
    assert made == [settings.run.dir / "best.safetensors"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"step": "x"}, "its step is 'x', not a count of steps"),
        ({"step": -5}, "its step is '-5', not a count of steps"),
        ({"settings": None}, "cannot go on"),
        ({"optimizer": {"state": [], "param_groups": [1]}}, "cannot go on"),
        ({"optimizer": None}, "cannot go on"),
        ({"network": 7}, "cannot go on"),
        ({"best": None, "average": {}}, "cannot go on"),
    ],
)
def test_a_state_with_foreign_entries_is_one_line(home, straight, command, change, reason):
    state = torch.load(straight / "last.ckpt", weights_only=True) | change
    torch.save(state, straight / "last.ckpt")
    done = command("resume", straight)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert reason in done.err


def test_a_run_folder_is_for_one_process_at_a_time(home, straight, command):
    before = {path.name: path.read_bytes() for path in straight.iterdir()}
    with lock_folder(straight, ".lock", StateError("taken")):
        done = command("resume", straight)
    assert done == (
        2,
        "",
        f"enlca: {straight}: another process trains in this folder; wait for it, or stop it first\n",
    )
    assert {path.name: path.read_bytes() for path in straight.iterdir()} == before
    assert command("resume", straight).code == 0
    assert not (straight / ".lock").exists()
