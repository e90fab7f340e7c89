"""Pages that are served for a test, and pictures to drop on them."""

import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from enlca.explorer.actions import Explorer
from enlca.explorer.models import Models
from enlca.explorer.session import Visitors


@pytest.fixture(scope="session")
def models(tiny_model) -> Models:
    """The bundled ones and a random one, which is the default."""
    return Models([tiny_model])


@pytest.fixture
def explorer(models, tmp_path) -> Explorer:
    return Explorer(models, Visitors(tmp_path), max_megapixels=0.01)


@pytest.fixture
def picture(tmp_path_factory) -> Path:
    """31 x 23 pixels of noise."""
    path = tmp_path_factory.mktemp("pictures") / "noise.png"
    pixels = np.random.default_rng(0).integers(0, 256, (23, 31, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
