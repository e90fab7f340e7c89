"""Pipes, devices, links and files that change: one clear line each, the others done, nothing lost."""

import os
import stat
import sys

import pytest
from places import GOOD, check_made, everything, one_line, started


def test_a_folder_with_a_pictures_name_is_a_folder(here, tiny_model, command):
    (here / "empty.png").mkdir()
    (here / "full.png").mkdir()
    (here / "full.png" / "x.png").write_bytes(GOOD)
    done = command("upscale", "empty.png", "full.png", "good.png", "--model", tiny_model, "-o", "out")
    assert done.code == 1
    one_line(done, "empty.png", "no pictures in this folder")
    assert everything(here / "out") == ["good_x4.png", "x_x4.png"]
    # Among the pictures of a folder they are none.
    done = command("upscale", ".", "--model", tiny_model, "-o", "again")
    assert (done.code, done.err) == (0, "")
    assert everything(here / "again") == ["good_x4.png"]


def test_an_output_that_is_a_folder_is_one_line_and_stays(here, tiny_model, command):
    (here / "good_x4.png").mkdir()
    (here / "good_x4.png" / "precious").touch()
    (here / "other.png").write_bytes(GOOD)
    done = command("upscale", "good.png", "other.png", "--model", tiny_model)
    assert done.code == 1
    one_line(done, "good_x4.png", "is a folder")
    assert everything(here) == [
        "good.png",
        "good_x4.png",
        "good_x4.png/precious",
        "other.png",
        "other_x4.png",
    ]


@pytest.mark.parametrize("how", ["named", "in a folder", "from a pattern"])
def test_a_pipe_without_a_writer_does_not_hang(here, tiny_model, how):
    os.mkfifo(here / "pipe.png")
    (here / "good.png").rename(here / "z.png")
    inputs = {"named": ["pipe.png", "z.png"], "in a folder": ["."], "from a pattern": ["*.png"]}[how]
    done = started("upscale", *inputs, "--model", tiny_model, "-o", "out")
    if how == "named":
        assert done.returncode == 1
        one_line_of = [line for line in done.stderr.splitlines() if line.startswith("enlca: pipe.png: ")]
        assert done.stderr.splitlines() == one_line_of
        assert len(one_line_of) == 1
    else:
        assert (done.returncode, done.stderr) == (0, "")
    assert everything(here / "out") == ["z_x4.png"]
    assert stat.S_ISFIFO((here / "pipe.png").stat().st_mode)


def test_devices_are_one_line_each(here, tiny_model):
    devices = [name for name in ("zero", "null", "full", "tty") if os.path.exists(f"/dev/{name}")]
    for name in devices:
        (here / f"{name}.png").symlink_to(f"/dev/{name}")
    inputs = [f"{name}.png" for name in devices]
    done = started("upscale", *inputs, "good.png", "--model", tiny_model, "-o", "out")
    assert done.returncode == 1
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == inputs
    assert everything(here / "out") == ["good_x4.png"]


def test_links_that_lead_in_a_circle_or_nowhere_are_one_line_each(here, tiny_model, command):
    (here / "a.png").symlink_to("b.png")
    (here / "b.png").symlink_to("a.png")
    (here / "nowhere.png").symlink_to("gone.png")
    done = command("upscale", "a.png", "nowhere.png", "good.png", "--model", tiny_model, "-o", "out")
    assert done.code == 1
    first, second = done.err.splitlines()
    assert first.startswith("enlca: a.png: ")
    assert "symbolic link" in first
    assert second == "enlca: nowhere.png: no such file"
    assert everything(here / "out") == ["good_x4.png"]


def test_folders_linked_in_a_circle_are_walked_once(here, tiny_model, command):
    (here / "in" / "deep").mkdir(parents=True)
    (here / "good.png").rename(here / "in" / "deep" / "x.png")
    (here / "in" / "deep" / "up").symlink_to("..", target_is_directory=True)
    done = command("upscale", "in", "--model", tiny_model, "-o", "out", "--recursive")
    assert (done.code, done.err) == (0, "")
    assert everything(here / "out") == ["deep", "deep/x_x4.png"]


# A process cannot stop listening to its own calls: this one listens until it has acted.
on_first_open = None


def _listen(event, words):
    global on_first_open
    if event == "open" and on_first_open is not None and str(words[0]).endswith("01.png"):
        act, on_first_open = on_first_open, None
        act()


@pytest.fixture
def when_the_first_is_opened():
    """Does something at the moment when the command opens 01.png: all are listed then, the last not read."""
    global on_first_open
    sys.addaudithook(_listen)

    def prepare(act):
        global on_first_open
        on_first_open = act

    yield prepare
    assert on_first_open is None
    on_first_open = None


CHANGES = {
    "vanishes": (lambda path: path.unlink(), "no such file"),
    "is cut short": (lambda path: os.truncate(path, 100), "damaged or cut short"),
    "is emptied": (lambda path: os.truncate(path, 0), "0 bytes"),
    "becomes a folder": (lambda path: (path.unlink(), path.mkdir()), "is a folder"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_picture_that_changes_while_it_waits_is_one_line(
    here, tiny_model, command, when_the_first_is_opened, what
):
    change, reason = CHANGES[what]
    (here / "in").mkdir()
    for number in range(1, 9):
        (here / "in" / f"0{number}.png").write_bytes(GOOD)
    when_the_first_is_opened(lambda: change(here / "in" / "08.png"))
    done = command("upscale", "in", "--model", tiny_model, "-o", "out")
    assert done.code == 1
    one_line(done, "in/08.png", reason)
    assert everything(here / "out") == [f"0{number}_x4.png" for number in range(1, 8)]
    for path in (here / "out").iterdir():
        check_made(path)
