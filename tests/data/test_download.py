"""Downloads from a server on loopback that does what servers and networks do."""

import gzip
import hashlib
import io
import json
import re
import tarfile
import threading
import time
import zipfile
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from enlca.data import download
from enlca.data.archives import SOURCES, Archive, Source, find_source, listing
from enlca.data.check import check_folder
from enlca.data.download import fetch
from enlca.errors import EnlcaError, FetchError


def png(*shape):
    out = io.BytesIO()
    pixels = np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def zipped(members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def tarred(members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


HR = {"Toy_HR/a.png": png(22, 26, 3), "Toy_HR/b.png": png(24, 28, 3), "README.txt": b"hello"}
LR = {"X2/ax2.png": png(11, 13, 3), "X2/bx2.png": png(12, 14, 3), "__MACOSX/._x.txt": b"junk"}
ZIP, TAR = zipped(HR), tarred(LR)
SHA = {"HR.zip": hashlib.sha256(ZIP).hexdigest(), "LR.tar.gz": hashlib.sha256(TAR).hexdigest()}
TOY = Source(
    "Toy",
    "http://nowhere.invalid",
    (
        Archive("HR.zip", "HR", known_hash=f"sha256:{SHA['HR.zip']}"),
        Archive("LR.tar.gz", "LR_bicubic/X2", scale=2),
    ),
    "for tests",
)


class Server(ThreadingHTTPServer):
    """Serves `files`; `cut` ends a body early, `ranges` says whether Range is understood.

    `asked` is what was asked for: name and Range; `sent` counts the bytes of bodies.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {"HR.zip": ZIP, "LR.tar.gz": TAR}
        self.cut, self.ranges, self.asked, self.sent = None, True, [], 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/mirror/"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, name = self.server, self.path.removeprefix("/mirror/")
        wanted = self.headers.get("Range")
        server.asked.append((name, wanted))
        body = server.files.get(name)
        if body is None:
            self.send_error(404)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and server.ranges else 0
        if start and start >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        part = body[start : server.cut]
        server.sent += len(part)
        self.wfile.write(part)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def get(server, tmp_path):
    """Fetches into the test's folder."""
    return lambda source=TOY, **settings: list(fetch(source, tmp_path, url_base=server.url, **settings))


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


FETCHED = ["HR/a.png", "HR/b.png", "LR_bicubic/X2/ax2.png", "LR_bicubic/X2/bx2.png", "fetched.json"]


def test_what_is_fetched_is_a_data_set_and_nothing_else_is_left(get, tmp_path):
    lines = get()
    home = tmp_path / "Toy"
    assert files_in(tmp_path) == [f"Toy/{name}" for name in FETCHED]
    assert (home / "HR" / "a.png").read_bytes() == HR["Toy_HR/a.png"]
    found = check_folder(home, scale=2)
    assert (found.problems, found.contents[0].pictures, found.contents[0].scale) == ([], 2, 2)
    assert "(as expected)" in lines[0]
    assert f"{SHA['LR.tar.gz']} (not known beforehand: trusted as it came, and recorded)" in lines[1]
    record = json.loads((home / "fetched.json").read_text())
    assert {name: entry["sha256"] for name, entry in record.items()} == SHA


def test_what_is_there_is_not_fetched_again(get, server):
    get()
    server.asked.clear()
    assert [line.rpartition(": ")[2] for line in get()] == ["2 pictures, there already"] * 2
    assert server.asked == []


def test_lr_pictures_of_other_scales_can_be_left_out(get, server):
    get(scale=4)
    assert [name for name, _ in server.asked] == ["HR.zip"]


def test_a_truncated_download_goes_on_where_it_broke_off(get, server, tmp_path):
    server.cut = 1000
    with pytest.raises(FetchError, match=rf"broke off after 1000 of {len(ZIP)} bytes; what came is kept"):
        get()
    assert not (tmp_path / "Toy" / "HR").exists()
    server.cut = 3000
    with pytest.raises(FetchError, match="broke off after 3000"):
        get()
    server.cut = None
    get()
    assert server.asked[:3] == [("HR.zip", None), ("HR.zip", "bytes=1000-"), ("HR.zip", "bytes=3000-")]
    assert server.sent == len(ZIP) + len(TAR)
    assert files_in(tmp_path / "Toy") == FETCHED


def test_a_server_that_ignores_range_sends_all_of_it_again(get, server, tmp_path):
    server.cut, server.ranges = 1000, False
    with pytest.raises(FetchError, match="broke off"):
        get()
    server.cut = None
    get()
    assert files_in(tmp_path / "Toy") == FETCHED


@pytest.mark.parametrize("surplus", [b"", b"more than there should be"])
def test_a_part_that_is_whole_or_too_long_is_no_trap(get, server, tmp_path, surplus):
    part = tmp_path / "Toy" / ".fetching" / "HR.zip.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(ZIP + surplus)
    get()
    assert files_in(tmp_path / "Toy") == FETCHED
    assert server.sent == len(TAR) + (len(ZIP) if surplus else 0)


def flipped(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("HR.zip", f"expected sha256:{SHA['HR.zip']}, got [0-9a-f]{{64}}"), ("LR.tar.gz", "is damaged")],
    # The sum depends on the time, and names of tests must not.
    ids=["sum", "archive"],
)
def test_a_corrupted_download_is_one_line_and_is_removed(get, server, tmp_path, name, reason):
    good = server.files[name]
    server.files[name] = flipped(good)
    with pytest.raises(FetchError, match=f"{name}: .*{reason}.*removed") as caught:
        get()
    assert "\n" not in str(caught.value)
    left = [path for path in files_in(tmp_path / "Toy") if not path.startswith("HR/")]
    assert left == (["fetched.json"] if name == "LR.tar.gz" else [])
    server.files[name] = good
    get()
    assert files_in(tmp_path / "Toy") == FETCHED


def test_a_wrong_checksum_at_the_very_end_of_a_tar_is_noticed(get, server):
    # The last 8 bytes of gzip are its checksum and length: tarfile alone never looks at them.
    server.files["LR.tar.gz"] = TAR[:-8] + bytes(4) + TAR[-4:]
    with pytest.raises(FetchError, match="is damaged"):
        get()


def test_once_trusted_a_file_must_stay_the_same(get, server, tmp_path):
    get()
    for path in (tmp_path / "Toy" / "LR_bicubic" / "X2").iterdir():
        path.unlink()
    (tmp_path / "Toy" / "LR_bicubic" / "X2").rmdir()
    server.files["LR.tar.gz"] = tarred({**LR, "X2/cx2.png": png(9, 9, 3)})
    with pytest.raises(FetchError, match=f"expected sha256:{SHA['LR.tar.gz']}"):
        get()
    server.files["LR.tar.gz"] = TAR
    assert "(as expected)" in get()[1]


def test_a_checksum_that_is_given_overrules(get, server):
    wrong = "0" * 64
    for name in SHA:
        with pytest.raises(FetchError, match=rf"{name}: is not what it should be \(expected sha256:{wrong}"):
            get(hashes={**SHA, name: wrong})
    get(hashes=SHA)
    with pytest.raises(FetchError, match=f"HR: its archive had SHA-256 {SHA['HR.zip']}, not {wrong}"):
        get(hashes={"HR.zip": wrong})
    with pytest.raises(EnlcaError, match=r"no archive 'x\.zip'; it has HR\.zip, LR\.tar\.gz"):
        get(hashes={"x.zip": wrong})


def with_link(target="/etc/hostname"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        member = tarfile.TarInfo("a.png")
        member.type, member.linkname = tarfile.SYMTYPE, target
        archive.addfile(member)
    return out.getvalue()


EVIL = {
    "parent in a zip": ("HR.zip", zipped({"x/a.png": HR["Toy_HR/a.png"], "../evil.png": b"evil"})),
    "root in a zip": ("HR.zip", zipped({"/tmp/evil.png": b"evil"})),
    "another disk": ("HR.zip", zipped({"C:/evil.png": b"evil"})),
    "parent in a tar": ("LR.tar.gz", tarred({"x/../../evil.png": b"evil"})),
    "link": ("LR.tar.gz", with_link()),
    "link within": ("LR.tar.gz", with_link("b.png")),
    "backslash": ("HR.zip", zipped({"..\\evil.png": b"evil"})),
}


@pytest.mark.parametrize("case", EVIL)
def test_an_archive_that_would_write_elsewhere_is_refused(get, server, tmp_path, case):
    name, server.files[EVIL[case][0]] = EVIL[case]
    trusting = Source("Toy", "", tuple(Archive(a.file, a.folder) for a in TOY.archives), "")
    with pytest.raises(FetchError, match=r"outside its folder|no plain file"):
        get(trusting)
    assert not list(tmp_path.parent.rglob("*evil*"))
    assert not (tmp_path / "Toy" / TOY.archives[name == "LR.tar.gz"].folder).exists()
    assert not [path for path in files_in(tmp_path / "Toy") if path.startswith(".fetching/")]


def bomb(kind):
    """An archive of a few hundred kilobytes that unpacks to 200 MiB, as a picture or beside one."""
    members = {"a.png": HR["Toy_HR/a.png"], "b.png" if kind == "zip" else "b.txt": bytes(200 << 20)}
    if kind == "tail":
        return gzip.compress(gzip.decompress(tarred({"a.png": HR["Toy_HR/a.png"]})) + bytes(200 << 20))
    if kind == "tar":
        return tarred(members)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["zip", "tar", "tail"])
def test_an_archive_that_unpacks_to_far_more_than_its_size_is_refused_before_it_is_unpacked(
    get, server, tmp_path, monkeypatch, kind
):
    name = "HR.zip" if kind == "zip" else "HR.tar.gz"
    server.files[name] = bomb(kind)
    monkeypatch.setattr("enlca.data.archives.shutil.unpack_archive", None)
    with pytest.raises(FetchError, match=r"would unpack to more than 64 MiB, 50 times its own size: refused"):
        get(Source("Toy", "", (Archive(name, "HR"),), ""))
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (zipped({"readme.txt": b"x"}), "holds no pictures"),
        (b"<html>Sign in</html>", "is damaged"),
        (gzip.compress(b"x"), "is damaged"),
    ],
    # The bytes themselves would be names that differ from process to process: gzip notes the time.
    ids=["no pictures", "a page", "no tar in it"],
)
def test_what_is_no_archive_of_pictures_is_one_line(get, server, tmp_path, body, reason):
    server.files["HR.zip"] = body
    with pytest.raises(FetchError, match=reason):
        get(Source("Toy", "", (Archive("HR.zip", "HR"),), ""))
    assert files_in(tmp_path) == []


