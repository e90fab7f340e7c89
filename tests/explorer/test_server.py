"""The server: it shows its own files only, and leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytest.importorskip("gradio", reason="the explorer needs pip install 'enlca[explore]'")

import httpx
from benchmarks.visitor import Visitor

from enlca.errors import PortTaken
from enlca.explorer.server import serving
from enlca.explorer.uploads import PREFIX

CHOICE = (0, 6.0, 8, "")


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path, monkeypatch):
    # Other tests, and other people, serve pages at the same time.
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


@pytest.fixture
def visit(tiny_model, free_port):
    with serving(host="127.0.0.1", port=free_port, models=[tiny_model], max_megapixels=0.01) as url:
        yield lambda: Visitor(url)


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """The folder for temporary files of this test alone."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


def left_behind(place: Path) -> list[Path]:
    return list(place.glob(f"{PREFIX}*"))


def test_a_visitor_opens_clicks_upscales_and_fetches(visit, tiny_model, picture):
    visitor, model = visit(), str(tiny_model)
    visitor.open(picture)
    html = visitor.click(3, 5, (model, 4, *CHOICE))
    assert "row 3, column 5" in html
    assert visitor.click(4, 5, (model, 4, *CHOICE)) != html
    _, download, *_ = visitor.call("upscale", [model, 4, [], 1])
    fetched = visitor.http.get(f"gradio_api/file={download['value']['path']}").raise_for_status()
    assert fetched.content.startswith(b"\x89PNG")
    assert download["value"]["path"].endswith("/noise_x4.png")


def test_a_text_file_is_refused_on_the_page_in_one_line(visit, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    _, about, *_ = visit().open(path)
    assert "notes.txt: not a picture" in about


def test_files_outside_are_not_served_nor_taken_as_uploads(visit, tmp_path):
    visitor = visit()
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    outside = [secret, Path(__file__), Path("README.md").resolve(), Path("/etc/hostname")]
    for path in outside:
        answer = visitor.http.get(f"gradio_api/file={path}")
        assert answer.status_code in (403, 404), path
    file = {"path": str(secret), "meta": {"_type": "gradio.FileData"}}
    with pytest.raises(RuntimeError, match="failed"):
        visitor.call("open", [file, 8])


def test_nothing_is_fetched_on_behalf_of_visitors_and_pages_load_nothing_from_elsewhere(visit):
    http = visit().http
    assert http.get("gradio_api/file=http://127.0.0.1:1/x.png").status_code == 404
    policy = http.get("/").headers["content-security-policy"]
    assert policy.startswith("default-src 'self' data: blob:")
    assert "http" not in policy


def test_two_visitors_do_not_see_each_others_pictures(visit, tiny_model, picture, tmp_path):
    one, other = visit(), visit()
    one.open(picture)
    assert "There is no picture here: drop one." in other.click(0, 0, (str(tiny_model), 4, *CHOICE))


def test_everything_is_gone_at_the_end_and_settings_are_as_before(
    tiny_model, free_port, picture, monkeypatch, place
):
    monkeypatch.setenv("GRADIO_ALLOWED_PATHS", "/")
    with serving(host="127.0.0.1", port=free_port, models=[tiny_model], max_megapixels=0.01) as url:
        visitor = Visitor(url)
        visitor.open(picture)
        visitor.call("upscale", [str(tiny_model), 4, [], 1])
        assert visitor.http.get("gradio_api/file=/etc/hostname").status_code == 403
        [folder] = left_behind(place)
        assert list(folder.rglob("*_x4.png"))
    assert left_behind(place) == []
    assert os.environ["GRADIO_ALLOWED_PATHS"] == "/"
    assert "GRADIO_TEMP_DIR" not in os.environ


def test_a_port_that_is_taken_is_one_line(tiny_model, command, place):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = command("explore", "--port", port, "--model", tiny_model)
    assert done.code == PortTaken.exit_code
    assert done.out == ""
    assert done.err == (
        f"enlca: cannot listen on 127.0.0.1:{port}: "
        "it is taken, or not this machine's; choose another --port\n"
    )
    assert left_behind(place) == []


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_signal_ends_the_command_cleanly(number, tiny_model, free_port, picture, place):
    words = [sys.executable, "-m", "enlca", "explore", "--port", str(free_port), "--model", str(tiny_model)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline().startswith(f"http://127.0.0.1:{free_port}/")
    Visitor(f"http://127.0.0.1:{free_port}").open(picture)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", "")
    assert left_behind(place) == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{free_port}")
