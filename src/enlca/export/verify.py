"""`enlca export`: write a file after checking that it computes what the network computes."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from enlca.checkpoint.file import Card
from enlca.errors import NotWritten, ParityError
from enlca.export.engines import Engine, OnnxEngine, OpenVinoEngine
from enlca.export.graphs import IR, import_extra, metadata, onnx_graph, openvino_ir
from enlca.network.sr import SRNetwork
from enlca.runtime.files import partial_folder

# Batch, height, width: primes, so that no size is a multiple of the block of positions; one pixel; more than
# one block.
SIZES = ((1, 7, 11), (1, 1, 1), (2, 23, 17), (1, 1, 13), (3, 5, 7), (1, 41, 37))
TOLERANCE = 1e-4


def export_file(network: SRNetwork, card: Card, path: Path) -> float:
    """Write `path` (.onnx, or .xml with a .bin beside it) whole, after comparing its output with `network`'s.

    Returns:
        The largest difference; see `check_parity`.

    Raises:
        ExportError: for NLSN.
        MissingExtra: a package is not installed.
        ParityError: the file computes something else; nothing is written.
        NotWritten: no space, no permission.
    """
    packages, write = WRITERS[path.suffix.lower()]
    # First, as an export takes seconds.
    for package in packages:
        import_extra(package)
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


@torch.no_grad()
def check_parity(
    engine: Callable[[Float[Tensor, "B 3 H W"]], Float[Tensor, "B 3 SH SW"]],
    network: SRNetwork,
    *,
    sizes: Iterable[tuple[int, int, int]] = SIZES,
    tolerance: float = TOLERANCE,
) -> float:
    """Return the largest difference between the outputs of `engine` and `network` on images of noise.

    It is relative to the largest output value where that is above 1, as it is in untrained networks.

    Raises:
        ParityError: the difference exceeds `tolerance` or is NaN, or the sizes differ.
    """
    generator = torch.Generator().manual_seed(1)
    worst = 0.0
    for batch, height, width in sizes:
        lr = torch.rand(batch, 3, height, width, generator=generator)
        expected = network(lr.to(network.mean)).cpu()
        found = engine(lr)
        pictures = f"pictures of {batch} x 3 x {height} x {width}"
        if found.shape != expected.shape:
            made, right = (" x ".join(map(str, one.shape)) for one in (found, expected))
            raise ParityError(
                f"the exported network makes {made} of {pictures}, PyTorch {right}; nothing was written"
            )
        difference = float((found - expected).abs().max() / expected.abs().max().clamp(min=1))
        # Written so that NaN fails, too.
        if not difference <= tolerance:
            raise ParityError(
                f"the exported network differs from PyTorch by {difference:.1e} for {pictures} "
                f"(allowed: {tolerance:.0e}); nothing was written"
            )
        worst = max(worst, difference)
    return worst


def _write_onnx(network: SRNetwork, card: Card, path: Path) -> tuple[list[Path], Engine]:
    path.write_bytes(onnx_graph(network, card))
    return [path], OnnxEngine(path.read_bytes())


def _write_openvino(network: SRNetwork, card: Card, path: Path) -> tuple[list[Path], Engine]:
    weights = path.with_suffix(".bin")
    ir = openvino_ir(onnx_graph(network, card), metadata(network, card))
    path.write_bytes(ir.xml)
    weights.write_bytes(ir.weights)
    return [weights, path], OpenVinoEngine(IR(path.read_bytes(), weights.read_bytes()))


# For each suffix the packages needed, and what writes the files and loads them.
WRITERS: dict[str, tuple[tuple[str, ...], Callable[[SRNetwork, Card, Path], tuple[list[Path], Engine]]]] = {
    ".onnx": (("onnxruntime", "onnx", "onnxscript"), _write_onnx),
    ".xml": (("openvino", "onnx", "onnxscript"), _write_openvino),
}
