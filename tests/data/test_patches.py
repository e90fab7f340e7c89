import itertools

import numpy as np
import pytest
import torch

from enlca.data.packed import PackedSet
from enlca.data.patches import ANCHORS, PATCHES, PatchBatches, ResidentPatches, dihedral, seed_of

P, B = 5, 7
MOVES = range(8)


def packed(*shapes, scale=3, fill=None):
    """Pictures of random pixels; HR is LR with every pixel repeated."""
    generator = np.random.default_rng(0)
    lr = [generator.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]
    if fill is not None:
        lr = [np.full_like(picture, value) for picture, value in zip(lr, fill, strict=True)]
    hr = [picture.repeat(scale, axis=0).repeat(scale, axis=1) for picture in lr]
    return PackedSet(scale, [f"{i}.png" for i in range(len(shapes))], list(shapes), lr, hr)


def patches(source, steps, **settings):
    """The LR patches of several batches, as arrays `P P 3`."""
    batches = PatchBatches(source, **{"patch": P, "batch": B, "seed": 1, **settings})
    return [patch.permute(1, 2, 0).numpy() for step in range(steps) for patch in batches[step][0]]


def chi_square(counts, expected):
    counts, expected = np.asarray(counts), np.asarray(expected, dtype=float)
    expected *= counts.sum() / expected.sum()
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_lr_and_hr_patches_show_the_same_place_the_same_way_round(scale):
    batches = PatchBatches(packed((11, 13), (17, 7), scale=scale), patch=P, batch=B, seed=3)
    for step in range(8):
        lr, hr = batches[step]
        assert lr.shape == (B, 3, P, P)
        assert hr.dtype == lr.dtype == torch.uint8
        torch.testing.assert_close(lr.repeat_interleave(scale, -1).repeat_interleave(scale, -2), hr)


def test_all_eight_moves_occur_equally_often_and_no_other_picture_does():
    source = packed((P, P))
    moved = [dihedral(source.lr[0], move).tobytes() for move in MOVES]
    assert len(set(moved)) == 8
    seen = [moved.index(patch.tobytes()) for patch in patches(source, 60)]
    # 7 degrees of freedom: above 24.3 one time in a thousand.
    assert chi_square(np.bincount(seen, minlength=8), np.ones(8)) < 24.3


@pytest.mark.parametrize("first", MOVES)
def test_two_moves_are_one_move(first):
    picture = np.arange(3 * 5 * 2).reshape(3, 5, 2)
    for second in MOVES:
        # Turning after mirroring is mirroring after turning the other way.
        turns = (first & 3) + (second & 3) * (-1 if first & 4 else 1)
        both = ((first ^ second) & 4) | (turns & 3)
        np.testing.assert_array_equal(dihedral(dihedral(picture, first), second), dihedral(picture, both))


def test_move_zero_is_none_and_move_four_is_a_mirror():
    picture = np.arange(3 * 5 * 2).reshape(3, 5, 2)
    np.testing.assert_array_equal(dihedral(picture, 0), picture)
    np.testing.assert_array_equal(dihedral(picture, 4), picture[:, ::-1])


def test_a_batch_depends_on_seed_step_and_rank_only():
    source = packed((11, 13), (17, 7))

    def batch(seed=1, step=5, rank=0, earlier=()):
        batches = PatchBatches(source, patch=P, batch=B, seed=seed, rank=rank, world=2)
        for number in earlier:
            batches[number]
        return torch.cat([side.flatten() for side in batches[step]])

    np.random.seed(0)  # noqa: NPY002 - to show that it has no part in this
    torch.manual_seed(0)
    wanted = batch()
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    assert torch.equal(batch(earlier=(0, 9, 5)), wanted)
    for other in (batch(seed=2), batch(step=6), batch(rank=1)):
        assert not torch.equal(other, wanted)


def test_pictures_are_chosen_in_proportion_to_the_places_in_them():
    shapes = [(P, P), (P, P + 6), (P + 4, P + 2)]
    source = packed(*shapes, fill=[0, 1, 2])
    counts = np.bincount([patch[0, 0, 0] for patch in patches(source, 90)], minlength=3)
    # 2 degrees of freedom: above 13.8 one time in a thousand.
    assert chi_square(counts, [1, 7, 15]) < 13.8


def test_every_place_of_a_picture_is_as_likely_as_any_other():
    source = packed((P + 1, P + 2))
    lr = source.lr[0]
    places = [lr[top : top + P, left : left + P] for top in range(2) for left in range(3)]
    known = {dihedral(place, move).tobytes(): number for number, place in enumerate(places) for move in MOVES}
    counts = np.bincount([known[patch.tobytes()] for patch in patches(source, 60)], minlength=6)
    # 5 degrees of freedom: above 20.5 one time in a thousand.
    assert chi_square(counts, np.ones(6)) < 20.5


def test_a_picture_smaller_than_the_patch_is_named():
    with pytest.raises(ValueError, match=r"1\.png is smaller than the LR patch of 5 pixels at x3"):
        PatchBatches(packed((P, P), (P, P - 1)), patch=P, batch=B, seed=0)


def test_several_devices_share_the_batch_that_one_would_have():
    source = packed((11, 13), (17, 7))
    settings = {"patch": P, "seed": 1}
    alone = PatchBatches(source, batch=3 * B, **settings)
    shared = [PatchBatches(source, batch=B, rank=rank, world=3, **settings) for rank in range(3)]
    for step in (0, 5):
        for side in range(2):
            assert torch.equal(torch.cat([part[step][side] for part in shared]), alone[step][side])


@pytest.mark.parametrize("scale", [2, 3])
def test_patches_cut_on_the_device_are_those_cut_from_the_map(scale):
    batches = PatchBatches(packed((11, 13), (17, 7), (P, P), scale=scale), patch=P, batch=31, seed=3)
    resident = ResidentPatches(batches, torch.device("cpu"))
    for step in range(3):
        assert set(batches.places(step).move) == set(MOVES)
        for mine, theirs in zip(resident[step], batches[step], strict=True):
            assert torch.equal(mine, theirs)


def test_random_streams_never_meet():
    moments = list(itertools.product((PATCHES, ANCHORS), range(50), (0, 1)))
    seeds = {seed_of(seed, *moment) for seed in (1, 2) for moment in moments}
    assert len(seeds) == 2 * len(moments)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_seed_means_the_same_run_in_every_version():
    assert seed_of(1, PATCHES, 2, 3) == 3322602670769483112
