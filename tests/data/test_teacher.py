import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from enlca.data.packed import open_teacher, open_training_set
from enlca.data.packing import UnusablePictures
from enlca.data.patches import PatchBatches, ResidentPatches, Soften

SIZES = {"a": (37, 41), "deep/b": (53, 43)}


@pytest.fixture
def folders(tmp_path):
    """Training pictures, and those of a teacher: the same, inverted and cut to a multiple of the scale."""
    random = np.random.default_rng(4)
    for name, (height, width) in SIZES.items():
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        for folder, values in (
            ("hr", pixels),
            ("teacher", 255 - pixels[: height // 2 * 2, : width // 2 * 2]),
        ):
            path = tmp_path / folder / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(path)
    return tmp_path


@pytest.fixture
def packed(folders):
    return open_training_set(folders / "hr", scale=2, cache=folders / "cache")


def with_teacher(folders, packed):
    teacher = open_teacher(folders / "teacher", packed, cache=folders / "cache")
    return dataclasses.replace(packed, teacher=teacher)


def test_the_teachers_patches_show_the_place_of_hr_the_same_way_round(folders, packed):
    batches = PatchBatches(with_teacher(folders, packed), patch=7, batch=5, seed=1)
    resident = ResidentPatches(batches, torch.device("cpu"))
    for step in range(4):
        lr, hr, teacher = batches[step]
        assert lr.shape == (5, 3, 7, 7)
        assert bool((teacher == 255 - hr).all())
        for one, other in zip(resident[step], (lr, hr, teacher), strict=True):
            assert bool((one == other).all())


def test_without_a_teacher_there_are_two_sides_and_the_same_places(folders, packed):
    alone = PatchBatches(packed, patch=7, batch=5, seed=1)[3]
    both = PatchBatches(with_teacher(folders, packed), patch=7, batch=5, seed=1)[3]
    assert len(alone) == 2
    assert all(bool((one == other).all()) for one, other in zip(alone, both, strict=False))


def test_a_share_of_the_patches_is_softened_and_the_others_are_as_they_were(folders, packed):
    settings = {"patch": 7, "batch": 97, "seed": 1}
    source = with_teacher(folders, packed)
    sharp = PatchBatches(source, **settings)[2]
    soft = PatchBatches(source, **settings, soften=Soften(0.8, 1.2, 0.3))[2]
    changed = [(one != other).flatten(1).any(1) for one, other in zip(sharp, soft, strict=True)]
    share = changed[0].double().mean().item()
    assert abs(share - 0.3) < 4 * (0.3 * 0.7 / 97) ** 0.5
    assert all(bool((side == changed[0]).all()) for side in changed)


def test_two_devices_soften_what_one_does(folders, packed):
    settings = {"patch": 7, "seed": 1, "soften": Soften(0.5, 1.5, 0.5)}
    alone = PatchBatches(packed, batch=6, **settings).sigmas(5)
    shared = [PatchBatches(packed, batch=3, rank=rank, world=2, **settings).sigmas(5) for rank in range(2)]
    np.testing.assert_array_equal(np.concatenate(shared), alone)


def test_it_is_decoded_once_and_again_when_a_picture_changes(folders, packed):
    teacher = open_teacher(folders / "teacher", packed, cache=folders / "cache")
    seen = []
    again = open_teacher(
        folders / "teacher",
        packed,
        cache=folders / "cache",
        on_progress=lambda done, total: seen.append(done),
    )
    assert not seen
    np.testing.assert_array_equal(teacher[0], again[0])
    path = folders / "teacher" / "a.png"
    Image.fromarray(np.zeros((36, 40, 3), dtype=np.uint8)).save(path)
    changed = open_teacher(folders / "teacher", packed, cache=folders / "cache")
    assert not changed[0].any()


def test_pictures_that_differ_in_their_suffix_alone_are_refused_on_either_side(folders, packed):
    Image.open(folders / "teacher" / "a.png").save(folders / "teacher" / "a.bmp")
    with pytest.raises(UnusablePictures, match=r"1 of 2 .* a\.png: the teacher has 2 pictures of this name"):
        open_teacher(folders / "teacher", packed, cache=folders / "cache")
    (folders / "teacher" / "a.bmp").unlink()
    Image.open(folders / "hr" / "a.png").rotate(180).save(folders / "hr" / "a.bmp")
    both = open_training_set(folders / "hr", scale=2, cache=folders / "cache")
    reason = r"2 of 3 .* a\.bmp: two pictures have this name.* a\.png: two pictures have this name"
    with pytest.raises(UnusablePictures, match=f"(?s){reason}"):
        open_teacher(folders / "teacher", both, cache=folders / "cache")


def test_pictures_that_are_missing_or_of_another_size_are_named_before_any_is_decoded(folders, packed):
    (folders / "teacher" / "deep" / "b.png").unlink()
    Image.new("RGB", (40, 35)).save(folders / "teacher" / "a.png")
    with pytest.raises(UnusablePictures) as caught:
        open_teacher(folders / "teacher", packed, cache=folders / "cache")
    message = str(caught.value)
    assert "2 of 2 pictures cannot be used" in message
    assert "a.png: 40x35, but its HR picture is 40x36" in message
    assert "deep/b.png: the teacher has no picture of this name" in message
    assert not list((folders / "cache").glob("teacher-*"))
