"""Weights become colours: the average is in the middle, and colours are those that everybody knows."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from enlca.explorer import maps


def test_the_average_is_the_middle_of_the_scale():
    levels = maps.levels(torch.full((7, 11), 1 / 77))
    assert set(levels.flatten().tolist()) <= {127, 128}


@pytest.mark.parametrize(
    ("times", "level"), [(0.0, 0), (1 / maps.REACH, 0), (10.0, 191), (maps.REACH, 255), (1e5, 255)]
)
def test_a_level_is_a_logarithm_of_times_the_average(times, level):
    weights = torch.full((3, 5), 1.0)
    weights[1, 2] = times
    # The others are as large as the average has to be for this one to be `times` of it.
    levels = maps.levels(weights / 15)
    assert abs(int(levels[1, 2]) - level) <= 1


def test_large_maps_are_shrunk_by_averaging_so_that_no_weight_is_lost():
    weights = torch.rand(3 * maps.LONGEST, 2)
    small = maps.shown(weights)
    assert small.shape == (maps.LONGEST, 1)
    torch.testing.assert_close(small.mean(), weights.mean())


def test_a_map_is_a_picture_of_its_own_size_and_colours():
    weights = torch.rand(5, 7)
    image = Image.open(io.BytesIO(maps.png(weights)))
    assert image.size == (7, 5)
    np.testing.assert_array_equal(np.asarray(image.convert("RGB")), maps.palette()[maps.levels(weights)])


def test_the_palette_is_viridis():
    matplotlib = pytest.importorskip("matplotlib")
    viridis = np.array(matplotlib.colormaps["viridis"].colors) * 255
    assert np.abs(maps.palette() - viridis).max() < 8


def test_brightness_rises_all_along_the_palette():
    brightness = maps.palette() @ [0.299, 0.587, 0.114]
    # Over four levels, since each is rounded.
    assert (brightness[4:] > brightness[:-4]).all()
