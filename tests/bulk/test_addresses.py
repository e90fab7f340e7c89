"""Lists of addresses: what they say, and servers that answer, fail, stall and never end."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from enlca.bulk import addresses
from enlca.bulk.addresses import Addresses, is_list, place_of
from enlca.bulk.job import run_job
from enlca.bulk.origins import open_origin
from enlca.bulk.spec import Spec, Tally
from enlca.errors import BulkError, PictureError
from enlca.image.rows import MAX_PIXELS

from .conftest import picture
from .test_job import Here, rows_of


class Handler(BaseHTTPRequestHandler):
    """Answers by path: bytes, a status, or a function that writes the rest."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked.append(self.path)
        answer = self.server.answers.get(self.path, 404)
        if isinstance(answer, list):
            answer = answer.pop(0)
        if callable(answer):
            self.close_connection = True
            answer(self)
            return
        status, body = (200, answer) if isinstance(answer, bytes) else (answer, b"no")
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def web(monkeypatch):
    """A server; `answers` and `asked` by path."""
    monkeypatch.setattr(addresses, "PAUSES", (0.0,))
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.answers, server.asked, server.daemon_threads = {}, [], True
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fetched(web, path, tmp_path, *, max_pixels=MAX_PIXELS):
    with (tmp_path / "file").open("w+b") as file:
        Addresses(f"{web.url}/list.txt", max_pixels=max_pixels).read_into(web.url + path, file)
    return (tmp_path / "file").read_bytes()


def test_a_list_becomes_pictures_and_the_rows_of_a_job(web, tmp_path, work, monkeypatch):
    monkeypatch.setattr("enlca.bulk.worker.work_of", lambda spec: work)
    lines = [
        "# mine",
        "",
        "a/b.png",
        f"{web.url}/a/b.png#top",
        "/get?id=1",
        "/get?id=2",
        "gone.jpg",
        "no.txt",
        "a/b.png",
    ]
    web.answers |= {"/x/list.txt": "\r\n".join(lines).encode(), "/x/a/b.png": picture(0), "/a/b.png": 403}
    web.answers |= {"/get?id=1": picture(1), "/get?id=2": picture(2, "JPEG"), "/x/no.txt": b"dear diary"}
    spec = Spec(f"{web.url}/x/list.txt", str(tmp_path / "out"), str(tmp_path / "job"))
    report = run_job(spec, lambda spec: Here(spec, work))
    assert report.tally == Tally(done=3, failed=3)
    rows = {row["key"].removeprefix(web.url): row for row in rows_of(spec)}
    assert len(rows) == 6
    errors = {key: row["error"].removeprefix(web.url + key) for key, row in rows.items() if row["error"]}
    assert errors["/a/b.png"] == ": not permitted: HTTP 403 Forbidden"
    assert errors["/x/gone.jpg"] == ": no such object any more"
    assert errors["/x/no.txt"].startswith(": not a picture in a format")
    made = [row["target"] for row in rows.values() if row["target"]]
    assert all((tmp_path / "out" / name).is_file() for name in made)
    host = web.url.removeprefix("http://").replace(":", "_")
    assert rows["/x/a/b.png"]["target"] == f"{host}/x/a/b_png_x4.png"
    web.answers |= {"/x/gone.jpg": picture(3, "JPEG"), "/x/list.txt": b"changed"}
    again = run_job(spec, lambda spec: Here(spec, work), retry_failed=True)
    assert again.tally == Tally(done=4, failed=2)


def test_a_file_here_may_be_the_list(tmp_path):
    (tmp_path / "list.txt").write_text(
        "\ufeffHTTPS://host/a.png\nhttps://host/a.png\nhttp://me:secret@host/a.png"
    )
    assert is_list(str(tmp_path / "list.txt"))
    origin = open_origin(str(tmp_path / "list.txt"), max_pixels=1)
    assert list(origin.listed()) == [("https://host/a.png", 0)]
    assert not is_list(str(tmp_path))


