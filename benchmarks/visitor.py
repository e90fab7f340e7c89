"""Visitors of the page of `enlca explore` without a browser, and the server, in a process of its own."""

import json
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx  # pyright: ignore[reportMissingImports]


class Server(NamedTuple):
    """A running `enlca explore`."""

    url: str
    pid: int

    @property
    def resident_mib(self) -> float:
        """What it holds in memory now; Linux only."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise RuntimeError("the server has gone: nothing to report")


@contextmanager
def server(*options: str) -> Iterator[Server]:
    """The command on a free port, until the end of the context. Raises RuntimeError: it does not start."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "enlca", "explore", "--port", str(port), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line.startswith("http"):
            raise RuntimeError(f"the server did not start: nothing to report ({line.strip()})")
        yield Server(line.split()[0], process.pid)
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


class Visitor:
    """One open page: what a browser sends, and what it gets."""

    def __init__(self, url: str):
        self.http = httpx.Client(base_url=url, timeout=120)
        self.session = secrets.token_hex(8)
        config = self.http.get("config").raise_for_status().json()
        self.actions = {action["api_name"]: action["id"] for action in config["dependencies"]}

    def open(self, path: Path) -> list[Any]:
        """Drop a picture."""
        uploaded = self.http.post("gradio_api/upload", files={"files": (path.name, path.read_bytes())})
        [place] = uploaded.raise_for_status().json()
        file = {"path": place, "orig_name": path.name, "meta": {"_type": "gradio.FileData"}}
        return self.call("open", [file, 8])

    def click(self, row: int, column: int, choice: Sequence[Any]) -> str:
        """The quick maps of a pixel; `choice` is what `Page.choice` holds."""
        return self.call("point", choice, event={"row": row, "column": column})[0]

    def complete(self, choice: Sequence[Any]) -> str:
        """All maps of that pixel."""
        return self.call("all_maps", choice)[0]

    def call(self, action: str, data: Sequence[Any], *, event: Any = None) -> list[Any]:
        """Wait in the queue, and for the answer. Raises RuntimeError: the page would show an error."""
        body = {
            "data": list(data),
            "event_data": event,
            "fn_index": self.actions[action],
            "session_hash": self.session,
        }
        asked = self.http.post("gradio_api/queue/join", json=body)
        if asked.is_error:
            raise RuntimeError(f"{action} failed: {asked.status_code} {asked.text}")
        joined = asked.json()["event_id"]
        with self.http.stream("GET", "gradio_api/queue/data", params={"session_hash": self.session}) as lines:
            for line in lines.iter_lines():
                said = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
                if said.get("event_id") == joined and said["msg"] == "process_completed":
                    if not said["success"]:
                        raise RuntimeError(f"{action} failed: {said['output']}")
                    return said["output"]["data"]
        raise RuntimeError(f"{action}: no answer")
