"""`-`: a picture from stdin, or into stdout."""

import io
import sys

import numpy as np
import pytest
from PIL import Image

from enlca.cli import main

PIXELS = np.random.default_rng(0).integers(0, 256, (13, 11, 3), dtype=np.uint8)


class Stream(io.BytesIO):
    """A standard stream of bytes, with what text streams have."""

    encoding = "utf-8"

    def __init__(self, data=b"", *, terminal=False):
        super().__init__(data)
        self.buffer, self.terminal = self, terminal

    def isatty(self):
        return self.terminal

    def seekable(self):
        return False

    def write(self, text):
        return super().write(text.encode() if isinstance(text, str) else text)


@pytest.fixture
def pipe(tmp_path, monkeypatch, tiny_model, capsys):
    """Runs the command with bytes on stdin; gives the exit code, the bytes on stdout, and stderr."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(PIXELS).save(tmp_path / "a.png")

    def run(*words, given=b"", terminal=()):
        out = Stream(terminal="out" in terminal)
        with monkeypatch.context() as patch:
            patch.setattr("sys.argv", ["enlca", "upscale", *words, "--model", str(tiny_model)])
            patch.setattr("gc.freeze", lambda: None)
            patch.setattr(sys, "stdin", Stream(given, terminal="in" in terminal))
            patch.setattr(sys, "stdout", out)
            with pytest.raises(SystemExit) as leaving:
                main()
        return leaving.value.code, out.getvalue(), capsys.readouterr().err

    return run


def pixels(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def test_a_picture_goes_through_in_the_format_that_is_asked_for(pipe, tmp_path):
    data = (tmp_path / "a.png").read_bytes()
    code, made, err = pipe("-", "-o", "-", given=data)
    assert (code, err, made[:4]) == (0, "", b"\x89PNG")
    assert pipe("-", given=data) == (0, made, "")
    assert pipe("a.png", "-o", "-") == (0, made, "")
    assert pipe("-", "-o", "b.png", given=data)[0] == 0
    for other in (tmp_path / "b.png").read_bytes(), made:
        np.testing.assert_array_equal(pixels(other), pixels(made))
    assert pipe("-", "--format", "jpeg", given=data)[1][:3] == b"\xff\xd8\xff"
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.png", "b.png"]
    assert pipe("-", "-o", "out/", given=data)[1] == b"stdin -> out/stdin_x4.png (44x52)\n"


def test_a_folder_called_stdin_is_not_taken_for_the_picture(pipe, tmp_path):
    (tmp_path / "stdin").mkdir()
    Image.fromarray(PIXELS).save(tmp_path / "stdin" / "other.png")
    data = (tmp_path / "a.png").read_bytes()
    assert pipe("-", "-o", "b.png", given=data)[:2] == (0, b"stdin -> b.png (44x52)\n")
    assert pipe("-", given=data)[1] == (tmp_path / "b.png").read_bytes()


def test_what_is_no_picture_is_one_line(pipe):
    assert pipe("-", given=b"") == (1, b"", "enlca: stdin: the file is empty (0 bytes)\n")
    code, made, err = pipe("-", given=b"dear diary")
    assert (code, made) == (1, b"")
    assert err.startswith("enlca: stdin: not a picture")


@pytest.mark.parametrize(
    ("words", "terminal", "reason"),
    [
        (["-", "-o", "-", "--json"], (), "--json and the picture would both go to stdout"),
        (["-", "a.png"], (), "- is one picture: give one input"),
        (["a.png", "-o", "-"], ("out",), "stdout, which is a terminal; name a file with -o"),
        (["-", "-o", "x.png"], ("in",), "stdin, which is a terminal"),
        ([".", "-o", "-"], (), "- is one picture: give one input"),
        (["-", "--watch"], (), "--watch looks into folders; - is none"),
    ],
)
def test_streams_that_hold_something_else_are_refused(pipe, words, terminal, reason):
    code, made, err = pipe(*words, terminal=terminal)
    assert (code, made) == (2, b"")
    assert reason in err


@pytest.mark.parametrize(("kind", "made"), [("JPEG", "JPEG"), ("WEBP", "WEBP"), ("PPM", "PPM")])
def test_the_format_of_the_input_is_that_of_stdout_if_asked(pipe, tmp_path, kind, made):
    Image.fromarray(PIXELS).save(tmp_path / "x.dat.jpg", kind)
    data = (tmp_path / "x.dat.jpg").read_bytes()
    for words, given in ((("-",), data), (("x.dat.jpg", "-o", "-"), b"")):
        code, out, _ = pipe(*words, "--format", "same", given=given)
        assert code == 0
        with Image.open(io.BytesIO(out)) as image:
            assert image.format == made
