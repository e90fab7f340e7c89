"""Full disks and closed folders: one clear line each, the others done, nothing lost."""

import errno
import json
import os
import resource
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from odd import png, pnm, smooth
from places import GOOD, H, W, check_made, everything, one_line, started

from enlca.checkpoint import store


@contextmanager
def no_room_for_files_larger_than(n_bytes):
    """As on a full disk: writing more fails. The limit is that of this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


FULL = 20_000


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "webp", "avif", "bmp", "ppm"])
def test_where_there_is_no_room_for_one_picture_the_others_are_done(here, tiny_model, command, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (73, 79, 3), dtype=np.uint8)
    (here / "large.png").write_bytes(png(noise))
    (here / "out").mkdir()
    before = b"what was there before"
    (here / "out" / f"large.{suffix}").write_bytes(before)
    words = ("--model", tiny_model, "-o", f"out/{{stem}}.{suffix}", "--json", "--quality", 100, "--overwrite")
    with no_room_for_files_larger_than(FULL):
        done = command("upscale", "large.png", "good.png", *words)
    assert done.code == 1
    one_line(done, f"out/large.{suffix}: cannot be written: {os.strerror(errno.EFBIG)}", "")
    assert [bool(one["error"]) for one in json.loads(done.out)["pictures"]] == [True, False]
    assert everything(here / "out") == [f"good.{suffix}", f"large.{suffix}"]
    assert (here / "out" / f"large.{suffix}").read_bytes() == before


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_what_cannot_be_printed_is_said_without_a_traceback(here, tiny_model, words):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full on this machine")
    with open("/dev/full", "w") as full:
        done = started("upscale", "good.png", "--model", tiny_model, *words, stdout=full)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("enlca: ")
    assert os.strerror(errno.ENOSPC) in line
    assert everything(here) == ["good.png", "good_x4.png"]


def test_who_stops_reading_what_is_printed_stops_no_work(here, tiny_model):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        done = started("upscale", "good.png", "--model", tiny_model, stdout=closed)
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 1
    check_made(here / "good_x4.png")


OTHER_USER = 65534


@contextmanager
def as_nobody():
    """What runs inside may do no more than an ordinary user, though the tests may run as root."""
    if os.geteuid() != 0:
        yield
        return
    try:
        os.setegid(OTHER_USER)
        os.seteuid(OTHER_USER)
    except OSError:
        os.setegid(0)
        pytest.skip("root may do anything here, and cannot become another user")
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def place(tiny_model, command, monkeypatch):
    """An empty folder of an ordinary user with a folder of pictures, and what runs the command there."""
    own = Path(tempfile.mkdtemp())
    shutil.copy(tiny_model, own / "tiny.safetensors")
    (own / "in").mkdir()
    (own / "in" / "good.png").write_bytes(GOOD)
    monkeypatch.chdir(own)
    # The checkout may be closed to others; what is bundled there is not needed.
    monkeypatch.setattr(store, "WEIGHTS", own / "none")
    # All that is imported late, as long as it may be read.
    command("upscale", "in", "gone.png", "--model", "tiny.safetensors", "-o", "before")
    shutil.rmtree(own / "before")
    for path in (own, *own.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.chown(path, OTHER_USER, OTHER_USER) if os.geteuid() == 0 else None

    def upscale(*words):
        with as_nobody():
            return command("upscale", *words, "--model", "tiny.safetensors")

    yield own, upscale
    for path in own.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(own)


def test_a_folder_that_may_not_be_written_is_one_line_before_the_work(place):
    own, upscale = place
    (own / "out").mkdir()
    (own / "out").chmod(0o555)
    before = everything(own)
    for words in (("-o", "out"), ("-o", "out/deeper")):
        done = upscale("in", *words)
        assert (done.code, done.out) == (1, "")
        [line] = done.err.splitlines()
        assert line.startswith("enlca: out/")
        assert os.strerror(errno.EACCES) in line
    assert everything(own) == before


def test_a_picture_or_folder_that_may_not_be_read_is_one_line_and_the_others_are_done(place):
    own, upscale = place
    (own / "in" / "secret.png").write_bytes(GOOD)
    (own / "in" / "secret.png").chmod(0)
    (own / "in" / "closed").mkdir()
    (own / "in" / "closed").chmod(0)
    done = upscale("in", "-o", "out", "--recursive")
    assert done.code == 1
    lines = sorted(done.err.splitlines())
    assert [line.split(": ")[1] for line in lines] == ["in/closed", "in/secret.png"]
    assert all(os.strerror(errno.EACCES) in line for line in lines)
    assert everything(own / "out") == ["good_x4.png"]


def test_a_result_that_may_not_be_written_is_replaced_or_one_line_but_never_harmed(place):
    own, upscale = place
    (own / "out").mkdir()
    (own / "out" / "good_x4.png").write_bytes(b"read only")
    (own / "out" / "good_x4.png").chmod(0o444)
    (own / "out").chmod(0o777)
    done = upscale("in", "-o", "out")
    assert everything(own / "out") == ["good_x4.png"]
    if done.code == 0:
        check_made(own / "out" / "good_x4.png")
    else:
        assert len(done.err.splitlines()) == 1
        assert (own / "out" / "good_x4.png").read_bytes() == b"read only"


def test_a_missing_folder_for_temporary_files_is_no_obstacle(here, tiny_model):
    (here / "deep.ppm").write_bytes(pnm(smooth(H, W, 3, bits=16), kind=6, peak=65535))
    elsewhere = os.environ | {
        "TMPDIR": "/nonexistent",
        "HOME": "/nonexistent",
        "XDG_CACHE_HOME": "/nonexistent",
    }
    done = started("upscale", "good.png", "deep.ppm", "--model", tiny_model, "-o", "out", env=elsewhere)
    assert (done.returncode, done.stderr) == (0, "")
    assert everything(here / "out") == ["deep_x4.png", "good_x4.png"]
