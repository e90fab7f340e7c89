import json
import os
import pickle
import threading
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from enlca.data.packed import NPY_HEADER, MappedPictures, damaged_pictures, open_pack, open_training_set
from enlca.data.packing import FORMAT, UnusablePictures, write_pack
from enlca.data.pairs import training_pairs
from enlca.errors import PackError, PictureError
from enlca.image.files import find_pictures
from enlca.image.picture import read_image
from enlca.image.resize import imresize, mod_crop

SIZES = {"b/3.png": (31, 29), "b/1.jpg": (23, 37), "grey.png": (19, 41), "clear.png": (47, 17)}


def noise(*shape):
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)


def put(pixels, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path):
    """RGB, grey and half-transparent pictures, of different sizes, some in a folder of their own."""
    for name, size in SIZES.items():
        layers = {"grey.png": (), "clear.png": (4,)}.get(name, (3,))
        put(noise(*size, *layers), tmp_path / "pictures" / name)
    return tmp_path / "pictures"


def packed_at_once(folder, out, scale=2, **settings):
    write_pack(folder, training_pairs(folder, scale), out, scale=scale, **settings)
    return open_pack(out)


def never(done, total):
    raise AssertionError("the pictures were decoded once more")


def recorded():
    """A listener, and what it heard: how many of how many were done."""
    heard = []
    return (lambda *step: heard.append(step)), heard


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_pack_gives_back_each_picture_mod_cropped_and_its_lr(folder, tmp_path, scale):
    files = find_pictures(folder, recursive=True)
    packed = packed_at_once(folder, tmp_path / "pack", scale)
    assert packed.names == [file.relative_to(folder).as_posix() for file in files]
    assert len(packed) == len(SIZES)
    for index, file in enumerate(files):
        hr = mod_crop(read_image(file).rgb, scale)
        np.testing.assert_array_equal(packed.hr[index], hr)
        np.testing.assert_array_equal(packed.lr[index], imresize(hr, Fraction(1, scale)))


def test_lr_pictures_on_disk_are_used_as_they_are(tmp_path):
    for name in ("0001", "0002"):
        put(noise(18, 26, 3), tmp_path / "DIV2K_train_HR" / f"{name}.png")
        put(noise(9, 13, 3), tmp_path / "DIV2K_train_LR_bicubic" / "X2" / f"{name}x2.png")
        # The validation half of DIV2K lies beside and must not be trained on.
        put(noise(8, 8, 3), tmp_path / "DIV2K_valid_HR" / f"08{name}.png")
        put(noise(4, 4, 3), tmp_path / "DIV2K_valid_LR_bicubic" / "X2" / f"08{name}x2.png")
    packed = open_training_set(tmp_path, scale=2, cache=tmp_path / "cache")
    assert packed.names == ["DIV2K_train_HR/0001.png", "DIV2K_train_HR/0002.png"]
    np.testing.assert_array_equal(packed.lr[1], noise(9, 13, 3))
    np.testing.assert_array_equal(packed.hr[1], noise(18, 26, 3))


def test_a_pair_that_does_not_fit_is_refused(tmp_path):
    for name, size in (("a", (9, 13, 3)), ("b", (9, 14, 3))):
        put(noise(18, 26, 3), tmp_path / "HR" / f"{name}.png")
        put(noise(*size), tmp_path / "LR" / f"{name}.png")
    put(noise(18, 26, 3), tmp_path / "HR" / "c.png")
    with pytest.raises(UnusablePictures) as caught:
        open_training_set(tmp_path, scale=2, cache=tmp_path / "cache")
    message = str(caught.value)
    assert "2 of 3 pictures cannot be used: LR/b.png: 14x9 times 2 is not the size" in message
    assert "HR/c.png: has no partner" in message


def test_a_pack_is_found_again_without_decoding(folder, tmp_path):
    first = open_training_set(folder, scale=4, cache=tmp_path / "cache")
    again = open_training_set(folder, scale=4, cache=tmp_path / "cache", on_progress=never)
    np.testing.assert_array_equal(again.hr[0], first.hr[0])
    assert again.shapes == first.shapes
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_another_scale_has_a_pack_of_its_own_and_another_patch_has_not(folder, tmp_path):
    open_training_set(folder, scale=4, cache=tmp_path / "cache")
    open_training_set(folder, scale=4, min_side=2, cache=tmp_path / "cache", on_progress=never)
    with pytest.raises(AssertionError, match="once more"):
        open_training_set(folder, scale=2, cache=tmp_path / "cache", on_progress=never)


