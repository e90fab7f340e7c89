import json
import os
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from enlca.data import pack
from enlca.data.pack import PackError, cached_pack, default_cache, open_pack, write_pack
from enlca.image.files import PictureError, find_pictures, read_image
from enlca.image.resize import imresize, mod_crop

SIZES = {"b/3.png": (31, 29), "b/1.jpg": (23, 37), "grey.png": (19, 41), "clear.png": (47, 17)}


def noise(*shape):
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    """RGB, grey and half-transparent pictures, of different sizes, some in a folder of their own."""
    folder = tmp_path / "pictures"
    (folder / "b").mkdir(parents=True)
    for name, size in SIZES.items():
        layers = {"grey.png": (), "clear.png": (4,)}.get(name, (3,))
        Image.fromarray(noise(*size, *layers)).save(folder / name)
    return folder


def never(done, total):
    raise AssertionError("the pictures were decoded once more")


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_pack_gives_back_each_picture_mod_cropped_and_its_small_one(folder, tmp_path, scale):
    files = find_pictures(folder, recursive=True)
    write_pack(files, tmp_path / "pack", scale=scale)
    packed = open_pack(tmp_path / "pack")
    assert packed.names == [file.name for file in files]
    assert len(packed) == len(SIZES)
    for index, file in enumerate(files):
        hr = mod_crop(read_image(file).rgb, scale)
        np.testing.assert_array_equal(packed.hr_picture(index), hr)
        np.testing.assert_array_equal(packed.lr_picture(index), imresize(hr, Fraction(1, scale)))


def test_a_pack_is_found_again_without_decoding(folder, tmp_path):
    first = cached_pack(folder, scale=4, cache=tmp_path / "cache")
    again = cached_pack(folder, scale=4, cache=tmp_path / "cache", on_progress=never)
    np.testing.assert_array_equal(again.hr, first.hr)
    assert again.shapes == first.shapes


@pytest.mark.parametrize("other", [{"scale": 2}, {"scale": 4, "min_side": 2}])
def test_other_settings_have_a_pack_of_their_own(folder, tmp_path, other):
    cached_pack(folder, scale=4, cache=tmp_path / "cache")
    with pytest.raises(AssertionError, match="once more"):
        cached_pack(folder, cache=tmp_path / "cache", on_progress=never, **other)


def test_a_changed_picture_is_packed_anew(folder, tmp_path):
    settings = {"scale": 4, "cache": tmp_path / "cache"}
    before = cached_pack(folder, **settings)
    index = before.names.index("3.png")
    changed = 255 - noise(31, 29, 3)
    Image.fromarray(changed).save(folder / "b" / "3.png")
    after = cached_pack(folder, **settings)
    np.testing.assert_array_equal(after.hr_picture(index), changed[:28, :28])
    # The size of a file can stay the same; its time says that it was written.
    stamp = (folder / "grey.png").stat().st_mtime_ns
    os.utime(folder / "grey.png", ns=(stamp, stamp + 1))
    with pytest.raises(AssertionError, match="once more"):
        cached_pack(folder, **settings, on_progress=never)


def test_progress_counts_to_the_end(folder, tmp_path):
    seen = []
    write_pack(find_pictures(folder), tmp_path / "pack", scale=2, on_progress=lambda *step: seen.append(step))
    assert seen == [(0, 2), (1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("name", "damage", "reason"),
    [
        ("hr.bin", lambda file: os.truncate(file, file.stat().st_size - 1), "bytes, expected"),
        ("lr.bin", lambda file: file.unlink(), "0 bytes, expected"),
        ("pack.json", lambda file: os.truncate(file, 9), "damaged"),
        ("pack.json", lambda file: file.unlink(), "not a pack"),
        ("pack.json", lambda file: file.write_text(json.dumps({"format": 99})), "format 99"),
    ],
)
def test_a_damaged_pack_is_refused_and_says_what_to_delete(folder, tmp_path, name, damage, reason):
    out = tmp_path / "pack"
    write_pack(find_pictures(folder), out, scale=2)
    damage(out / name)
    with pytest.raises(PackError, match=reason) as caught:
        open_pack(out)
    assert str(out) in str(caught.value)
    assert "delete" in str(caught.value)


def test_interrupted_packing_leaves_nothing(folder, tmp_path):
    def interrupt(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_pack(folder, scale=2, cache=tmp_path / "cache", on_progress=interrupt)
    assert not list((tmp_path / "cache").iterdir())


def test_a_picture_that_cannot_be_used_is_named_and_nothing_is_left(folder, tmp_path):
    with pytest.raises(PictureError, match=r"clear\.png: 17x47 is too small.*at least 20 pixels") as caught:
        cached_pack(folder, scale=4, min_side=5, cache=tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").iterdir())
    (folder / "broken.png").write_text("no picture")
    with pytest.raises(PictureError, match=r"broken\.png"):
        cached_pack(folder, scale=4, cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_the_smallest_side_allowed_is_enough(folder, tmp_path):
    # The narrowest picture is 17 wide: 4 small pixels at x4.
    assert min(map(min, cached_pack(folder, scale=4, min_side=4, cache=tmp_path).shapes)) == 4


def test_two_runs_may_pack_the_same_pictures_at_once(folder, tmp_path):
    files, out = find_pictures(folder), tmp_path / "pack"

    def the_other_run_is_faster(done, total):
        if done == total:
            write_pack(files, out, scale=2)

    write_pack(files, out, scale=2, on_progress=the_other_run_is_faster)
    assert len(open_pack(out)) == len(files)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_packs_go_to_the_cache_folder_of_the_user(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache() == tmp_path / "xdg" / "enlca"
    cached_pack(folder, scale=3)
    [made] = (tmp_path / "xdg" / "enlca").iterdir()
    assert made.name.startswith("pictures-x3-")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(pack.Path, "home", lambda: tmp_path / "home")
    assert default_cache() == tmp_path / "home" / ".cache" / "enlca"
