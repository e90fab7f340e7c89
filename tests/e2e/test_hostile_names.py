"""Names that do not play along: one clear line each, the others done."""

import errno
import os

import pytest
from places import GOOD, check_made, everything, one_line, started

NAMES = {
    "spaces": "  two  spaces .png",
    "a newline": "two\nlines.png",
    "a carriage return": "over\rwritten.png",
    "a terminal's escapes": "\x1b[2J\x1b]0;title\x07.png",
    "a leading dash": "-rf.png",
    "two leading dashes": "--overwrite.png",
    "another alphabet": "写真 für Ægir ☃ 🏔.png",
    "letters put together": "e\u0301te\u0301.png",
    "right to left": "\u202egnp.exe.png",
    "quotes": 'it\'s "$(rm -rf x)" `y`.png',
    "a pattern": "a[0-9]*?.png",
    "fields": "{stem}_{size}.png",
    "options of libvips": "x.png[Q=1,strip].png",
    "a backslash": "a\\b.png",
    "only a suffix twice": ".png.png",
    "upper case": "PICTURE.PNG",
}


@pytest.mark.parametrize("what", NAMES)
def test_names_may_hold(here, tiny_model, command, what):
    name = NAMES[what]
    (here / name).write_bytes(GOOD)
    done = command("upscale", "--model", tiny_model, "-o", "out", "--", name)
    assert (done.code, done.err) == (0, "")
    check_made(here / "out" / f"{name[:-4]}_x4.png")
    (here / name).write_bytes(b"not a picture")
    done = command("upscale", "--model", tiny_model, "-o", "out", "--", name, "good.png")
    assert done.code == 1
    # What cannot be printed on a line may be written otherwise, but it stays one line.
    [line] = done.err.splitlines()
    assert line.startswith("enlca: ")
    assert "not a picture in a format that is read here" in line
    assert not [letter for letter in line if ord(letter) < 32]
    check_made(here / "out" / "good_x4.png")


def test_a_name_that_is_not_unicode_is_one_line_or_done(here, tiny_model):
    odd = os.fsencode(here) + b"/caf\xe9.png"
    try:
        with open(odd, "wb") as file:
            file.write(GOOD)
    except OSError:
        pytest.skip("this file system holds Unicode only")
    done = started("upscale", here, "--model", tiny_model, "-o", here / "out", text=False)
    assert done.returncode in (0, 1)
    assert len(done.stderr.splitlines()) == done.returncode
    assert b"Traceback" not in done.stderr
    check_made(here / "out" / "good_x4.png")


def test_the_longest_name_that_a_folder_can_hold_is_enough(here, tiny_model, command):
    fits, too_long = "x" * 248, "y" * 251
    for stem in (fits, too_long):
        (here / f"{stem}.png").write_bytes(GOOD)
    before = everything(here)
    done = command("upscale", f"{too_long}.png", f"{fits}.png", "good.png", "--model", tiny_model)
    assert done.code == 1
    one_line(done, f"{too_long}.png", os.strerror(errno.ENAMETOOLONG))
    assert everything(here) == sorted([*before, f"{fits}_x4.png", "good_x4.png"])
    check_made(here / f"{fits}_x4.png")
    done = command("upscale", f"{too_long}.png", "--model", tiny_model, "-o", "short.png")
    assert (done.code, done.err) == (0, "")
    check_made(here / "short.png")


def test_a_path_too_long_for_the_system_is_one_line(here, tiny_model, command):
    deep = "/".join(["d" * 200] * 25) + "/x.png"
    done = command("upscale", deep, "good.png", "--model", tiny_model, "-o", "out")
    assert done.code == 1
    one_line(done, deep, os.strerror(errno.ENAMETOOLONG))
    check_made(here / "out" / "good_x4.png")
