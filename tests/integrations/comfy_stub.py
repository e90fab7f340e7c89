"""ComfyUI as its nodes see it: the documented contract of `comfy_api.v0_0_2`, and nothing else.

Arguments that the schema's classes do not have are errors, ids are unique, nodes are never instantiated and
may not keep state on their class, progress can be set only while a node runs, and outputs are counted.
"""

import asyncio
import inspect
import sys
import types
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch

EXECUTING: ContextVar[str | None] = ContextVar("EXECUTING", default=None)


class InterruptProcessingException(Exception):
    """The user cancelled."""


@dataclass
class Input:
    """What every input has."""

    id: str
    display_name: str | None = None
    optional: bool = False
    tooltip: str | None = None


@dataclass
class ComboInput(Input):
    """A choice of texts."""

    options: list[str] = field(default_factory=list)
    default: str | None = None


@dataclass
class Output:
    """What every output has."""

    id: str | None = None
    display_name: str | None = None
    tooltip: str | None = None


def comfy_type(name: str, accepts: Callable[[Any], bool], given: type[Input] = Input) -> Any:
    """A type of values that go from node to node."""
    made = {"io_type": name, "accepts": staticmethod(accepts)}
    inside = type("Input", (given,), dict(made))
    outside = type("Output", (Output,), dict(made))
    return type(name.title(), (), {**made, "Input": inside, "Output": outside})


def is_image(value: Any) -> bool:
    """Whether a value is an IMAGE: float32 `B H W C`."""
    return isinstance(value, torch.Tensor) and value.ndim == 4 and value.dtype == torch.float32


@dataclass
class Schema:
    """The description of a node."""

    node_id: str
    display_name: str | None = None
    category: str = "sd"
    inputs: list[Any] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    description: str = ""

    def validate(self) -> None:
        """Raise ValueError unless ids are unique."""
        ids = [one.id for one in self.inputs] + [one.id for one in self.outputs if one.id]
        if len({*ids}) != len(ids):
            raise ValueError(f"ids must be unique, got {ids}")


class NodeOutput:
    """What `execute` returns."""

    def __init__(self, *args: Any, ui: Any = None):
        self.args, self.ui = args, ui


class Frozen(type):
    """Classes that keep no state: ComfyUI works on clones of them."""

    def __setattr__(cls, name: str, value: Any) -> None:
        raise AttributeError(f"{cls.__name__} keeps no state, but {name} was set")


class ComfyNode(metaclass=Frozen):
    """The base of all nodes."""

    def __init__(self) -> None:
        raise TypeError("nodes are not instantiated")

    @classmethod
    def define_schema(cls) -> Schema:
        """Describe the node."""
        raise NotImplementedError

    @classmethod
    def execute(cls, **inputs: Any) -> NodeOutput:
        """Run the node."""
        raise NotImplementedError


class ComfyExtension(ABC):
    """The base of what a package of nodes returns."""

    @abstractmethod
    async def get_node_list(self) -> list[type[ComfyNode]]:
        """Return the nodes."""


class Comfy:
    """A ComfyUI with its folder of models; `modules` is what nodes import."""

    def __init__(self, folder: Any):
        self.folder = folder
        self.progress: list[tuple[float, float]] = []
        self.cancel_after: float | None = None
        comfy = self

        class Execution:
            def set_progress(self, value: float, max_value: float, node_id: str | None = None) -> None:
                if EXECUTING.get() is None and node_id is None:
                    raise ValueError("node_id must be provided if not in executing context")
                comfy.progress.append((value, max_value))

        class ComfyAPISync:
            def __init__(self) -> None:
                self.execution = Execution()

        def throw_exception_if_processing_interrupted() -> None:
            if comfy.cancel_after is not None and len(comfy.progress) >= comfy.cancel_after:
                raise InterruptProcessingException

        io = types.SimpleNamespace(
            ComfyNode=ComfyNode,
            Schema=Schema,
            NodeOutput=NodeOutput,
            Image=comfy_type("IMAGE", is_image),
            Combo=comfy_type("COMBO", lambda value: isinstance(value, str), ComboInput),
            Custom=lambda name: comfy_type(name, lambda value: value is not None),
        )
        contents = {
            "comfy_api": {},
            "comfy_api.v0_0_2": {"ComfyAPISync": ComfyAPISync, "ComfyExtension": ComfyExtension, "io": io},
            "comfy": {},
            "comfy.model_management": {
                "get_torch_device": lambda: torch.device("cpu"),
                "throw_exception_if_processing_interrupted": throw_exception_if_processing_interrupted,
            },
            "folder_paths": {
                "get_filename_list": lambda name: sorted(path.name for path in self.folder.iterdir()),
                "get_full_path_or_raise": lambda name, file: str(self.folder / file),
            },
        }
        self.modules = {}
        for name, contained in contents.items():
            module = types.ModuleType(name)
            module.__path__ = []  # pyright: ignore[reportAttributeAccessIssue]
            vars(module).update(contained)
            self.modules[name] = module
        self.modules["comfy"].model_management = self.modules["comfy.model_management"]  # pyright: ignore

    def nodes(self, module: types.ModuleType) -> dict[str, type[ComfyNode]]:
        """Return the nodes of a module in `custom_nodes` by their ids, as ComfyUI loads them."""
        entry = module.comfy_entrypoint
        extension = asyncio.run(entry()) if inspect.iscoroutinefunction(entry) else entry()
        assert isinstance(extension, ComfyExtension)
        found = asyncio.run(extension.get_node_list())
        for node in found:
            schema = node.define_schema()
            schema.validate()
            parameters = list(inspect.signature(node.execute).parameters)
            assert parameters == [one.id for one in schema.inputs], f"{node.__name__}: {parameters}"
            assert all(
                one.default in (None, *one.options) for one in schema.inputs if hasattr(one, "options")
            )
        return {node.define_schema().node_id: node for node in found}

    def run(self, node: type[ComfyNode], **inputs: Any) -> tuple[Any, ...]:
        """Execute a node as a workflow does: in inference mode; inputs and outputs fit the schema."""
        schema = node.define_schema()
        assert inputs.keys() == {one.id for one in schema.inputs if not one.optional}
        for one in schema.inputs:
            assert one.accepts(inputs[one.id]), f"{one.id} is no {one.io_type}"
            assert inputs[one.id] in one.options if hasattr(one, "options") else True
        self.progress.clear()
        token = EXECUTING.set("7")
        try:
            with torch.inference_mode():
                done = node.execute(**inputs)
        finally:
            EXECUTING.reset(token)
        assert isinstance(done, NodeOutput)
        assert len(done.args) == len(schema.outputs)
        for one, value in zip(schema.outputs, done.args, strict=True):
            assert one.accepts(value), f"an output is no {one.io_type}"
        return done.args


def install(comfy: Comfy, patch: Any) -> None:
    """Let `import comfy_api` and the others find the stub, and our nodes be imported anew."""
    for name, module in comfy.modules.items():
        patch.setitem(sys.modules, name, module)
    patch.delitem(sys.modules, "enlca.integrations.comfyui.nodes", raising=False)
