"""`enlca serve`: where it listens, how it ends, and where it cannot run."""

import http.client
import os
import signal
import socket
import subprocess
import sys

import pytest

from enlca.errors import DeviceError
from enlca.serve.server import each, is_loopback


@pytest.mark.parametrize("package", ["starlette", "uvicorn", "python_multipart"])
def test_without_the_extra_it_says_how_to_install_it(package, command, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    done = command("serve")
    assert (done.code, done.out) == (2, "")
    assert done.err == f"enlca: the server needs {package}: pip install 'enlca[serve]'\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_it_says_where_it_listens_and_a_signal_ends_it_cleanly(number, tiny_model, tmp_path, png):
    words = [sys.executable, "-m", "enlca", "serve", "--port", "0", "--model", str(tiny_model)]
    environment = {"TMPDIR": str(tmp_path), "ENLCA_TOKEN": "word"}
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | environment
    )
    line = process.stdout.readline()
    assert line.startswith("http://127.0.0.1:")
    assert "this machine only" in line
    port = int(line.split()[0].rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("POST", "/v1/upscale", png, {"Authorization": "Bearer word"})
    assert connection.getresponse().read().startswith(b"\x89PNG")
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken_is_one_line(command, tiny_model):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = command("serve", "--port", port, "--model", tiny_model)
    assert done.code == 2
    assert done.err.startswith(f"enlca: cannot listen on 127.0.0.1:{port}: it is taken")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--model", "no-such"], "no-such"),
        (["--model", "enlcn-tiny", "--model", "enlcn-tiny"], "two models are called enlcn-tiny"),
        (["--device", "cuda:99"], "device cuda:99 is not available"),
        (["--device", "tpu"], "unknown device 'tpu'"),
        (["--token", "a\nb"], "--token must be printable ASCII"),
        (["--max-body", "much"], "'much' is no size"),
        (["--timeout", "0"], "--timeout"),
        (["--timeout", "inf"], "--timeout must be finite; got inf"),
        (["--timeout", "nan"], "--timeout"),
        (["--queue", "-1"], "--queue"),
    ],
)
def test_settings_that_are_impossible_are_one_line(command, options, line):
    done = command("serve", "--port", "0", *options)
    assert (done.code, done.out) == (2, "")
    assert line in done.err
    assert done.err.count("\n") == 1


def test_all_gpus_are_used_by_default_each_once(monkeypatch):
    assert each(["auto", "cpu"]) == ["cpu"]
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert each(["auto"]) == ["cuda:0", "cuda:1"]
    assert each(["cuda:1", "cuda:1", "cpu"]) == ["cuda:1", "cpu"]
    with pytest.raises(DeviceError, match="has 2 GPUs"):
        each(["cuda:2"])


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_is_told_from_addresses_that_others_reach(host):
    assert is_loopback(host)
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.0.1", "example.org")))
