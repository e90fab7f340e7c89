import numpy as np
import pytest
from PIL import Image

from enlca.data.check import check_folder
from enlca.data.packed import NPY_HEADER, open_pack
from enlca.data.packing import write_pack
from enlca.data.pairs import training_pairs
from enlca.errors import PackError, PictureError


def noise(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).integers(0, 256, shape, dtype=np.uint8)


def put(pixels, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def pairs(folder, *names, hr="HR", lr="LR_x2"):
    """Pairs at x2, of a different picture each."""
    for seed, name in enumerate(names):
        put(noise(22, 26, 3, seed=seed), folder / hr / f"{name}.png")
        put(noise(11, 13, 3, seed=seed), folder / lr / f"{name}.png")


def test_a_good_folder_is_described_and_has_no_problems(tmp_path):
    put(noise(10, 20, 3), tmp_path / "a.png")
    put(noise(30, 40), tmp_path / "sub" / "b.png")
    put(noise(20, 30, 4), tmp_path / "sub" / "c.png")
    found = check_folder(tmp_path)
    [contents] = found.contents
    assert (contents.pictures, contents.megapixels, contents.scale) == (3, 0.002, None)
    assert (contents.smallest, contents.median, contents.largest) == ((20, 10), (30, 20), (40, 30))
    assert contents.modes == {"RGB": 1, "grey": 1, "RGB with transparency": 1}
    assert found.problems == []


@pytest.mark.parametrize(
    ("hr", "lr"),
    [
        ("HR", "LR_x2"),
        ("HR", "LR"),
        ("HR_x2", "LR_x2"),
        ("HR", "LR_bicubic/X2"),
        ("Some_HR", "Some_LR_x2"),
        ("DIV2K_train_HR", "DIV2K_train_LR_bicubic/X2"),
    ],
)
def test_pairs_are_found_in_the_usual_layouts(tmp_path, hr, lr):
    pairs(tmp_path / "Some", "a", "b", hr=hr, lr=lr)
    found = check_folder(tmp_path / "Some", scale=2, patch=11)
    [contents] = found.contents
    assert found.problems == []
    assert (contents.pictures, contents.scale) == (2, 2)
    assert hr in contents.layout
    assert lr in contents.layout


def test_both_halves_of_div2k_are_checked_and_must_not_overlap(tmp_path):
    for half in ("train", "valid"):
        pairs(tmp_path, half, hr=f"DIV2K_{half}_HR", lr=f"DIV2K_{half}_LR_bicubic/X2")
    found = check_folder(tmp_path)
    assert [contents.pictures for contents in found.contents] == [1, 1]
    [leak] = found.problems
    train, valid = tmp_path / "DIV2K_train_HR" / "train.png", tmp_path / "DIV2K_valid_HR" / "valid.png"
    assert leak == f"{valid}: the same picture as {train}"


def test_each_scale_that_there_are_lr_pictures_of_is_checked(tmp_path):
    pairs(tmp_path, "a", "b")
    for name in ("a", "b"):
        put(noise(7, 8, 3), tmp_path / "LR_x3" / f"{name}.png")
    put(noise(9, 9, 3), tmp_path / "LR_x3" / "a.png")
    found = check_folder(tmp_path)
    assert [contents.scale for contents in found.contents] == [2, 3]
    assert [problem.partition(": ")[0] for problem in found.problems] == [str(tmp_path / "LR_x3" / "a.png")]
    assert check_folder(tmp_path, scale=2).problems == []


def break_copy(folder):
    (folder / "HR" / "b.png").write_bytes((folder / "HR" / "a.png").read_bytes())


def thin_copy(folder):
    put(noise(20, 99, 3), folder / "HR" / "b.png")
    put(noise(10, 49, 3), folder / "LR_x2" / "b.png")


PROBLEMS = {
    "unreadable": (lambda f: (f / "HR" / "b.png").write_text("no"), "HR/b.png", "not a picture"),
    "cut short": (lambda f: (f / "LR_x2" / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n"), "LR_x2/b.png", "dam"),
    "twice": (break_copy, "HR/b.png", "the same picture as"),
    "size": (lambda f: put(noise(11, 12, 3), f / "LR_x2" / "b.png"), "LR_x2/b.png", "12x11 times 2 is not"),
    "no partner": (lambda f: (f / "LR_x2" / "b.png").unlink(), "HR/b.png", "has no partner"),
    "orphan": (lambda f: put(noise(11, 13, 3), f / "LR_x2" / "z.png"), "LR_x2/z.png", "belongs to no HR"),
    "too small": (thin_copy, "HR/b.png", "98x20 is too small, training needs at least 22 pixels a side"),
}  # fmt: skip


@pytest.mark.parametrize("case", PROBLEMS)
def test_each_thing_that_is_wrong_is_a_line_that_names_the_file(tmp_path, case):
    damage, name, reason = PROBLEMS[case]
    pairs(tmp_path, "a", "b", "c")
    assert check_folder(tmp_path, scale=2, patch=11).problems == []
    damage(tmp_path)
    [problem] = check_folder(tmp_path, scale=2, patch=11).problems
    assert problem.startswith(f"{tmp_path / name}: ")
    assert reason in problem
    assert "\n" not in problem


def test_the_same_pixels_are_the_same_picture_whatever_the_file(tmp_path):
    put(noise(16, 18), tmp_path / "grey.png")
    put(noise(16, 18)[..., None].repeat(3, axis=2), tmp_path / "rgb.bmp")
    # As many bytes in another shape are another picture.
    put(noise(16, 18).reshape(18, 16), tmp_path / "turned.png")
    [problem] = check_folder(tmp_path).problems
    assert problem == f"{tmp_path / 'rgb.bmp'}: the same picture as {tmp_path / 'grey.png'}"


@pytest.mark.parametrize("with_lr", [True, False])
def test_a_picture_may_be_there_once_for_each_scale(tmp_path, with_lr):
    for scale in (2, 3):
        put(noise(24, 24, 3), tmp_path / f"HR_x{scale}" / "a.png")
        if with_lr:
            put(noise(24 // scale, 24 // scale, 3), tmp_path / f"LR_x{scale}" / "a.png")
    assert check_folder(tmp_path).problems == []


def test_a_pack_is_checked_to_the_last_byte(tmp_path):
    pairs(tmp_path / "in", "a", "b")
    out = tmp_path / "pack"
    write_pack(tmp_path / "in", training_pairs(tmp_path / "in", 2), out, scale=2)
    found = check_folder(out, scale=2, patch=11)
    assert found.problems == []
    assert (found.contents[0].layout, found.contents[0].largest) == ("pack", (26, 22))
    assert len(check_folder(out, scale=2, patch=12).problems) == 2
    with pytest.raises(PackError, match="a pack for x2, not for x4"):
        check_folder(out, scale=4)
    path = open_pack(out).hr.paths[0]
    with open(path, "r+b") as file:
        file.seek(NPY_HEADER)
        file.write(bytes(9))
    [problem] = check_folder(out).problems
    assert problem.startswith(f"{out}: HR/a.png: its bytes are not those that were packed")


def test_progress_counts_every_file_once(tmp_path):
    pairs(tmp_path, "a", "b")
    seen = []
    check_folder(tmp_path, on_progress=lambda *step: seen.append(step))
    assert seen == [(done, 4) for done in range(5)]


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(PictureError, match="no pictures"):
        check_folder(tmp_path)
