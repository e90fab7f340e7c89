"""A degraded patch is a function of (seed, step, index), and that of the whole picture degraded."""

import math
from fractions import Fraction

import numpy as np
import pytest
from torch.utils.data import DataLoader

from enlca.data.degradations import degrade_folder
from enlca.data.kernels import gaussian_kernel, sinc_kernel
from enlca.data.noise import CameraNoise, Smear
from enlca.data.operators import Blur, Jpeg, Resize, WebP
from enlca.data.packed import PackedSet
from enlca.data.patches import PatchBatches
from enlca.data.recipes import PRESETS, Degradation, apply, degrade, degraded_patch, reach_of
from enlca.errors import ConfigError, PictureError
from enlca.image.picture import Picture, read_image, write_image
from enlca.image.resize import imresize

MIX = Degradation(preset={"web": 2, "phone": 1, "noisy": 1, "strong": 1, "clean": 1})


def picture(height, width, seed=0):
    small = np.random.default_rng(seed).integers(0, 256, (height // 5 + 2, width // 5 + 2, 3), dtype=np.uint8)
    return small.repeat(5, axis=0).repeat(5, axis=1)[:height, :width]


def packed(scale):
    hr = [picture(20 * scale, 17 * scale, 1), picture(12 * scale, 31 * scale, 2)]
    lr = [imresize(side, Fraction(1, scale)) for side in hr]
    return PackedSet(scale, ["a", "b"], [side.shape[:2] for side in lr], lr, hr)


def batches(**settings):
    return PatchBatches(packed(2), **{"patch": 7, "batch": 4, "seed": 3, "degradation": MIX, **settings})


def first(batch):
    """A batch without the tuple that the loader makes a list of."""
    return batch


def test_equal_seeds_give_equal_patches_and_others_give_others():
    one, again, other = batches()[5][0], batches()[5][0], batches(seed=4)[5][0]
    assert (one == again).all()
    assert not (one == other).all()
    assert not (one == batches()[6][0]).all()


def test_any_number_of_processes_and_devices_gives_the_same_patches():
    source = batches()
    wanted = [source[step] for step in (2, 3)]
    loader = DataLoader(source, batch_size=None, sampler=[2, 3], num_workers=2, collate_fn=first)
    for batch, same in zip(loader, wanted, strict=True):
        assert all((a == b).all() for a, b in zip(batch, same, strict=True))
    for rank in range(2):
        half = batches(batch=2, rank=rank, world=2)[2]
        for side, whole in zip(half, wanted[0], strict=True):
            assert (side == whole[2 * rank : 2 * rank + 2]).all()


def test_degraded_patches_show_the_places_of_clean_ones_and_hr_stays():
    mild, none = batches(degradation=Degradation(preset="web"))[1], batches(degradation=None)[1]
    assert (mild[1] == none[1]).all()
    for patch, degraded in zip(none[0].numpy(), mild[0].numpy(), strict=True):
        assert np.corrcoef(patch.ravel(), degraded.ravel())[0, 1] > 0.7
        assert (patch != degraded).any()


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_preset_clean_is_matlabs_bicubic_to_the_bit_also_at_borders(scale):
    source = packed(scale)
    for place in ((0, 0), (4, 3), (5, 10)):
        where = {"top": place[0], "left": place[1], "patch": 7, "scale": scale}
        patch = degraded_patch(source.hr[0], (), random=np.random.default_rng(0), **where)
        rows, columns = (slice(start, start + 7) for start in place)
        np.testing.assert_array_equal(patch, source.lr[0][rows, columns])


RECIPES = {
    "blur": [Blur(gaussian_kernel(2.0, radius=6)), Resize(1 / 3, "lanczos")],
    "smear": [Smear(9.0, radius=3), Resize(1 / 3, "bicubic")],
    "ringing at the end": [Resize(1 / 3, "box"), Blur(sinc_kernel(1.5, radius=4))],
    "resized twice": [Resize(2 / 3, "bilinear"), Smear(5.0), Resize(1 / 3, "bicubic")],
}


@pytest.mark.parametrize("place", [(0, 0), (9, 14), (30, 26)])
@pytest.mark.parametrize("name", RECIPES)
def test_a_degraded_patch_is_that_of_the_whole_picture_degraded(name, place):
    hr, recipe, random = picture(120, 111), RECIPES[name], np.random.default_rng(0)
    whole = degrade(hr, recipe, scale=3, random=random).astype(int)
    patch = degraded_patch(hr, recipe, top=place[0], left=place[1], patch=10, scale=3, random=random)
    rows, columns = (slice(start, start + 10) for start in place)
    # Half a level may round either way.
    assert np.abs(patch - whole[rows, columns]).max() <= 1
    margin = -(-reach_of(recipe, scale=3) // 3)
    assert margin < 14  # less than the picture, so that the test tests something


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_keeps_size_and_roughly_the_mean(preset, scale):
    hr = picture(16 * scale, 13 * scale)
    for seed in range(6):
        random = np.random.default_rng(seed)
        lr = degrade(hr, Degradation(preset=preset).draw(random, scale=scale), scale=scale, random=random)
        assert lr.shape == (16, 13, 3)
        np.testing.assert_allclose(lr.mean(axis=(0, 1)), hr.mean(axis=(0, 1)), atol=8)


def test_the_presets_are_what_they_say():
    kinds = {name: [] for name in PRESETS}
    for seed in range(90):
        for name in PRESETS:
            kinds[name].append(Degradation(preset=name).draw(np.random.default_rng(seed), scale=4))
    jpegs = {
        name: [op for recipe in recipes for op in recipe if isinstance(op, (Jpeg, WebP))]
        for name, recipes in kinds.items()
    }
    ranges = {
        name: (min(op.quality for op in found), max(op.quality for op in found))
        for name, found in jpegs.items()
        if found
    }
    for name, (low, high) in {"web": (30, 95), "phone": (70, 95)}.items():
        least, most = ranges[name]
        assert low <= least < low + 6, name
        assert high - 6 < most <= high, name
    assert {len([op for op in recipe if isinstance(op, Resize)]) for recipe in kinds["web"]} == {1}
    assert all(any(isinstance(op, CameraNoise) for op in recipe) for recipe in kinds["phone"])
    assert set(kinds["clean"]) == {()}
    for recipes in kinds.values():
        assert max(reach_of(recipe, scale=4) for recipe in recipes) < 400


def test_presets_are_drawn_by_their_weights():
    mix, n = Degradation(preset={"clean": 3, "web": 1}), 600
    drawn = sum(not mix.draw(np.random.default_rng(seed), scale=4) for seed in range(n))
    assert abs(drawn / n - 0.75) < 4 * math.sqrt(0.75 * 0.25 / n)


@pytest.mark.parametrize(
    ("preset", "message"),
    [
        ("wild", "unknown preset 'wild'; there are clean, web, phone, noisy, strong"),
        ({"web": 1, "film": 1}, "unknown preset 'film'"),
        ({"web": -1, "phone": 2}, "the weights of presets must be at least 0"),
        ({"web": 0}, "the weights of presets must be at least 0 and one above it"),
        ({}, "the weights of presets must be at least 0 and one above it"),
        ({"web": math.nan}, "the weights of presets"),
    ],
)
def test_hostile_presets_are_refused(preset, message):
    with pytest.raises(ConfigError, match=message):
        Degradation(preset=preset)


def test_the_mean_of_an_empty_recipe_is_the_pictures():
    hr = picture(9, 11)
    np.testing.assert_array_equal(apply((), hr, np.random.default_rng(0)), hr.astype(np.float32))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "hr").mkdir()
    write_image(tmp_path / "hr" / "a.png", Picture(picture(41, 50, 1)))
    write_image(tmp_path / "hr" / "b.png", Picture(picture(37, 43, 2)[:, :, :1]))
    return tmp_path


def test_a_folder_is_degraded_by_seed_and_name_and_never_overwritten(folder):
    web = Degradation(preset="strong")
    settings = {"scale": 3, "degradation": web}
    assert degrade_folder(folder / "hr", folder / "lr", **settings, seed=1).failures == []
    before = {path.name: path.read_bytes() for path in (folder / "lr").iterdir()}
    assert {name: read_image(folder / "lr" / name).pixels.shape for name in before} == {
        "a.png": (13, 16, 3),
        "b.png": (12, 14, 1),
    }
    assert degrade_folder(folder / "hr", folder / "lr", **settings, seed=1).failures == []
    failures = degrade_folder(folder / "hr", folder / "lr", **settings, seed=2).failures
    assert [line.partition(": ")[2] for line in failures] == [
        "exists, with other pixels; name another folder, or delete it"
    ] * 2
    assert {path.name: path.read_bytes() for path in (folder / "lr").iterdir()} == before
    # A picture's draw does not depend on its neighbours.
    (folder / "hr" / "a.png").unlink()
    assert degrade_folder(folder / "hr", folder / "alone", **settings, seed=1).failures == []
    assert (folder / "alone" / "b.png").read_bytes() == before["b.png"]


def test_the_command_takes_preset_and_seed(folder, command):
    words = ("degrade", folder / "hr", folder / "lr", "--scale", 3)
    assert command(*words, "--preset", "web", "--seed", 7) == (0, f"{folder / 'lr'}: 2 made\n", "")
    web = Degradation(preset="web")
    assert degrade_folder(folder / "hr", folder / "again", scale=3, degradation=web, seed=7).failures == []
    for path in (folder / "again").iterdir():
        assert path.read_bytes() == (folder / "lr" / path.name).read_bytes()
    done = command(*words)
    assert (done.code, done.err.count("exists, with other pixels")) == (1, 2)
    assert command(*words, "--preset", "film").code == 2
    assert command(*words, "--seed", -1).code == 2


def test_a_picture_too_large_for_the_codec_is_a_failure_of_its_own(folder, monkeypatch):
    from enlca.data import operators

    def refuses(pixels, kind, **settings):
        raise PictureError(f"{kind}: no")

    monkeypatch.setattr(operators, "recoded", refuses)
    failures = degrade_folder(
        folder / "hr", folder / "lr", scale=3, degradation=Degradation(preset="web"), seed=1
    ).failures
    assert len(failures) == 2