def test_pictures_that_were_there_before_are_not_touched(get, server, tmp_path):
    (tmp_path / "Toy" / "HR").mkdir(parents=True)
    (tmp_path / "Toy" / "HR" / "mine.png").write_bytes(b"mine")
    with pytest.raises(FetchError, match="HR: is there, but is not what was fetched; move it away"):
        get()
    assert files_in(tmp_path) == ["Toy/HR/mine.png"]
    assert server.asked == []


def test_pictures_that_went_missing_are_noticed(get, tmp_path):
    get()
    (tmp_path / "Toy" / "HR" / "a.png").unlink()
    with pytest.raises(FetchError, match="HR: is there, but is not what was fetched"):
        get()


def test_killed_after_the_download_it_is_unpacked_without_another(get, server, tmp_path, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    for place in ("pooch.core.hash_matches", "enlca.data.download.unpack", "enlca.data.download._tally"):
        with monkeypatch.context() as patch:
            patch.setattr(place, killed)
            with pytest.raises(KeyboardInterrupt):
                get()
    assert not (tmp_path / "Toy" / "HR").exists()
    get()
    assert server.sent == len(ZIP) + len(TAR)


def test_a_file_that_is_not_on_the_server_is_one_line_and_leaves_nothing(get, server, tmp_path):
    del server.files["HR.zip"]
    with pytest.raises(FetchError, match=r"mirror/HR\.zip: the server answers 404 Not Found"):
        get()
    assert not list(tmp_path.iterdir())


def test_no_server_is_one_line(server, tmp_path):
    with pytest.raises(FetchError, match=r"HR\.zip: .*; what came is kept") as caught:
        list(fetch(TOY, tmp_path, url_base="http://127.0.0.1:9"))
    assert "\n" not in str(caught.value)


def test_two_do_not_fetch_into_one_folder(get, tmp_path):
    (tmp_path / "Toy").mkdir()
    with FileLock(tmp_path / "Toy" / ".fetching.lock"), pytest.raises(FetchError, match="another process"):
        get()


def test_progress_counts_bytes_to_the_end(get, monkeypatch):
    from enlca.data import download as module

    monkeypatch.setattr(module, "CHUNK", 1000)
    monkeypatch.setattr(module, "MIB", 1)
    seen = []
    get(on_progress=lambda name, done, total: seen.append((name, done, total)))
    assert seen[0] == ("HR.zip", 1000, len(ZIP))
    assert ("HR.zip", len(ZIP), len(ZIP)) in seen
    assert seen[-1] == ("LR.tar.gz", len(TAR), len(TAR))


def test_every_known_source_has_its_place_and_true_looking_checksums():
    for name, source in SOURCES.items():
        assert name in listing()
        assert bool(source.archives) != bool(source.ask)
        for archive in source.archives:
            assert source.base.startswith("https://")
            assert archive.file.endswith((".zip", ".tar.gz"))
            assert archive.known_hash is None or re.fullmatch(
                r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", archive.known_hash
            )
        assert len({archive.folder for archive in source.archives}) == len(source.archives)
    assert find_source("DIV2K") is SOURCES["div2k"]


def test_a_set_that_must_be_asked_for_says_where():
    with pytest.raises(EnlcaError, match=r"Manga109 cannot be fetched without asking: .*manga109\.org"):
        find_source("manga109")


def answer(server, monkeypatch, respond):
    """Have the server answer by `respond(handler)`."""
    monkeypatch.setattr(Handler, "do_GET", respond)


def endless(handler):
    handler.send_response(200)
    handler.end_headers()
    with suppress(OSError):
        while True:
            handler.wfile.write(bytes(1 << 16))


@pytest.mark.parametrize("size", [None, 300_000])
def test_an_endless_body_is_given_up_and_removed(server, get, monkeypatch, tmp_path, size):
    monkeypatch.setattr(download, "MOST_BYTES", 500_000)
    answer(server, monkeypatch, endless)
    with pytest.raises(FetchError, match=f"sends more than {size or 500_000:,} bytes; what came was removed"):
        get(replace(TOY, archives=(replace(TOY.archives[0], size=size),)))
    assert files_in(tmp_path) == []


def test_a_body_that_would_be_larger_than_the_archive_is_not_begun(server, get, monkeypatch):
    with pytest.raises(FetchError, match=r"would send [\d,]+ bytes instead of 99; what came was removed"):
        get(replace(TOY, archives=(replace(TOY.archives[0], size=99),)))
    assert server.sent <= len(ZIP)


def test_a_server_that_hardly_sends_is_given_up_and_what_came_is_kept(server, get, monkeypatch, tmp_path):
    def slow(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(ZIP)))
        handler.end_headers()
        with suppress(OSError):
            for byte in ZIP:
                handler.wfile.write(bytes([byte]))
                handler.wfile.flush()
                time.sleep(0.02)

    monkeypatch.setattr(download, "PATIENCE", 0.1)
    answer(server, monkeypatch, slow)
    with pytest.raises(FetchError, match="bytes in a second, which is no use; what came is kept"):
        get()
    [part] = tmp_path.rglob("*.part")
    assert ZIP.startswith(part.read_bytes())
    assert part.stat().st_size > 0