@pytest.mark.parametrize(
    "line",
    [
        *("a.png", "ftp://host/a.png", "file:///etc/passwd", "http://", "http://h:x/a", "http://["),
        "é" * 9000,
        *("https://../a.png", "http://./a.png", "http://me@../a.png"),
    ],
)
def test_a_line_that_is_no_address_is_named(tmp_path, line):
    (tmp_path / "list.txt").write_text(f"http://host/a.png\n{line}\n")
    with pytest.raises(BulkError, match=r"list.txt: line 2 is no http\(s\) address: '") as caught:
        list(Addresses(str(tmp_path / "list.txt"), max_pixels=1).listed())
    assert len(str(caught.value)) < 500


def test_a_list_that_cannot_be_had_is_one_line(web, tmp_path):
    with pytest.raises(BulkError, match="the list cannot be read: HTTP 404 Not Found"):
        list(Addresses(f"{web.url}/list.txt", max_pixels=1).listed())
    web.shutdown()
    web.server_close()
    with pytest.raises(BulkError, match="the list cannot be read: Connection refused"):
        list(Addresses(f"{web.url}/list.txt", max_pixels=1).listed())


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("https://Host.org/a/b.jpg", "host.org/a/b.jpg"),
        ("https://user:word@host:81/a%20b.JPG", "host_81/a%20b.JPG"),
        ("https://host/ä.png", "host/%C3%A4.png"),
        ("https://host/a/../../../etc/passwd", "host/etc/passwd_6ef5ab2f3ed1b9b5"),
        ("https://host/..\\..\\a.png", "host/..%5C..%5Ca.png"),
        ("https://host", "host/index_8a5edab282632443"),
        ("deep/a.png", "deep/a.png"),
    ],
)
def test_the_place_of_a_result_is_host_and_path_and_never_elsewhere(address, place):
    found = place_of(address)
    assert found.rsplit("_", 1)[0] == place.rsplit("_", 1)[0]
    assert ".." not in found.split("/")


def test_places_of_different_addresses_differ():
    ends = [
        "a.png",
        "a.png?x=1",
        "a.png?x=2",
        "b//a.png",
        "b/a.png",
        "b/./a.png",
        "",
        "?q",
        "a" * 300,
        "a" * 301,
    ]
    assert len({place_of(f"http://h/{end}") for end in ends}) == len(ends)
    assert all(len(part) < 130 for part in place_of(f"http://h/{'b' * 999}/{'a' * 999}.png").split("/"))


def test_what_may_pass_is_tried_twice_and_answers_are_not(web, tmp_path):
    web.answers["/a"] = [503, b"whole"]
    assert fetched(web, "/a", tmp_path) == b"whole"

    def broken(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")

    web.answers["/b"] = [broken, b"whole"]
    assert fetched(web, "/b", tmp_path) == b"whole"
    web.answers |= {"/c": [500, 502], "/d": [broken, broken], "/e": 451}
    for path, reason in (
        ("/c", "HTTP 502 Bad Gateway"),
        ("/d", "the connection broke: ProtocolError"),
        ("/e", "HTTP 451 Unavailable For Legal Reasons"),
    ):
        with pytest.raises(PictureError, match=f"{path}: cannot be fetched: {reason}$"):
            fetched(web, path, tmp_path)
    assert web.asked.count("/e") == 1


def test_a_body_that_never_ends_or_trickles_is_given_up(web, tmp_path, monkeypatch):
    sent = []

    def endless(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            sent.append(handler.wfile.write(bytes(1 << 16)))

    def trickling(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        for _ in range(100):
            handler.wfile.write(b"x")
            threading.Event().wait(0.02)

    monkeypatch.setattr(addresses, "META_BYTES", 1 << 20)
    web.answers |= {"/endless": endless, "/slow": trickling}
    with pytest.raises(PictureError, match="has more than"):
        fetched(web, "/endless", tmp_path, max_pixels=1)
    monkeypatch.setattr(addresses, "BEGIN", 0.1)
    with pytest.raises(PictureError, match="cannot be fetched: it comes too slowly"):
        fetched(web, "/slow", tmp_path)
