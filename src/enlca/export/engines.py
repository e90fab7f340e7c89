"""Engines: a network's forward pass by ONNX Runtime or OpenVINO on the CPU, in float32.

An engine is called like the network and returns the same image, to rounding. It computes whole images, or
tiles with an attention of their own; exact streaming needs the network's stages.

Exporting a graph takes seconds and gives the same result each time, so graphs are kept in the user's cache
directory. A cached file is the SHA-256 of the graph, then the graph; a damaged file is not used. A cache that
cannot be read or written is skipped without an error.

Letters:  B batch   H, W height and width of the LR image   S scale
"""

import hashlib
import json
import os
import threading
from abc import ABC, abstractmethod
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

import enlca
from enlca.errors import EngineError, EnlcaError
from enlca.export.graphs import ATTENTION, INPUT, IR, OUTPUT, import_extra, onnx_graph, openvino_ir
from enlca.network.sr import SRNetwork
from enlca.runtime.files import cache_dir, write_atomically

LR = Float32[np.ndarray, "B 3 H W"]
SR = Float32[np.ndarray, "B 3 SH SW"]
# Input values above which OpenVINO's workspace is released after a picture: kept, it makes the next picture
# faster, but it takes gigabytes after a large one.
LARGEST_KEPT = 3 * 512 * 512

# Part of the cache key: to be raised when the same network gives another graph.
EXPORTER = 3
SUFFIX = ".graph"
LARGEST_CACHE = 2**30


class Engine(ABC):
    """A network's forward pass by another runtime, in float32.

    Attributes:
        name: "onnx" or "openvino".
        threads: how many the runtime uses.
    """

    name: str

    def __init__(self, *, threads: int | None):
        self.threads = threads or torch.get_num_threads()

    def __call__(self, lr: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 SH SW"]:
        """Upscale images; the result has the type and device of `lr`."""
        with torch.no_grad():
            pixels = lr.detach().to("cpu", torch.float32).contiguous().numpy()
            return torch.from_numpy(self._run(pixels)).to(lr)

    @abstractmethod
    def _run(self, lr: LR) -> SR: ...


class OnnxEngine(Engine):
    """ONNX Runtime.

    Args:
        graph: the content of an `.onnx` file.
        threads: how many to use; None follows PyTorch.

    Raises:
        MissingExtra: onnxruntime is not installed.
    """

    name = "onnx"

    def __init__(self, graph: bytes, *, threads: int | None = None):
        super().__init__(threads=threads)
        onnxruntime = import_extra("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Its threads spin between two layers, which is fast, but must not between two pictures.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        # Without it the arena stays as large as the largest picture needed.
        self._options = onnxruntime.RunOptions()
        self._options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def _run(self, lr: LR) -> SR:
        return self._session.run([OUTPUT], {INPUT: lr}, self._options)[0]


class OpenVinoEngine(Engine):
    """OpenVINO.

    Args:
        ir: the model.
        threads: how many to use; None follows PyTorch.

    Raises:
        MissingExtra: OpenVINO is not installed.
        EngineError: this version of OpenVINO would compute the attention in lower precision.
    """

    name = "openvino"

    def __init__(self, ir: IR, *, threads: int | None = None):
        super().__init__(threads=threads)
        openvino = import_extra("openvino")
        core = openvino.Core()
        weights = openvino.Tensor(np.frombuffer(ir.weights, dtype=np.uint8))
        settings = {
            "INFERENCE_NUM_THREADS": self.threads,
            # OpenVINO's own choice is bfloat16 for everything where the processor has instructions for it.
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            # With pinning two commands side by side would share the same cores.
            "ENABLE_CPU_PINNING": False,
        }
        self._compiled = core.compile_model(core.read_model(ir.xml, weights), "CPU", settings)
        if lowered := attention_precisions(self._compiled) - {"f32", "i32", "i64", "boolean"}:
            found = ", ".join(sorted(lowered))
            raise EngineError(f"this OpenVINO computes the attention in {found}: use engine torch or onnx")
        self._request = self._compiled.create_infer_request()
        # A request serves one caller at a time.
        self._lock = threading.Lock()

    def _run(self, lr: LR) -> SR:
        with self._lock:
            sr = self._request.infer({INPUT: lr}, share_inputs=True)[OUTPUT]
            if lr.size > LARGEST_KEPT:
                self._compiled.release_memory()
            return sr


def attention_precisions(compiled: Any) -> set[str]:
    """Return the number types in which a compiled OpenVINO model computes the attention."""
    found = set()
    for layer in compiled.get_runtime_model().get_ordered_ops():
        info = layer.get_rt_info()
        origins = info["originalLayersNames"].astype(str) if "originalLayersNames" in info else ""
        kind = info["layerType"].astype(str) if "layerType" in info else ""
        names = origins.split(",")
        if kind not in ("Const", "Input", "Reorder", "Convert") and names[0].startswith(ATTENTION):
            found.add(info["runtimePrecision"].astype(str))
    return found


def load_engine(kind: str, network: SRNetwork, *, threads: int | None = None) -> Engine:
    """Return `network` by another runtime; its graph is exported once and kept in the user's cache directory.

    Args:
        kind: "onnx" or "openvino".
        network: any network but NLSN.
        threads: how many to use; None follows `torch.get_num_threads()`.

    Raises:
        MissingExtra: the packages are not installed.
        ExportError: for NLSN.
        EngineError: this version of the runtime cannot run it.
        ValueError: for an unknown kind.
    """
    if kind not in ENGINES:
        raise ValueError(f"unknown engine {kind!r}; choose from {', '.join(ENGINES)}")
    key = cache_key(network)
    if (graph := read_cached(key)) is not None:
        try:
            return _engine(kind, graph, threads)
        except EnlcaError:
            raise
        except Exception:
            # Its checksum says that it was written so, not that it is a graph. Runtimes have errors of their
            # own for what they cannot parse.
            pass
    graph = onnx_graph(network)
    write_cached(key, graph)
    return _engine(kind, graph, threads)


def _engine(kind: str, graph: bytes, threads: int | None) -> Engine:
    if kind == "onnx":
        return OnnxEngine(graph, threads=threads)
    return OpenVinoEngine(openvino_ir(graph, {}), threads=threads)


ENGINES = ("onnx", "openvino")


def cache_folder() -> Path:
    """Return the folder of cached graphs, which need not exist. Raises OSError: no home directory."""
    return cache_dir() / "engines"


def cache_key(network: SRNetwork) -> str:
    """Return the name of a network's graph: a hash of settings, weights and versions of the exporter."""
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


def read_cached(key: str) -> bytes | None:
    """Return a graph from the cache; None if it is not there or damaged."""
    with suppress(OSError):
        path = cache_folder() / f"{key}{SUFFIX}"
        content = path.read_bytes()
        graph = content[32:]
        if hashlib.sha256(graph).digest() == content[:32]:
            with suppress(OSError):
                # The time of last use: the least recently used graph is removed first.
                os.utime(path)
            return graph
    return None


def write_cached(key: str, graph: bytes) -> None:
    """Keep a graph if the cache can be written; remove the least recently used beyond LARGEST_CACHE bytes."""
    with suppress(OSError):
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / f"{key}{SUFFIX}", hashlib.sha256(graph).digest() + graph)
        total = 0
        for path in sorted(folder.glob(f"*{SUFFIX}"), key=lambda path: path.stat().st_mtime, reverse=True):
            total += path.stat().st_size
            if total > LARGEST_CACHE:
                path.unlink(missing_ok=True)
