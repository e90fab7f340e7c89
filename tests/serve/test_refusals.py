"""What a server refuses: one line and a status each, and nothing of it has an effect."""

import errno
import io
import os
import struct
import zlib
from pathlib import Path
from tempfile import TemporaryFile

import pytest
from PIL import Image

from enlca.serve.limits import Limits

SMALL = Limits(max_pixels=100, max_body=4096)
FORM = {"content_type": "multipart/form-data; boundary=b"}
PART = b'--b\r\nContent-Disposition: form-data; name="p"; filename="p"\r\n\r\nx\r\n'


def header_only(width: int, height: int) -> bytes:
    """A PNG whose pixels are missing."""
    chunks = b"\x89PNG\r\n\x1a\n"
    for chunk in (b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDATx"):
        chunks += struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return chunks


@pytest.fixture(scope="module")
def small(running_server):
    with running_server(limits=SMALL) as one:
        yield one


@pytest.mark.parametrize(
    ("query", "line"),
    [
        ("scale=0", "scale must be above 0 and at most 4, like 3.5; got '0'"),
        ("scale=nan", "scale must be"),
        ("scale=4.1", "scale must be"),
        ("scale=1e1", "scale must be"),
        ("scale=2&width=9", "scale and width or height contradict each other"),
        ("width=0", "width must be a whole number from 1 to"),
        ("height=" + "9" * 5000, "height must be a whole number"),
        ("width=%D9%A3", "width must be a whole number"),
        ("quality=101", "quality must be a whole number from 1 to 100; got '101'"),
        ("format=exe", "cannot write 'exe'; choose from png"),
        ("speed=9", "unknown parameter 'speed'; known: model, scale"),
        ("scale=2&scale=3", "scale is given twice"),
        ("model=other", "unknown model 'other'; served: tiny"),
    ],
)
def test_a_wrong_parameter_is_422(small, png, query, line):
    answer = small.post(png, query)
    assert answer.status == 422
    assert answer.error.startswith(line)
    assert "\n" not in answer.error
    assert len(answer.error) < 200


TRICKS = ["../../../etc/passwd", "/etc/passwd", "..%2f..%2fetc%2fpasswd", "file:///etc/passwd", "png%00.exe"]
TRICKS += ["http://127.0.0.1:1/", "os:system", "hf-hub:a/b", "local-dir:/etc", "%7Bfolder%7D/x", "a.png/../b"]


@pytest.mark.parametrize("name", ["model", "format", "scale", "width", "quality", "../x"])
def test_paths_in_parameters_have_no_effect(small, png, tiny_model, name, scratch):
    for trick in (*TRICKS, str(tiny_model)):
        answer = small.post(png, f"{name}={trick}")
        assert answer.status == 422
        assert "root:" not in answer.body.decode()
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    "path",
    ["/../etc/passwd", "//etc/passwd", "/docs/..%2f..%2fetc/passwd", "/v1/models/../../etc", "/x"],
)
def test_paths_that_are_no_route_are_404(small, path):
    assert small.get(path).status == 404


@pytest.mark.parametrize(
    ("body", "status", "line"),
    [
        (b"", 415, "the file is empty (0 bytes)"),
        (b"hello", 415, "not a picture in a format that is read here"),
        (header_only(9, 9), 422, "damaged or cut short"),
        (header_only(11, 10), 413, "the header says 11x10, more than 100 pixels"),
        (header_only(60000, 60000), 413, "the header says 60000x60000"),
        (b"x" * 5000, 413, "the request's body has more than 4096 bytes"),
    ],
)
def test_a_body_that_is_no_picture_of_a_size_that_is_allowed(small, body, status, line, scratch):
    answer = small.post(body)
    assert answer.status == status
    assert answer.error.startswith(line)
    assert str(scratch) not in answer.error
    assert list(scratch.iterdir()) == []


def test_a_result_that_is_too_large_is_refused_before_it_is_computed(small, png):
    answer = small.post(png, "width=100000")
    assert answer.status == 413
    assert answer.error.startswith("the result would have 100000x")


def test_transparency_that_a_format_cannot_hold_is_422(small):
    buffer = io.BytesIO()
    Image.new("RGBA", (5, 4), (9, 9, 9, 9)).save(buffer, "PNG")
    answer = small.post(buffer.getvalue(), "format=jpg")
    assert (answer.status, answer.error) == (
        422,
        "JPEG cannot hold transparency; write .png or .webp",
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("buffering", [0, -1])
def test_a_full_disk_is_507_for_the_body_and_for_the_result(
    start, png, which, buffering, monkeypatch, caplog, eventually
):
    files = []

    def temporary():
        # The server closes them.
        full = open("/dev/full", "r+b", buffering=buffering)  # noqa: SIM115
        files.append(full if len(files) == which else TemporaryFile())  # noqa: SIM115
        return files[-1]

    served = start()
    monkeypatch.setattr("enlca.serve.app.TemporaryFile", temporary)
    answer = served.post(png)
    assert answer.status == 507
    full = ("the server's disk is full", f"cannot be written: {os.strerror(errno.ENOSPC)}")
    assert answer.error == full[which]
    assert eventually(lambda: served.service.admission.inside == 0)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"x", {"content_encoding": "gzip"}, 415),
        (b"x", {"sec_fetch_site": "cross-site"}, 403),
        (b"x", {"content_type": "multipart/form-data"}, 400),
        (b"x", FORM, 400),
        (PART + PART + b"--b--\r\n", FORM, 400),
        (b"--b--\r\n", FORM, 400),
        (b'--b\r\nContent-Disposition: form-data; name="scale"\r\n\r\n4\r\n--b--\r\n', FORM, 400),
        (b"--b\r\nContent-Disposition: form-data; name=" + b"x" * 5000, FORM, 413),
        (b"--b\r\nContent-Disposition: form-data; x" * 90, FORM, 400),
        (PART + b"--b--\r\n", FORM, 415),
    ],
)
def test_a_malformed_request_is_refused_in_one_line(small, body, headers, status):
    answer = small.post(body, **headers)
    assert answer.status == status
    assert answer.error.isprintable()


def test_refused_requests_are_no_longer_counted(small):
    assert small.service.admission.inside == 0


def test_a_token_guards_all_that_computes_or_tells(start, png):
    served = start(token="s3cret")
    for wrong in ({}, *({"authorization": word} for word in ("Bearer other", "s3cret", "Bearer s3cret\xe9"))):
        answers = [served.get(path, **wrong) for path in ("/metrics", "/v1/models")]
        answers.append(served.post(png, **wrong))
        assert [answer.status for answer in answers] == [401] * 3
        assert answers[0].headers["www-authenticate"] == "Bearer"
    assert served.post(png, authorization="Bearer s3cret").status == 200
    assert served.get("/healthz").status == 200
