"""Ctrl-C, at any time: exit code 130, one line, nothing half-written."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from enlca.cli import interruptible
from enlca.image import decoding, encoding, files
from enlca.image.encoding import RowSource
from enlca.image.picture import read_image
from enlca.inference.upscaler import Upscaler
from enlca.network.sr import SRNetwork
from enlca.runtime.signals import STOPPING

LINE = "enlca: interrupted; nothing is left half-written\n"


def interrupt(*arguments, **settings):
    raise KeyboardInterrupt


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def folder(tmp_path):
    """Two pictures, the first one small and the second one large."""
    generator = np.random.default_rng(0)
    for name, side in (("1.png", 7), ("2.png", 1201)):
        Image.fromarray(generator.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(
    ("place", "function"),
    [
        (decoding, "rows_with_vips"),
        (SRNetwork, "forward"),
        (encoding, "encode"),
        (files.os, "fsync"),
        (files.os, "replace"),
    ],
    ids=["read", "compute", "encode", "write", "rename"],
)
def test_an_interrupted_picture_leaves_nothing(folder, tiny_model, command, monkeypatch, place, function):
    monkeypatch.setattr(place, function, interrupt)
    done = command("upscale", folder / "1.png", "--model", tiny_model, "-o", folder / "out")
    monkeypatch.undo()
    assert done == (130, "", LINE)
    assert files_in(folder) == ["1.png", "2.png"]


def test_what_was_done_before_stays(folder, tiny_model, command, monkeypatch):
    rows = Upscaler.rows

    def second_is_interrupted(self, given, **settings):
        return rows(self, given, **settings) if given.height == 7 else interrupt()

    monkeypatch.setattr(Upscaler, "rows", second_is_interrupted)
    done = command("upscale", folder, "--model", tiny_model, "-o", folder / "out")
    assert (done.code, done.err) == (130, LINE)
    assert [path.name for path in (folder / "out").iterdir()] == ["1_x4.png"]


@pytest.mark.parametrize("words", [("evaluate", "--model=bicubic", "--json-file"), ("degrade",)])
def test_other_commands_are_interrupted_in_the_same_way(folder, command, monkeypatch, words):
    from enlca.image import resize

    monkeypatch.setattr(resize, "_resize_rows", interrupt)
    if words[0] == "evaluate":
        done = command(*words, folder / "x.json", "--data", folder, "--scale", 2)
    else:
        done = command(*words, folder, folder / "small", "--scale", 2)
    assert (done.code, done.err) == (130, LINE)
    assert files_in(folder) == ["1.png", "2.png"]


@pytest.fixture
def ctrl_c_works(monkeypatch):
    """Where the tests run in the background, a shell has Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_while_libvips_is_at_work(folder, tiny_model, command, ctrl_c_works, monkeypatch):
    read = RowSource._read

    def interrupted(self, size):
        # In a callback of libvips, which may be on any thread.
        if not signalled:
            signalled.append(size)
            signal.raise_signal(signal.SIGINT)
        return read(self, size)

    signalled = []
    monkeypatch.setattr(RowSource, "_read", interrupted)
    done = command("upscale", folder, "--model", tiny_model, "-o", folder / "out")
    assert (done.code, done.err) == (130, LINE)
    assert signalled
    assert not list((folder / "out").glob(".*"))
    assert not (folder / "out" / "2_x4.png").exists()


def be_interrupted_in_a_destructor():
    class Doomed:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    with interruptible():
        Doomed()
        deadline = time.monotonic() + 9
        while time.monotonic() < deadline:
            pass


def test_an_interrupt_lost_in_a_destructor_comes_a_moment_later(ctrl_c_works, capsys):
    with pytest.raises(KeyboardInterrupt):
        be_interrupted_in_a_destructor()
    assert capsys.readouterr().err == ""


def test_an_interrupt_that_comes_again_while_its_timer_starts_comes_a_moment_later(
    ctrl_c_works, capsys, monkeypatch
):
    start, early = threading.Timer.start, [signal.SIGINT]

    def slow(timer):
        start(timer)
        if early:
            signal.raise_signal(early.pop())

    monkeypatch.setattr(threading.Timer, "start", slow)

    with pytest.raises(KeyboardInterrupt):
        be_interrupted_in_a_destructor()
    assert capsys.readouterr().err == ""


def test_an_error_made_of_an_interrupt_is_an_interrupt(ctrl_c_works):
    def load():
        with interruptible():
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                raise ImportError("cannot load module more than once per process") from None

    with pytest.raises(KeyboardInterrupt):
        load()


def test_other_errors_stay_what_they_are_and_handlers_are_put_back(ctrl_c_works):
    def handlers():
        return signal.getsignal(signal.SIGINT), sys.unraisablehook

    def fail():
        with interruptible():
            assert set(handlers()).isdisjoint(before)
            raise ImportError("gone")

    before = handlers()
    with pytest.raises(ImportError, match="gone"):
        fail()
    assert handlers() == before


def test_ctrl_c_that_is_ignored_stays_ignored(ctrl_c_works):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interruptible():
        os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


# A fresh interpreter that runs `enlca` and, where the test says so, announces a moment or signals itself.
START = """
import os, signal, sys
from enlca.cli import main
# Where the tests run in the background, Ctrl-C is ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
"""
ANNOUNCE = """
from enlca.network.sr import SRNetwork
forward = SRNetwork.forward
def announced(self, lr):
    if lr.shape[-1] > 1000:
        print("working", flush=True)
    return forward(self, lr)
SRNetwork.forward = announced
main()
"""
SIGNAL_AT_IMPORT = """
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
main()
"""


def start(program, *words):
    return subprocess.Popen(
        [sys.executable, "-c", START + program, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_ctrl_c_in_the_middle_of_a_large_picture(folder, tiny_model):
    process = start(ANNOUNCE, "upscale", folder, "--model", tiny_model, "-o", folder / "out")
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out, err) == (130, "", LINE)
    assert [path.name for path in (folder / "out").iterdir()] == ["1_x4.png"]
    assert read_image(folder / "out" / "1_x4.png").pixels.shape == (28, 28, 3)


@pytest.mark.parametrize("name", ["typer", "torch", "enlca.inference.batch"])
def test_ctrl_c_while_things_are_loaded(folder, tiny_model, name):
    process = start(
        SIGNAL_AT_IMPORT.format(name=name), "upscale", folder, "--model", tiny_model, "-o", folder / "out"
    )
    assert process.communicate(timeout=300) == ("", LINE)
    assert process.returncode == 130
    assert not (folder / "out").exists()


@pytest.mark.parametrize("kind", STOPPING[1:])
def test_other_signals_are_like_ctrl_c(folder, tiny_model, command, monkeypatch, kind):
    def signalled(*arguments):
        signal.raise_signal(kind)
        time.sleep(9)

    monkeypatch.setattr(files.os, "fsync", signalled)
    # Encoders work on another thread; the signal arrives on the main one.
    done = command("degrade", folder, folder / "small", "--scale", 2)
    assert (done.code, done.err) == (130, LINE)
    assert files_in(folder) == ["1.png", "2.png"]


def test_nohup_stays(ctrl_c_works):
    before = signal.signal(STOPPING[-1], signal.SIG_IGN)
    try:
        with interruptible():
            signal.raise_signal(STOPPING[-1])
            assert signal.getsignal(STOPPING[-1]) == signal.SIG_IGN
    finally:
        signal.signal(STOPPING[-1], before)
