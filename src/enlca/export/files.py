"""`enlca export`: a checked file that appears whole under its name, or not at all."""

import os
from collections.abc import Callable
from pathlib import Path

from enlca.checkpoint.store import Card
from enlca.errors import NotWritten
from enlca.export.engines import Engine, OnnxEngine, OpenVinoEngine
from enlca.export.graph import metadata, onnx_graph
from enlca.export.ir import IR, openvino_ir
from enlca.export.parity import check_parity
from enlca.network.sr import SRNetwork
from enlca.runtime.files import partial_folder


def export_file(network: SRNetwork, card: Card, path: Path) -> float:
    """Write `path` (.onnx, or .xml with a .bin beside it) after comparing what it computes with `network`.

    Returns:
        The largest difference that was found.

    Raises:
        ExportError: for NLSN.
        MissingExtra: a package is not installed.
        ParityError: the file computes something else; nothing is written.
        NotWritten: no space, no permission.
    """
    write = WRITERS[path.suffix.lower()]
    try:
        with partial_folder(path.parent) as folder:
            files, engine = write(network, card, folder / path.name)
            difference = check_parity(engine, network)
            # An old .xml must not be seen with a new .bin, so it goes first; the new .xml comes last.
            if len(files) > 1:
                path.unlink(missing_ok=True)
            for file in files:
                os.replace(file, path.with_name(file.name))
    except OSError as error:
        raise NotWritten(f"{path}: cannot be written: {error.strerror or error}") from error
    return difference


def _write_onnx(network: SRNetwork, card: Card, path: Path) -> tuple[list[Path], Engine]:
    path.write_bytes(onnx_graph(network, card))
    return [path], OnnxEngine(path.read_bytes())


def _write_openvino(network: SRNetwork, card: Card, path: Path) -> tuple[list[Path], Engine]:
    weights = path.with_suffix(".bin")
    ir = openvino_ir(onnx_graph(network, card), metadata(network, card))
    path.write_bytes(ir.xml)
    weights.write_bytes(ir.weights)
    return [weights, path], OpenVinoEngine(IR(path.read_bytes(), weights.read_bytes()))


WRITERS: dict[str, Callable[[SRNetwork, Card, Path], tuple[list[Path], Engine]]] = {
    ".onnx": _write_onnx,
    ".xml": _write_openvino,
}
