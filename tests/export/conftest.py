"""Small networks of every kind, each exported once."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from filelock import FileLock

import enlca
from enlca.network.sr import SRConfig, SRNetwork

SMALL = {
    "channels": 7,
    "n_blocks": 1,
    "blocks_per_stage": 1,
    "embed_channels": 5,
    "n_features": 11,
    "attention_scale": 1.0,
}
KINDS = {
    "linear": {"scale": 4, "attention": "linear", "upsampler": "direct", "skip": "bilinear"},
    "released": {"scale": 2, "attention": "linear", "feature_floor": 1e-4, "embed_eps": 5e-5},
    "sharp": {"scale": 2, "attention": "linear", "amplification": 300.0, "embed_kernel": 3},
    "fitted": {"scale": 2, "attention": "linear", "features": "sharp", "skip": "bilinear"},
    "centred": {"scale": 2, "attention": "linear", "features": "centred", "amplification": 24.0},
    "exact": {"scale": 3, "attention": "exact", "skip": "bilinear"},
    "window": {"scale": 2, "attention": "window", "window": 5, "halo": 3, "amplification": 24.0},
    "none": {"scale": 2, "attention": "none"},
}


def _small_network(kind: str) -> SRNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return SRNetwork(SRConfig(**{**SMALL, **KINDS[kind]})).eval()


@pytest.fixture(scope="session")
def small_network() -> Callable[[str], SRNetwork]:
    """Makes a network of a kind, the same each time."""
    return _small_network


@pytest.fixture
def model(tmp_path, small_network) -> Path:
    """A checkpoint of the kind "linear"."""
    path = tmp_path / "model.safetensors"
    enlca.save(small_network("linear"), path)
    return path


class Exported(NamedTuple):
    network: SRNetwork
    graph: bytes


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Tests do not use the user's cache."""
    monkeypatch.setattr("enlca.export.engines.cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def export_once(tmp_path_factory) -> Callable[[str], Exported]:
    """Exports a kind of network, once for all test processes: it takes seconds."""
    for package in ("onnx", "onnxscript", "onnxruntime", "openvino"):
        pytest.importorskip(package, reason=f"no {package}: pip install 'enlca[export]'")
    from enlca.export.graphs import onnx_graph

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent

    def export(kind: str) -> Exported:
        network, path = _small_network(kind), folder / f"{kind}.graph"
        with FileLock(f"{path}.lock"):
            if not path.exists():
                path.write_bytes(onnx_graph(network))
        return Exported(network, path.read_bytes())

    return export


@pytest.fixture(
    scope="session",
    params=[
        "linear",
        "released",
        "fitted",
        "exact",
        "window",
        "none",
        pytest.param("sharp", marks=pytest.mark.slow),
    ],
)
def exported(request, export_once) -> Exported:
    """Each kind, one after the other."""
    return export_once(request.param)


@pytest.fixture(scope="session")
def linear_graph(export_once) -> Exported:
    """One kind alone, for tests that need any."""
    return export_once("linear")
