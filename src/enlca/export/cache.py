"""Exported graphs in the user's cache directory: an export takes seconds, its result is always the same.

A file is the SHA-256 of the graph, then the graph: a damaged one is not used. A cache that cannot be read or
written is none, and no error.
"""

import hashlib
import json
import os
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import enlca
from enlca.network.sr import SRNetwork
from enlca.runtime.files import cache_dir, write_atomically

# To be raised whenever the same network gives another graph.
EXPORTER = 2
SUFFIX = ".graph"
LARGEST = 2**30


def folder() -> Path:
    """Return where graphs are kept. Raises OSError: this user has no home directory."""
    return cache_dir() / "engines"


def key_of(network: SRNetwork) -> str:
    """A name for the graph of `network`: its settings, its weights, and who exported it."""
    packages = {"enlca": enlca.__version__, "torch": torch.__version__, "exporter": EXPORTER}
    for name in ("onnx", "onnxscript"):
        with suppress(PackageNotFoundError):
            packages[name] = version(name)
    digest = hashlib.sha256(json.dumps([packages, network.config.to_dict()], sort_keys=True).encode())
    for name, tensor in sorted(network.state_dict().items()):
        values = tensor.detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name} {list(values.shape)} ".encode())
        digest.update(memoryview(values.numpy().reshape(-1)).cast("B"))
    return digest.hexdigest()


def recall(key: str) -> bytes | None:
    """The graph of that name, if it is there and whole."""
    with suppress(OSError):
        path = folder() / f"{key}{SUFFIX}"
        content = path.read_bytes()
        graph = content[32:]
        if hashlib.sha256(graph).digest() == content[:32]:
            with suppress(OSError):
                # The time of last use: what is used least goes first.
                os.utime(path)
            return graph
    return None


def remember(key: str, graph: bytes) -> None:
    """Keep a graph, as far as the cache can be written; the oldest go when it gets large."""
    with suppress(OSError):
        place = folder()
        place.mkdir(parents=True, exist_ok=True)
        write_atomically(place / f"{key}{SUFFIX}", hashlib.sha256(graph).digest() + graph)
        kept = 0
        for path in sorted(place.glob(f"*{SUFFIX}"), key=lambda path: path.stat().st_mtime, reverse=True):
            kept += path.stat().st_size
            if kept > LARGEST:
                path.unlink(missing_ok=True)
