"""What visitors open is bounded, and gone when they go."""

import pytest
import torch
from torch import nn

from enlca.analysis.correlation import View
from enlca.errors import NothingOpen, Stopped
from enlca.explorer.session import Job, OpenPicture, ViewCache, Visitors
from enlca.image.picture import read_image

BYTES = 2 * 4 * 100


def view() -> View:
    return View(torch.zeros(10, 10), torch.zeros(10, 10), 2, 5, nn.Identity())


@pytest.fixture
def visitors(tmp_path, picture):
    def with_picture(most=40):
        known = Visitors(tmp_path, most=most)
        return known, lambda name: known.of(name).open(OpenPicture("noise.png", read_image(picture)))

    return with_picture


def test_the_visitor_who_was_idle_longest_is_forgotten_with_all_files(visitors):
    known, arrive = visitors(most=2)
    arrive("a")
    folder, work = known.of("a").folder, Job()
    (folder / "x.png").touch()
    known.of("a").jobs["upscaling"] = work
    arrive("b")
    arrive("c")
    assert len(known) == 2
    assert not folder.exists()
    with pytest.raises(Stopped):
        work.check()
    with pytest.raises(NothingOpen):
        known.of("a").picture()


def test_who_comes_back_is_not_the_idle_one(visitors):
    known, arrive = visitors(most=2)
    for name in ("a", "b"):
        arrive(name)
    known.of("a")
    arrive("c")
    assert known.of("a").opened is not None


def test_folders_go_when_a_visitor_leaves_and_at_the_end(visitors, tmp_path):
    known, arrive = visitors()
    for name in ("a", "b"):
        arrive(name)
    folder = known.of("a").folder
    (folder / "x.png").touch()
    known.forget("a")
    assert not folder.exists()
    assert known.of("b").folder.exists()
    known.close()
    assert list(tmp_path.iterdir()) == []
    known.forget("never there")


def test_only_files_of_visitors_who_are_here_may_be_fetched(visitors, tmp_path):
    known, arrive = visitors()
    arrive("a")
    folder = known.of("a").folder
    (outside := tmp_path / "outside.png").touch()
    (inside := folder / "x.png").touch()
    (folder / "link.png").symlink_to(outside)
    assert known.may_fetch(str(inside))
    others = (outside, folder, folder / "link.png", folder / "none.png", tmp_path, "x.png", "")
    for path in (*others, f"{folder}/../outside.png", f"{folder}/./x.png", f"{inside}\0"):
        assert not known.may_fetch(str(path)), path
    known.forget("a")
    assert not known.may_fetch(str(inside))


def test_views_of_one_visitor_are_bounded(visitors):
    known, arrive = visitors()
    arrive("a")
    shelf, owner = ViewCache(of_one=2 * BYTES, in_all=10 * BYTES), known.of("a")
    for key in range(5):
        shelf.get(owner, key, view)
    assert shelf.nbytes == 2 * BYTES
    made = []
    shelf.get(owner, 4, lambda: made.append(1) or view())
    shelf.get(owner, 0, lambda: made.append(2) or view())
    assert made == [2]


def test_all_views_together_are_bounded(visitors):
    known, arrive = visitors()
    shelf = ViewCache(of_one=2 * BYTES, in_all=3 * BYTES)
    for name in "abcde":
        arrive(name)
        for key in range(2):
            shelf.get(known.of(name), key, view)
    assert shelf.nbytes == 3 * BYTES


def test_a_view_that_is_too_large_is_answered_and_not_kept(visitors):
    known, arrive = visitors()
    arrive("a")
    shelf = ViewCache(of_one=BYTES - 1, in_all=10 * BYTES)
    assert shelf.get(known.of("a"), 0, view).height == 2
    assert shelf.nbytes == 0


def test_a_view_computed_for_a_visitor_who_has_left_is_not_kept(visitors):
    known, arrive = visitors()
    arrive("a")
    owner = known.of("a")

    def leaving() -> View:
        known.forget("a")
        return view()

    known.views.get(owner, 0, leaving)
    assert known.views.nbytes == 0


def test_a_new_picture_ends_the_work_on_the_old_one(visitors):
    known, arrive = visitors()
    arrive("a")
    known.of("a").begin("upscaling")
    old = known.of("a").jobs["upscaling"]
    arrive("a")
    with pytest.raises(Stopped):
        old.check()


def test_points_stay_inside(visitors):
    known, arrive = visitors()
    arrive("a")
    assert known.of("a").point == (11, 15)
    assert known.of("a").point_at(-3, 1000) == (0, 30)
