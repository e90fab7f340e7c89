"""Many visitors at once: no errors, and no memory that grows."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("gradio", reason="the explorer needs pip install 'enlca[explore]'")

from benchmarks.visitor import Visitor, server

VISITORS, ROUNDS, SIDE = 20, 4, 64
GROWTH_MIB = 32


@pytest.mark.slow
def test_twenty_visitors_click_at_once_without_an_error_or_growing_memory(tmp_path):
    pictures = []
    for number in range(VISITORS):
        pixels = np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        pictures.append(tmp_path / f"{number}.png")
        Image.fromarray(pixels).save(pictures[-1])
    choice = ("enlcn-tiny", 4, 0, 6.0, 64, "")
    with server() as running, ThreadPoolExecutor(VISITORS) as pool:
        visitors = [Visitor(running.url) for _ in range(VISITORS)]
        list(pool.map(lambda pair: pair[0].open(pair[1]), zip(visitors, pictures, strict=True)))
        held = []
        for n_round in range(ROUNDS):
            point = (7 * n_round, 5 * n_round)
            list(pool.map(lambda one: one.click(*point, choice), visitors))  # noqa: B023
            answers = list(pool.map(lambda one: one.complete(choice), visitors))
            assert all(f"row {point[0]}, column {point[1]}" in html for html in answers)
            assert len(set(answers)) == VISITORS
            held.append(running.resident_mib)
    assert held[-1] - held[1] < GROWTH_MIB, held