def test_a_range_that_begins_at_zero_replaces_what_came(server, get, monkeypatch, tmp_path):
    server.cut = 100
    with pytest.raises(FetchError, match="broke off after 100"):
        get()
    server.cut = None

    def from_the_start(handler):
        body = server.files[handler.path.removeprefix("/mirror/")]
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes 0-{len(body) - 1}/{len(body)}")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    answer(server, monkeypatch, from_the_start)
    get()
    assert files_in(tmp_path / "Toy") == FETCHED


@pytest.mark.parametrize("place", ["http://[::1/x", "gopher://x/", "http://", "http://" + "a" * 99 + "/"])
def test_a_bad_redirect_keeps_what_came(server, get, monkeypatch, tmp_path, place):
    server.cut = 100
    with pytest.raises(FetchError):
        get()

    def redirect(handler):
        handler.send_response(302)
        handler.send_header("Location", place)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    answer(server, monkeypatch, redirect)
    with pytest.raises(FetchError, match="what came is kept"):
        get()
    [part] = tmp_path.rglob("*.part")
    assert part.read_bytes() == ZIP[:100]


def sparse():
    """A tar of some bytes that says that it unpacks to gigabytes."""
    member = tarfile.TarInfo("a.png")
    member.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "2000"}
    data = b"1\n0\n512\n".ljust(512, b"\0") + bytes(512)
    member.size = len(data)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def bad_sparse():
    """A tar whose map of a sparse file holds no numbers."""
    return gzip.compress(gzip.decompress(sparse()).replace(b"1\n0\n512\n", b"x\ny\nzzz\n"))