def test_a_changed_picture_is_packed_anew(folder, tmp_path):
    settings = {"scale": 4, "cache": tmp_path / "cache"}
    before = open_training_set(folder, **settings)
    index = before.names.index("b/3.png")
    changed = 255 - noise(31, 29, 3)
    Image.fromarray(changed).save(folder / "b" / "3.png")
    after = open_training_set(folder, **settings)
    np.testing.assert_array_equal(after.hr[index], changed[:28, :28])
    # The size of a file can stay the same; its time says that it was written.
    stamp = (folder / "grey.png").stat().st_mtime_ns
    os.utime(folder / "grey.png", ns=(stamp, stamp + 1))
    with pytest.raises(AssertionError, match="once more"):
        open_training_set(folder, **settings, on_progress=never)


def test_a_pack_is_a_training_set_itself(folder, tmp_path):
    packed_at_once(folder, tmp_path / "pack", 4)
    packed = open_training_set(tmp_path / "pack", scale=4, min_side=4, on_progress=never)
    assert len(packed) == len(SIZES)
    with pytest.raises(PackError, match="a pack for x4, not for x2"):
        open_training_set(tmp_path / "pack", scale=2, on_progress=never)
    with pytest.raises(UnusablePictures, match=r"2 of 4 pictures .*clear\.png: 16x44 is too small"):
        open_training_set(tmp_path / "pack", scale=4, min_side=5, on_progress=never)


def test_pictures_of_another_scale_do_not_pass_for_hr(tmp_path):
    put(noise(18, 26, 3), tmp_path / "HR_x2" / "a.png")
    put(noise(9, 13, 3), tmp_path / "LR_x2" / "a.png")
    with pytest.raises(PictureError, match=r"holds pictures for x2, none for x4; name .*HR_x2"):
        open_training_set(tmp_path, scale=4, cache=tmp_path / "cache")


def test_progress_counts_to_the_end(folder, tmp_path):
    listen, heard = recorded()
    packed_at_once(folder, tmp_path / "pack", on_progress=listen)
    assert heard == [(done, 4) for done in range(5)]


@pytest.mark.parametrize(
    ("pattern", "damage", "reason"),
    [
        ("hr/*.npy", lambda file: os.truncate(file, file.stat().st_size - 1), "bytes, expected"),
        ("lr/*.npy", lambda file: file.unlink(), "0 bytes, expected"),
        ("pack.json", lambda file: os.truncate(file, 9), "damaged"),
        ("pack.json", lambda file: file.unlink(), "not a pack"),
        ("pack.json", lambda file: file.write_text(json.dumps({"format": 99})), "format 99"),
        ("pack.json", lambda file: file.write_text(json.dumps({"format": FORMAT})), "damaged"),
    ],
)
def test_a_damaged_pack_is_refused_and_says_what_to_delete(folder, tmp_path, pattern, damage, reason):
    out = tmp_path / "pack"
    packed_at_once(folder, out)
    damage(next(out.glob(pattern)))
    with pytest.raises(PackError, match=reason) as caught:
        open_pack(out)
    assert str(out) in str(caught.value)
    assert "delete" in str(caught.value)


def test_a_pack_of_an_earlier_version_is_refused_with_the_command_that_makes_it_anew(folder, tmp_path):
    out = tmp_path / "pack"
    out.mkdir()
    (out / "pack.json").write_text(json.dumps({"format": 2, "scale": 4, "lr_bytes": 0, "pictures": []}))
    for use in (open_pack, lambda out: open_training_set(out, scale=4)):
        with pytest.raises(
            PackError, match=f"pack format 2, this version reads 3; .*enlca data pack DIR {out}"
        ):
            use(out)


@pytest.mark.parametrize("side", ["lr", "hr"])
@pytest.mark.parametrize("place", [NPY_HEADER, -1, 20])
def test_one_changed_byte_is_found_and_its_picture_named(folder, tmp_path, side, place):
    packed = packed_at_once(folder, tmp_path / "pack", 2)
    assert damaged_pictures(tmp_path / "pack") == []
    path = getattr(packed, side).paths[2]
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    assert damaged_pictures(tmp_path / "pack") == [packed.names[2]]


def test_the_files_of_a_pack_are_ordinary_npy_files(folder, tmp_path):
    packed = packed_at_once(folder, tmp_path / "pack", 2)
    for side in (packed.lr, packed.hr):
        for path, pixels in zip(side.paths, side, strict=True):
            np.testing.assert_array_equal(np.load(path), pixels)
            assert not pixels.flags.writeable


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files in /proc")
def test_mapped_pictures_keep_no_file_open(folder, tmp_path):
    packed = packed_at_once(folder, tmp_path / "pack", 2)
    before = len(os.listdir("/proc/self/fd"))
    kept = [pixels for side in (packed.lr, packed.hr) for pixels in side]
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(kept) == 8


