"""`enlca data check | pack | fetch`: what they print, where, and how they end."""

import json
import sys

import numpy as np
import pytest
from PIL import Image


def put(path, height, width, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder: three pictures in `in`."""
    for number in range(3):
        put(tmp_path / "in" / f"{number}.png", 16 + number, 20, number)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_check_prints_what_is_there(folder, command):
    done = command("data", "check", "in")
    assert (done.code, done.err) == (0, "")
    assert done.out == (
        "in\n"
        "  HR in this folder, LR is made from it\n"
        "    3 pictures, 0.0 megapixels\n"
        "    smallest 20x16, median 20x17, largest 20x18\n"
        "    3 RGB\n"
        "  no problems\n"
    )


def test_check_names_each_problem_on_stderr_and_exits_with_1(folder, command):
    (folder / "in" / "bad.png").write_text("dear diary")
    done = command("data", "check", "in", "--scale", 4, "--patch", 5)
    assert done.code == 1
    assert done.out.endswith("  4 problems\n")
    lines = done.err.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("enlca: in/bad.png: not a picture")
    assert all(line.startswith("enlca: in/") and "too small" in line for line in lines[1:])


def test_check_says_the_same_in_json(folder, command):
    put(folder / "in" / "again.png", 16, 20, 0)
    done = command("data", "check", "in", "--json")
    assert done.code == 1
    body = json.loads(done.out)
    assert body["folder"] == "in"
    assert body["contents"][0]["pictures"] == 4
    assert done.err == "".join(f"enlca: {problem}\n" for problem in body["problems"])
    assert body["problems"] == ["in/again.png: the same picture as in/0.png"]


def test_pack_is_made_once_and_checked(folder, command):
    done = command("data", "pack", "in", "out", "--scale", 2)
    assert (done.code, done.out, done.err) == (0, "out: 3 pictures for x2, 0.0 MB\n", "")
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["hr", "lr", "pack.json"]
    before = (folder / "out" / "pack.json").stat().st_mtime_ns
    done = command("data", "pack", "in", "out", "--scale", 2)
    assert (done.code, done.out) == (0, "out: is packed already: 3 pictures for x2, 0.0 MB\n")
    assert (folder / "out" / "pack.json").stat().st_mtime_ns == before
    assert command("data", "check", "out").code == 0
    files = [name for name in everything(folder) if not name.endswith(".npy")]
    assert files == sorted(
        ["in", "in/0.png", "in/1.png", "in/2.png", "out", "out/hr", "out/lr", "out/pack.json"]
    )
    assert len(everything(folder)) == len(files) + 2 * 3


def test_pack_refuses_bad_pictures_in_one_line_and_goes_on_when_they_are_mended(folder, command):
    (folder / "in" / "bad.png").write_text("dear diary")
    done = command("data", "pack", "in", "out", "--scale", 2)
    assert (done.code, done.out) == (1, "")
    [line] = done.err.splitlines()
    assert line.startswith("enlca: in: 1 of 4 pictures cannot be used: bad.png: not a picture")
    assert not (folder / "out").exists()
    (folder / "in" / "bad.png").unlink()
    assert command("data", "pack", "in", "out", "--scale", 2).code == 0


def test_an_interrupted_pack_says_how_to_go_on(folder, command, monkeypatch):
    from enlca.image import resize

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(resize, "_resize_rows", interrupt)
        done = command("data", "pack", "in", "out", "--scale", 2)
    assert done.code == 130
    assert done.err == "enlca: interrupted; the same command goes on where this one stopped\n"
    assert not (folder / "out").exists()
    assert command("data", "pack", "in", "out", "--scale", 2).code == 0


def test_fetch_lists_what_is_known(command):
    done = command("data", "fetch", "--list")
    assert done.code == 0
    assert "div2k         5.8 GB  800 + 100 pictures; academic research only\n" in done.out
    assert [line.split()[0] for line in done.out.splitlines()][-1] == "manga109"


def test_a_download_that_fails_is_one_line_and_exit_code_1(folder, command):
    pytest.importorskip("pooch")
    done = command("data", "fetch", "set5", "sets", "--url-base", "http://127.0.0.1:9")
    assert (done.code, done.out) == (1, "")
    [line] = done.err.splitlines()
    assert line.startswith("enlca: http://127.0.0.1:9/Set5_HR.tar.gz: ")


def test_fetching_without_its_extra_packages_says_how_to_get_them(folder, command, monkeypatch):
    monkeypatch.delitem(sys.modules, "enlca.data.download", raising=False)
    monkeypatch.setitem(sys.modules, "pooch", None)
    done = command("data", "fetch", "set5", "sets")
    assert (done.code, done.err) == (2, "enlca: fetching needs pooch: pip install 'enlca[train]'\n")


USAGE = {
    "no command": ("data shrink in", "No such command 'shrink'"),
    "check nowhere": ("data check gone", "gone: no such folder"),
    "check nothing": ("data check empty", "empty: no pictures in this folder"),
    "check scale": ("data check in --scale 5", "'--scale': '5' is not one of '2', '3', '4'"),
    "check patch alone": ("data check in --patch 48", "--patch counts LR pixels: give --scale, too"),
    "pack nowhere": ("data pack gone out --scale 2", "gone: no such folder"),
    "pack without scale": ("data pack in out", "Missing option '--scale'"),
    "pack onto pictures": ("data pack in in --scale 2", "in: is there and is not a pack"),
    "pack onto a file": ("data pack in in/0.png --scale 2", "in/0.png: is there and is not a pack"),
    "fetch the unknown": ("data fetch set6 sets", "unknown data set 'set6'; known: div2k, div2k-valid, set5"),
    "fetch nothing": ("data fetch", "say what to fetch (div2k"),
    "fetch to nowhere": ("data fetch set5", "and where to"),
    "fetch what must be asked for": ("data fetch manga109 sets", "cannot be fetched without asking"),
    "fetch a wrong hash": ("data fetch set5 sets --sha256 x.zip=123", "must be FILE=HASH with 64"),
}


@pytest.mark.parametrize("case", USAGE)
def test_wrong_usage_is_one_line_and_exit_code_2(folder, command, case):
    words, reason = USAGE[case]
    (folder / "empty").mkdir()
    before = everything(folder)
    done = command(*words.split())
    assert (done.code, done.out) == (2, "")
    [message] = done.err.splitlines()
    assert message.startswith("enlca: ")
    assert reason in message
    assert everything(folder) == before


def test_a_disk_that_is_full_while_packing_is_one_line_with_the_file(folder, command, monkeypatch):
    def full(path, pixels):
        # What numpy says then.
        raise OSError("6144 requested and 0 written")

    monkeypatch.setattr("numpy.save", full)
    done = command("data", "pack", folder, folder.parent / "pack", "--scale", 2)
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert ".npy: cannot be written: no space left on the device; what was packed before is kept" in done.err
