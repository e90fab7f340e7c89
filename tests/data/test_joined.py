import pickle

import numpy as np
import pytest
import torch

from enlca.data.joined import joined
from enlca.data.packed import PackedSet
from enlca.data.patches import PatchBatches, ResidentPatches

FIRST, SECOND = [(11, 13), (17, 19), (23, 7)], [(31, 29), (5, 11)]


def filled(sizes, start):
    """Pictures each of one colour: its index, counted from `start`."""
    lr, hr = (
        [
            np.full((s * height, s * width, 3), start + index, np.uint8)
            for index, (height, width) in enumerate(sizes)
        ]
        for s in (1, 2)
    )
    return PackedSet(2, [f"{start + index}.png" for index in range(len(sizes))], sizes, lr, hr)


@pytest.fixture
def both():
    return lambda share: joined(filled(FIRST, 0), filled(SECOND, len(FIRST)), share)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_the_second_set_has_its_share_and_places_within_a_set_are_equally_likely(both, share):
    picture = PatchBatches(both(share), patch=5, batch=40_009, seed=1).places(0).picture
    for sizes, start, part in ((FIRST, 0, 1 - share), (SECOND, len(FIRST), share)):
        places = np.array([(height - 4) * (width - 4) for height, width in sizes])
        counts = np.bincount(picture, minlength=5)[start : start + len(sizes)]
        np.testing.assert_allclose(counts / len(picture), part * places / places.sum(), atol=0.01)


def test_each_patch_is_of_the_picture_that_was_drawn(both):
    packed = pickle.loads(pickle.dumps(both(0.5)))  # it travels to loader processes
    assert packed.names == [f"{index}.png" for index in range(5)]
    batches = PatchBatches(packed, patch=5, batch=97, seed=1)
    resident = ResidentPatches(batches, torch.device("cpu"))
    for side, other in zip(batches[0], resident[0], strict=True):
        assert side[:, 0, 0, 0].tolist() == batches.places(0).picture.tolist()
        assert torch.equal(side, other)