def test_pictures_are_mapped_again_beyond_the_limit_and_in_another_process(folder, tmp_path):
    hr = packed_at_once(folder, tmp_path / "pack", 2).hr
    few = MappedPictures(hr.paths, hr.shapes, max_mapped=2)
    for _ in range(2):
        for one, other, third in zip(hr, few, pickle.loads(pickle.dumps(hr)), strict=True):
            np.testing.assert_array_equal(one, other)
            np.testing.assert_array_equal(one, third)


def test_all_pictures_that_cannot_be_used_are_counted_and_the_good_ones_stay_packed(folder, tmp_path):
    settings = {"scale": 4, "cache": tmp_path / "cache"}
    for number in range(4):
        (folder / f"broken_{number}.png").write_text("no picture")
    with pytest.raises(UnusablePictures) as caught:
        open_training_set(folder, min_side=5, **settings)
    message = str(caught.value)
    assert "\n" not in message
    assert f"{folder}: 6 of 8 pictures cannot be used: broken_0.png: not a picture" in message
    assert "; (and 3 more); see `enlca data check" in message
    assert message.count(str(folder)) == 2
    assert all(path.name.startswith(".") for path in (tmp_path / "cache").iterdir())
    for number in range(3):
        (folder / f"broken_{number}.png").unlink()
    put(noise(20, 24, 3), folder / "broken_3.png")
    put(noise(20, 28, 4), folder / "clear.png")
    put(noise(22, 20), folder / "grey.png")
    listen, heard = recorded()
    packed = open_training_set(folder, min_side=5, **settings, on_progress=listen)
    # Only the repaired one and the two whose size suffices now.
    assert heard == [(2, 5), (3, 5), (4, 5), (5, 5)]
    whole = packed_at_once(folder, tmp_path / "whole", 4)
    assert packed.names == whole.names
    for index in range(5):
        np.testing.assert_array_equal(packed.lr[index], whole.lr[index])
        np.testing.assert_array_equal(packed.hr[index], whole.hr[index])
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.name.startswith(".")] == []


def test_the_smallest_side_allowed_is_enough(folder, tmp_path):
    # The narrowest picture is 17 wide: 4 LR pixels at x4.
    packed = open_training_set(folder, scale=4, min_side=4, cache=tmp_path / "cache")
    assert min(map(min, packed.shapes)) == 4


def test_what_is_there_and_is_no_pack_is_not_touched(folder, tmp_path):
    out = tmp_path / "out"
    for make in (lambda: out.write_text("mine"), lambda: (out.unlink(), put(noise(9, 9, 3), out / "x.png"))):
        make()
        with pytest.raises(PackError, match="is there and is not a pack"):
            packed_at_once(folder, out)
    assert [path.name for path in out.iterdir()] == ["x.png"]


def test_two_runs_may_pack_the_same_pictures_at_once(folder, tmp_path):
    decoded, packs, first_has_begun = [], [], threading.Event()

    def listen(done, total):
        decoded.append(done)
        first_has_begun.set()

    def run():
        packs.append(open_training_set(folder, scale=2, cache=tmp_path / "cache", on_progress=listen))

    threads = [threading.Thread(target=run) for _ in range(3)]
    threads[0].start()
    first_has_begun.wait(10)
    for thread in threads[1:]:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert [len(packed) for packed in packs] == [4, 4, 4]
    assert decoded.count(4) == 1
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_packs_go_to_the_cache_folder_of_the_user(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("enlca.data.packed.cache_dir", lambda: tmp_path / "user")
    open_training_set(folder, scale=3)
    [made] = (tmp_path / "user").iterdir()
    assert made.name.startswith("pictures-x3-")


@pytest.mark.parametrize(
    ("key", "value"),
    [("height", "x"), ("width", -1), ("height", 1 << 40), ("hr", "../../x.npy"), ("hr", 7), ("name", None)],
)
def test_a_pack_whose_entries_are_of_another_kind_is_refused(folder, tmp_path, key, value):
    out = tmp_path / "pack"
    packed_at_once(folder, out)
    index = json.loads((out / "pack.json").read_text())
    index["pictures"][0][key] = value
    (out / "pack.json").write_text(json.dumps(index))
    with pytest.raises(PackError, match="damaged; delete it"):
        open_pack(out)


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", '{"format": 3, "pictures": [1], "sides": []}', "\0"])
def test_an_index_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "pack.json").write_text(text)
    with pytest.raises(PackError, match="damaged; delete it"):
        open_pack(tmp_path)


def test_unusable_pictures_can_be_sent_between_processes():
    error = UnusablePictures(Path("f"), ["a: too small", "b: gone"], 7, "see x")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.exit_code) == (UnusablePictures, str(error), 1)
