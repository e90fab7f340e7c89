"""A network as an ONNX graph: one file, batch 1, any height and width, what it is written inside.

Nodes of the attention are named `attention/...`: an engine of lower precision has to leave them in
float32, and finds them so.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

import enlca
from enlca.checkpoint.store import KEY, Card
from enlca.errors import ExportError
from enlca.export.extras import need
from enlca.export.traceable import PictureBlock, traceable
from enlca.network.sr import SRNetwork

INPUT, OUTPUT = "lr", "sr"
ATTENTION = "attention/"
VERSION_KEY = "enlca_version"
# Of 2022: every runtime that is still in use reads it.
OPSET = 18
# The height and width of the example do not matter, but 1 would be taken for a constant.
EXAMPLE = (23, 29)


def onnx_graph(network: SRNetwork, card: Card | None = None) -> bytes:
    """The content of an `.onnx` file: input `lr` 1 3 H W in [0, 1], output `sr` 1 3 SH SW, float32.

    Args:
        network: any network but NLSN.
        card: what is known about it; goes into the file's metadata (`enlca`, `enlca_version`).

    Raises:
        ExportError: for NLSN, or where this version of PyTorch fails.
        MissingExtra: onnx or onnxscript are not installed.
    """
    copied = traceable(network)
    need("onnx")
    need("onnxscript")
    sizes = {2: torch.export.Dim("height", min=1), 3: torch.export.Dim("width", min=1)}
    try:
        with _quiet():
            program = torch.onnx.export(
                copied,
                (torch.zeros(1, 3, *EXAMPLE),),
                dynamo=True,
                dynamic_shapes=(sizes,),
                input_names=[INPUT],
                output_names=[OUTPUT],
                opset_version=OPSET,
                verbose=False,
            )
    except Exception as error:
        # Whatever went wrong inside, the user can only take another version.
        reason = f"{type(_origin(error)).__name__}: {_origin(error)}".splitlines()[0]
        raise ExportError(f"PyTorch {torch.__version__} cannot export this network ({reason})") from error
    assert program is not None
    model = program.model_proto
    blocks = [name for name, module in copied.named_modules() if isinstance(module, PictureBlock)]
    _clean(model.graph, tuple(blocks))
    for name, text in metadata(network, card).items():
        model.metadata_props.add(key=name, value=text)
    return model.SerializeToString()


def metadata(network: SRNetwork, card: Card | None) -> dict[str, str]:
    """What a file says of itself: the card of a checkpoint, with the SRConfig in it; the version."""
    return {KEY: (card or Card(network=network.config)).to_json(), VERSION_KEY: enlca.__version__}


def _clean(graph: Any, blocks: tuple[str, ...], *, inside: bool = False) -> None:
    """Name the attention's nodes, and drop what PyTorch notes of its own source files and their places."""
    for node in graph.node:
        scopes = next((p.value for p in node.metadata_props if p.key == "pkg.torch.onnx.name_scopes"), "")
        # The embedding convolutions belong to the network; what is made of them is attention.
        attends = inside or (any(f"'{block}'" in scopes for block in blocks) and node.op_type != "Conv")
        if attends:
            node.name = ATTENTION + node.name
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _clean(attribute.g, blocks, inside=attends)
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.ClearField("metadata_props")
        value.ClearField("doc_string")
    graph.ClearField("metadata_props")
    graph.ClearField("doc_string")


def _origin(error: BaseException) -> BaseException:
    """What went wrong first; PyTorch's own message is a page of advice."""
    return _origin(error.__cause__) if error.__cause__ else error


@contextmanager
def _quiet() -> Iterator[None]:
    """No remarks about PyTorch's own plans and about torchvision, which nobody here needs."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
