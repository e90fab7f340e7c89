"""A hub on 127.0.0.1: as much of the Hugging Face hub's HTTP as its client uses for small repositories."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Files = dict[str, bytes]


@dataclass
class Hub:
    """Repositories by `org/name`, each with its revisions; `address` is what HF_ENDPOINT says."""

    repositories: dict[str, dict[str, Files]] = field(default_factory=dict)
    address: str = ""
    seen: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)


def commit_of(files: Files) -> str:
    """The commit of some files: 40 hexadecimal digits."""
    return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve `hub` until the end of the block, or until it is asked to stop by POST /stop."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format, *args):
            hub.seen.append(f"{self.command} {self.path}")

        def answer(self, body: bytes, *, status: int = 200, **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def answer_json(self, body: object) -> None:
            self.answer(json.dumps(body).encode(), Content_Type="application/json")

        def refuse(self, code: str, status: int = 404) -> None:
            self.answer(b"", status=status, X_Error_Code=code)

        def files(self, name: str, revision: str) -> Files | None:
            if name == "org/gated":
                self.refuse("GatedRepo", 403)
            elif name not in hub.repositories:
                self.refuse("RepoNotFound")
            elif files := hub.repositories[name].get(revision):
                return files
            else:
                self.refuse("RevisionNotFound")
            return None

        def do_GET(self):
            info = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/?]+))?(?:\?.*)?", self.path)
            if info and (files := self.files(info[1], info[2] or "main")):
                siblings = [{"rfilename": name} for name in files]
                self.answer_json({"id": info[1], "sha": commit_of(files), "siblings": siblings})
            elif not info:
                self.do_HEAD()

        def do_HEAD(self):
            file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/([^/?]+)", self.path)
            if file is None:
                self.refuse("BadRequest", 400)
            elif (files := self.files(file[1], file[2])) is None:
                return
            elif file[3] not in files:
                self.refuse("EntryNotFound")
            else:
                body = files[file[3]]
                tag = f'"{hashlib.sha256(body).hexdigest()}"'
                self.answer(body, ETag=tag, X_Repo_Commit=commit_of(files))

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            if self.path == "/stop":
                hub.stop.set()
                self.answer(b"")
            elif "hf_loopback" not in self.headers.get("Authorization", ""):
                self.refuse("Unauthorized", 401)
            elif self.path == "/api/repos/create":
                asked = json.loads(body)
                name = f"{asked['organization']}/{asked['name']}"
                hub.repositories.setdefault(name, {})
                self.answer_json({"url": f"{hub.address}/{name}"})
            elif self.path == "/api/validate-yaml":
                self.answer_json({"errors": [], "warnings": []})
            elif "/preupload/" in self.path:
                names = [file["path"] for file in json.loads(body)["files"]]
                modes = [{"path": one, "uploadMode": "regular", "shouldIgnore": False} for one in names]
                self.answer_json({"files": modes})
            elif commit := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/([^/?]+)(?:\?.*)?", self.path):
                lines = [json.loads(line) for line in body.splitlines()]
                added = {line["value"]["path"]: line["value"] for line in lines if line["key"] == "file"}
                files = {name: base64.b64decode(one["content"]) for name, one in added.items()}
                hub.repositories[commit[1]][commit[2]] = files
                oid = commit_of(files)
                address = f"{hub.address}/{commit[1]}/commit/{oid}"
                self.answer_json({"commitOid": oid, "commitUrl": address, "pullRequestUrl": None})
            else:
                self.refuse("BadRequest", 400)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    closer = threading.Thread(target=lambda: (hub.stop.wait(), server.shutdown(), server.server_close()))
    thread.start()
    closer.start()
    try:
        yield hub
    finally:
        hub.stop.set()
        closer.join()
        thread.join()
