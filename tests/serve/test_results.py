"""What a server answers is what `enlca upscale` writes."""

import io
import json
import re
import time

import numpy as np
import pytest
from PIL import Image

import enlca
from enlca.serve.openapi import _FAILURES
from enlca.serve.wanted import FORMATS, PARAMETERS

BOUNDARY = "b0undary"


def multipart(picture: bytes, filename: str = "photo.png") -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="picture"; filename="{filename}"\r\n\r\n'
    return head.encode() + picture + f"\r\n--{BOUNDARY}--\r\n".encode()


@pytest.fixture(scope="module")
def pictures(png) -> dict[str, bytes]:
    """Pictures of several kinds."""
    rng, deep, alpha = np.random.default_rng(1), io.BytesIO(), io.BytesIO()
    Image.fromarray(rng.integers(0, 65536, (6, 9), dtype=np.uint16)).save(deep, "PNG")
    Image.fromarray(rng.integers(0, 256, (6, 9, 4), dtype=np.uint8)).save(alpha, "PNG")
    return {"rgb": png, "deep": deep.getvalue(), "alpha": alpha.getvalue()}


@pytest.mark.parametrize(
    ("kind", "query", "options"),
    [
        ("rgb", "", ["--format", "png"]),
        ("rgb", "scale=2.5&format=jpg&quality=60", ["--scale", "2.5", "--format", "jpg", "--quality", "60"]),
        ("rgb", "width=31&height=19&format=tif", ["--width", "31", "--height", "19", "--format", "tif"]),
        ("rgb", "format=webp&scale=4.0", ["--format", "webp", "--scale", "4"]),
        ("deep", "format=png", ["--format", "png"]),
        ("alpha", "format=tif", ["--format", "tif"]),
    ],
)
def test_the_result_is_byte_for_byte_that_of_the_command(
    served, command, tiny_model, pictures, tmp_path, kind, query, options
):
    source = tmp_path / "photo.png"
    source.write_bytes(pictures[kind])
    (tmp_path / "out").mkdir()
    done = command("upscale", source, "-o", tmp_path / "out", "--model", tiny_model, *options)
    assert done.code == 0
    [written] = (tmp_path / "out").iterdir()
    answer = served.post(pictures[kind], query)
    assert answer.status == 200
    assert answer.headers["content-type"] == FORMATS[written.suffix[1:]]
    assert answer.body == written.read_bytes()


def test_a_multipart_body_gives_the_result_of_a_raw_one_whatever_the_file_is_called(served, png):
    kind = {"content_type": f"multipart/form-data; boundary={BOUNDARY}"}
    raw = served.post(png)
    for filename in ("photo.png", "../../etc/passwd", "/etc/passwd", "x" * 300, "a\\..\\b"):
        assert served.post(multipart(png, filename), **kind).body == raw.body


def test_what_was_done_otherwise_is_said_in_a_header(served, png):
    answer = served.post(png, "width=5")
    assert answer.headers["x-enlca-remark"].startswith("not larger than the picture was")


def test_models_are_listed_with_their_scales(served):
    body = json.loads(served.get("/v1/models").body)
    assert body == {"models": [{"name": "tiny", "scales": [4]}], "default": "tiny"}


def test_the_description_names_the_parameters_that_are_taken_and_the_failures(served):
    document = json.loads(served.get("/openapi.json").body)
    post = document["paths"]["/v1/upscale"]["post"]
    assert tuple(one["name"] for one in post["parameters"]) == PARAMETERS
    assert {int(status) for status in post["responses"]} == {200, *_FAILURES} - {401}
    assert document["info"]["version"] == enlca.__version__
    for path in document["paths"]:
        assert served.get(path).status == (405 if path == "/v1/upscale" else 200)


def test_the_page_loads_nothing_and_runs_nothing(served):
    page = served.get("/docs")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert b"<script" not in page.body
    assert all(name.encode() in page.body for name in PARAMETERS)


def test_metrics_count_what_was_done_in_lines_that_prometheus_reads(start, png):
    served = start()
    size = len(served.post(png).body)
    served.post(b"no picture")
    # A response is counted when its last byte has left, which may be after it has arrived.
    end, text = time.monotonic() + 10, ""
    while (
        sum(map(int, re.findall(r"enlca_responses_total\{.*\} (\d+)", text))) < 2 and time.monotonic() < end
    ):
        text = served.get("/metrics").body.decode()
    line = r"# (HELP|TYPE) \w+ .+|\w+(\{\w+=\"[^\"]+\"\})? [0-9.]+"
    assert all(re.fullmatch(line, one) for one in text.splitlines())
    for expected in (
        'enlca_responses_total{status="200"} 1',
        'enlca_responses_total{status="415"} 1',
        'enlca_upscale_seconds_bucket{le="+Inf"} 1',
        f"enlca_pixels_total {16 * 13 * 7}",
        f"enlca_received_bytes_total {len(png) + 10}",
        f"enlca_sent_bytes_total {size}",
        "enlca_working 0",
    ):
        assert expected in text.splitlines()