def bad_lzma():
    """A zip with a broken LZMA stream."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.png", png(20, 20, 3))
    data = bytearray(out.getvalue())
    data[60:90] = bytes(30)
    return bytes(data)


def bad_name():
    """A zip that says that a name is UTF-8, which it is not."""
    data = zipped({"\u00e4.png": png(4, 4, 3)})
    return data.replace("\u00e4".encode(), b"\xff\xfe")


@pytest.mark.parametrize(
    ("file", "make"),
    [("LR.tar.gz", sparse), ("LR.tar.gz", bad_sparse), ("HR.zip", bad_lzma), ("HR.zip", bad_name)],
)
def test_an_archive_that_contradicts_itself_is_one_line(server, get, tmp_path, file, make):
    server.files[file] = make()
    with pytest.raises(FetchError, match=r"is damaged|is no plain file"):
        get(Source("Toy", archives=(Archive(file, "x"),)))
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("text", ["[]", '{"HR.zip": 1}', '{"HR.zip": {"sha256": 1}}', "[" * 100_000])
def test_a_record_of_another_kind_is_one_line(get, tmp_path, text):
    (tmp_path / "Toy").mkdir()
    (tmp_path / "Toy" / "fetched.json").write_text(text)
    with pytest.raises(FetchError, match="damaged; remove it"):
        get()
