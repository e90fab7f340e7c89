"""What a hostile client sends to the page: nothing outside is deleted, fetched, read or filled."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio", reason="the explorer needs pip install 'enlca[explore]'")

from benchmarks.visitor import Visitor

from enlca.explorer.server import serving
from enlca.explorer.uploads import MAX_FILES

META = {"meta": {"_type": "gradio.FileData"}}


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """The folder for temporary files, with what belongs to other programs."""
    import tempfile

    folder = tmp_path / "temporary"
    (folder / "others").mkdir(parents=True)
    (folder / "others" / "precious.txt").write_text("precious")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


@pytest.fixture
def visit(place, tiny_model, free_port):
    with serving(host="127.0.0.1", port=free_port, models=[tiny_model], max_megapixels=0.01) as url:
        yield lambda: Visitor(url)


@pytest.fixture
def secret_server() -> Iterator[tuple[str, list[str]]]:
    """A server inside, and what it was asked for."""
    asked: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *words):
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def upload(visitor: Visitor, picture: Path) -> Path:
    sent = visitor.http.post("gradio_api/upload", files={"files": (picture.name, picture.read_bytes())})
    [path] = sent.raise_for_status().json()
    return Path(path)


def opened(visitor: Visitor, path: object, **more: Any) -> str:
    """What the page says to a path that is sent as an upload; "failed" in what Gradio or we refuse."""
    try:
        return visitor.call("open", [{"path": str(path), **META, **more}, 8])[1]
    except RuntimeError as error:
        return str(error)


def leave(visitor: Visitor) -> None:
    visitor.call("leave", [])


def test_a_visitor_who_sends_a_folder_as_upload_and_leaves_deletes_nothing(visit, place, picture):
    visitor, other = visit(), visit()
    theirs, mine = upload(other, picture), upload(visitor, picture)
    root = next(folder for folder in mine.parents if folder.parent == place)
    for path in (root, mine.parent, mine.parent.parent, root / "x", place / "others" / "precious.txt"):
        opened(visitor, path)
    leave(visitor)
    assert (place / "others" / "precious.txt").read_text() == "precious"
    assert root.is_dir()
    assert theirs.is_file()
    assert "noise.png" in opened(other, theirs)


def test_an_upload_is_opened_by_its_path_alone_and_not_twice(visit, picture):
    visitor = visit()
    path = upload(visitor, picture)
    detour = f"{path.parent}/../{path.parent.name}/{path.name}"
    assert "31 × 23" not in opened(visitor, detour)
    assert "31 × 23" in opened(visitor, path)
    assert not path.exists()
    assert "31 × 23" not in opened(visitor, path)


def test_the_same_picture_of_two_visitors_is_two_uploads(visit, picture):
    one, other = visit(), visit()
    first, second = upload(one, picture), upload(other, picture)
    assert first != second
    assert "31 × 23" in opened(one, first)
    leave(one)
    assert "31 × 23" in opened(other, second)


def test_the_server_fetches_nothing_that_a_path_names(visit, secret_server, monkeypatch):
    url, asked = secret_server
    # Gradio refuses private addresses; the law is that it is not even asked.
    fetched = []
    download = "gradio.processing_utils.async_ssrf_protected_download"

    async def noted(url, cache_dir, **more):
        fetched.append(url)
        raise ValueError("not fetched in a test")

    monkeypatch.setattr(download, noted)
    visitor = visit()
    for path in (f"{url}/x.png", "https://example.org/x.png", "HTTPS://example.org/x.png"):
        assert "failed" in opened(visitor, path)
        assert "failed" in opened(visitor, path, url=path)
        # In the place of a number, too.
        with pytest.raises(RuntimeError, match="failed"):
            visitor.call("settings", ["enlcn-tiny", {"path": path, **META}])
    assert fetched == []
    assert asked == []


def test_a_stream_is_no_upload(visit, picture):
    visitor = visit()
    path = upload(visitor, picture)
    assert "failed" in opened(visitor, path, is_stream=True)
    assert "31 × 23" in opened(visitor, path)


def test_uploads_are_served_to_no_visitor_and_results_to_those_who_know_their_path(
    visit, tiny_model, picture
):
    visitor = visit()
    path = upload(visitor, picture)
    assert visitor.http.get(f"gradio_api/file={path}").status_code == 403
    opened(visitor, path)
    _, download, *_ = visitor.call("upscale", [str(tiny_model), 4, [], 1])
    made = download["value"]["path"]
    assert visitor.http.get(f"gradio_api/file={made}").status_code == 200
    detour = f"{Path(made).parent}//{Path(made).name}"
    assert visitor.http.get(f"gradio_api/file={detour}").status_code == 403
    leave(visitor)
    assert visitor.http.get(f"gradio_api/file={made}").status_code == 403


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "gradio_api/process_recording"),
        ("POST", "gradio_api/component_server"),
        ("POST", "gradio_api/stream/x"),
        ("POST", "gradio_api/call/open"),
        ("POST", "gradio_api/vibe-edit"),
        ("GET", "gradio_api/proxy=https://example.org"),
        ("GET", "gradio_api/file=HTTPS://example.org"),
        ("GET", "gradio_api/deep_link"),
        ("GET", "gradio_api/custom_component/1/client/component/x.js"),
        ("GET", "monitoring"),
        ("PUT", "config"),
    ],
)
def test_what_the_page_does_not_need_is_not_there(visit, method, path):
    assert visit().http.request(method, path, json={}).status_code == 404


def test_another_sites_page_cannot_ask(visit):
    http = visit().http
    for path in ("queue/join", "upload"):
        answer = http.post(f"gradio_api/{path}", json={}, headers={"sec-fetch-site": "cross-site"})
        assert answer.status_code == 403


def test_questions_without_a_page_with_other_numbers_or_too_long_are_refused(visit):
    http, question = visit().http, {"data": [], "fn_index": 0, "session_hash": "x"}
    join = "gradio_api/queue/join"
    for body in (
        b"[]",
        b"{",
        b'{"data": [NaN], "session_hash": "x"}',
        b"[" * 100_000,
        "\ud800".encode("utf-16", "surrogatepass"),
    ):
        assert http.post(join, content=body).status_code == 400, body[:9]
    for session in (None, "", 5, "x" * 1000):
        assert http.post(join, json=question | {"session_hash": session}).status_code == 400, session
    assert http.post(join, json=question | {"data": ["x" * (1 << 20)]}).status_code == 413
    assert http.get("config", params={"x": "y" * 5000}).status_code == 414


def test_an_upload_that_is_too_large_too_many_or_none_leaves_nothing(visit, place, picture):
    http = visit().http
    [root] = [folder for folder in place.iterdir() if folder.name != "others"]
    before = sorted(root.iterdir())
    large, many = b"x" * (33 << 20), [("files", (f"{n}.png", b"a")) for n in range(MAX_FILES + 1)]
    for files, status in (
        ([("files", ("a.png", large))], 413),
        (many, 400),
        ([("files", ("a.png", large[: 17 << 20]))] * 2, 413),
        ([("other", ("a.png", b"a"))], 400),
    ):
        assert http.post("gradio_api/upload", files=files).status_code == status
    assert http.post("gradio_api/upload", content=json.dumps({})).status_code == 400
    assert sorted(root.iterdir()) == before


def test_several_files_of_one_upload_are_uploads_of_their_own(visit, place, picture):
    visitor = visit()
    files = [("files", (name, picture.read_bytes())) for name in ("a.png", "b.png")]
    one, other = visitor.http.post("gradio_api/upload", files=files).raise_for_status().json()
    assert Path(one).parents[1] != Path(other).parents[1]
    assert "31 × 23" in opened(visitor, one)
    assert not Path(one).parents[1].exists()
    assert "31 × 23" in opened(visitor, other)
    [root] = [folder for folder in place.iterdir() if folder.name != "others"]
    assert not list(root.glob("**/*.png"))


def test_names_of_uploads_stay_in_their_folder(visit, place, picture):
    visitor = visit()
    for name in ("../../../x.png", "/etc/x.png", "..", "a\0b.png"):
        sent = visitor.http.post("gradio_api/upload", files={"files": (name, picture.read_bytes())})
        if sent.status_code == 200:
            assert place in Path(sent.json()[0]).resolve().parents
    assert not list(place.glob("*.png"))
