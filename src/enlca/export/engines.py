"""Engines: a network's forward pass by ONNX Runtime or OpenVINO, on the processor.

An engine is called like the network and gives the same picture, to rounding. It is for pictures that fit
as a whole, or for tiles with an attention of their own; exact streaming needs the network's stages.
"""

import threading
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from enlca.errors import EngineError
from enlca.export.cache import key_of, recall, remember
from enlca.export.extras import need
from enlca.export.graph import ATTENTION, INPUT, OUTPUT, onnx_graph
from enlca.export.ir import IR, lower_convolutions, openvino_ir
from enlca.network.sr import SRNetwork

Pixels = Float32[np.ndarray, "1 3 H W"]
Large = Float32[np.ndarray, "1 3 SH SW"]
PRECISIONS = ("fp32", "bf16")
# OpenVINO's own choice is bfloat16 for everything; "accuracy" means the types that the model says.
TYPES = {"fp32": {"INFERENCE_PRECISION_HINT": "f32"}, "bf16": {"EXECUTION_MODE_HINT": "ACCURACY"}}
# OpenVINO keeps the most memory that any picture took, which is quicker for the next one; but not gigabytes.
KEPT = 3 * 512 * 512


class Engine(ABC):
    """A network's forward pass by another runtime.

    Attributes:
        name: "onnx" or "openvino".
        threads: how many the runtime uses.
        precision: "fp32" or "bf16", of convolutions; all else is always in float32.
    """

    name: str

    def __init__(self, *, threads: int, precision: str):
        self.threads = threads
        self.precision = precision

    def __call__(self, lr: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 SH SW"]:
        """The enlarged pictures, of lr's type and on its device; computed one after the other."""
        with torch.no_grad():
            pixels = lr.detach().to("cpu", torch.float32).contiguous().numpy()
            large = [torch.from_numpy(self._run(pixels[i : i + 1])) for i in range(len(pixels))]
            return (large[0] if len(large) == 1 else torch.cat(large)).to(lr)

    @abstractmethod
    def _run(self, pixels: Pixels) -> Large: ...


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
        super().__init__(threads=threads or torch.get_num_threads(), precision="fp32")
        onnxruntime = need("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Its threads spin between two layers, which is fast, but not between two pictures.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        # Else the most that any picture took stays taken.
        self._options = onnxruntime.RunOptions()
        self._options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def _run(self, pixels: Pixels) -> Large:
        return self._session.run([OUTPUT], {INPUT: pixels}, self._options)[0]


class OpenVinoEngine(Engine):
    """OpenVINO on the processor.

    Args:
        ir: the model.
        threads: how many to use; None follows PyTorch.
        precision: "bf16" where the processor has instructions for it; of convolutions alone.

    Raises:
        MissingExtra: OpenVINO is not installed.
        EngineError: bf16 on a processor without it, or by an OpenVINO that would not except attention.
    """

    name = "openvino"

    def __init__(self, ir: IR, *, threads: int | None = None, precision: str = "fp32"):
        super().__init__(threads=threads or torch.get_num_threads(), precision=precision)
        openvino = need("openvino")
        core = openvino.Core()
        if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise EngineError("this processor has no bfloat16 instructions: use precision fp32")
        weights = openvino.Tensor(np.frombuffer(ir.weights, dtype=np.uint8))
        settings = {
            "INFERENCE_NUM_THREADS": self.threads,
            **TYPES[precision],
            "PERFORMANCE_HINT": "LATENCY",
            # Two commands side by side would sit on the same cores.
            "ENABLE_CPU_PINNING": False,
        }
        model = core.read_model(ir.xml, weights)
        if precision == "bf16":
            lower_convolutions(model)
        self._compiled = core.compile_model(model, "CPU", settings)
        if lowered := attention_precisions(self._compiled) - {"f32", "i32", "i64", "boolean"}:
            found = ", ".join(sorted(lowered))
            raise EngineError(f"this OpenVINO computes the attention in {found}: use precision fp32")
        self._request = self._compiled.create_infer_request()
        # A request serves one caller at a time.
        self._turn = threading.Lock()

    def _run(self, pixels: Pixels) -> Large:
        with self._turn:
            large = self._request.infer({INPUT: pixels}, share_inputs=True)[OUTPUT]
            if pixels.size > KEPT:
                self._compiled.release_memory()
            return large


def attention_precisions(compiled: Any) -> set[str]:
    """The types that OpenVINO computes the attention in, as it says itself."""
    found = set()
    for layer in compiled.get_runtime_model().get_ordered_ops():
        notes = layer.get_rt_info()
        origins = notes["originalLayersNames"].astype(str) if "originalLayersNames" in notes else ""
        kind = notes["layerType"].astype(str) if "layerType" in notes else ""
        names = origins.split(",")
        if kind not in ("Const", "Input", "Reorder", "Convert") and names[0].startswith(ATTENTION):
            found.add(notes["runtimePrecision"].astype(str))
    return found


def load_engine(
    kind: str, network: SRNetwork, *, threads: int | None = None, precision: str = "fp32"
) -> Engine:
    """`network` by another runtime. Exported once: the graph is kept in the user's cache directory.

    Args:
        kind: "onnx" or "openvino".
        network: any network but NLSN.
        threads: how many to use; None follows `torch.get_num_threads()`.
        precision: "fp32", or "bf16" (OpenVINO, on a processor that has it).

    Raises:
        MissingExtra: the packages are not installed.
        ExportError: for NLSN.
        EngineError: this machine cannot run it as asked.
        ValueError: for an unknown kind or precision.
    """
    if kind not in ENGINES:
        raise ValueError(f"unknown engine {kind!r}; choose from {', '.join(ENGINES)}")
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}; choose from {', '.join(PRECISIONS)}")
    if kind == "onnx" and precision == "bf16":
        raise EngineError("ONNX Runtime has no bfloat16 on processors: use precision fp32 or engine openvino")
    key = key_of(network)
    graph = recall(key)
    if graph is None:
        graph = onnx_graph(network)
        remember(key, graph)
    if kind == "onnx":
        return OnnxEngine(graph, threads=threads)
    return OpenVinoEngine(openvino_ir(graph, {}), threads=threads, precision=precision)


ENGINES = ("onnx", "openvino")
