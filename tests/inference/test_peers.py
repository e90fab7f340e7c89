"""Every method of Table 1 goes through the whole pipeline: alpha, 16 bits, tiles, a memory limit."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from enlca.image.picture import Picture
from enlca.inference.upscaler import Upscaler
from enlca.peers import PEERS

GIB = 2**30


def picture(height, width):
    random = np.random.default_rng(5)
    layers = random.integers(0, 2**16, (height, width, 4), dtype=np.uint16)
    return Picture(layers[..., :3], alpha=layers[..., 3])


@pytest.mark.parametrize("name", PEERS)
def test_a_method_upscales_16_bits_with_alpha_in_tiles_and_whole(name, small_sizes):
    torch.manual_seed(6)
    model = PEERS[name].build(scale=2, **small_sizes[name])
    rgba = picture(30, 43)
    for mode in ("whole", "tiled"):
        sr = Upscaler(model, device="cpu", mode=mode)(rgba)
        assert (sr.layers.shape, sr.layers.dtype) == ((60, 86, 4), np.uint16)


# Prints the size of the result or the line of the refusal, then the peak memory of the process in bytes.
FULL = """
import resource, sys
from enlca.errors import TooLarge
from enlca.inference.upscaler import Upscaler
from enlca.peers import PEERS
from test_peers import GIB, picture

upscaler = Upscaler(PEERS[sys.argv[1]].build(scale=2), device="cpu", mode="tiled", max_memory=2 * GIB)
try:
    print(upscaler(picture(200, 300)).layers.shape)
except TooLarge as error:
    print(error)
print(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", PEERS)
def test_at_full_size_a_method_keeps_2_gib_or_says_what_it_needs(name):
    words = [sys.executable, "-c", FULL, name]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    said, peak = done.stdout.splitlines()
    assert said == "(400, 600, 4)" or "iB" in said
    assert int(peak) < 2 * GIB
