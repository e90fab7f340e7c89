import os

import numpy as np
import pytest
from filelock import FileLock

from enlca.image.files import Picture, PictureError, read_image
from enlca.image.rows import rows_of
from enlca.inference import scratch
from enlca.inference.scratch import LOCK, Scratch, sweep

PICTURE = Picture(np.arange(105, dtype=np.uint8).reshape(7, 5, 3))


def test_a_picture_appears_whole_and_alone(tmp_path):
    Scratch().write(tmp_path / "a.png", rows_of(PICTURE), quality=95)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, PICTURE.pixels)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_picture_that_cannot_be_written_leaves_nothing_and_is_called_by_its_own_name(tmp_path):
    alpha = np.zeros((7, 5), dtype=np.uint8)
    with pytest.raises(PictureError) as refusal:
        Scratch().write(tmp_path / "a.jpg", rows_of(Picture(PICTURE.pixels, alpha)), quality=95)
    assert str(refusal.value).startswith(f"{tmp_path / 'a.jpg'}: ")
    assert list(tmp_path.iterdir()) == []


def test_what_is_abandoned_in_the_middle_is_gone_at_once_and_never_appears(tmp_path, monkeypatch):
    unfinished = Scratch()
    write = scratch.write_rows

    def abandoned(path, picture, *, quality):
        write(path, picture, quality=quality)
        assert len(list(tmp_path.iterdir())) == 1
        unfinished.abandon()
        assert list(tmp_path.iterdir()) == []

    monkeypatch.setattr(scratch, "write_rows", abandoned)
    with pytest.raises(OSError, match="No such file"):
        unfinished.write(tmp_path / "a.png", rows_of(PICTURE), quality=95)
    with pytest.raises(PictureError, match="stopped"):
        unfinished.write(tmp_path / "b.png", rows_of(PICTURE), quality=95)
    assert list(tmp_path.iterdir()) == []


def test_sweeping_takes_what_nobody_works_on_and_nothing_else(tmp_path, monkeypatch):
    write = scratch.write_rows

    def swept(path, picture, *, quality):
        sweep(tmp_path)
        return write(path, picture, quality=quality)

    for name in (".enlca-dead.part", ".enlca-new.part", "enlca-mine.part", ".enlca-mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "picture.png").touch()
    (tmp_path / ".enlca-fresh.part").touch()
    (tmp_path / ".enlca-old.part").touch()
    os.utime(tmp_path / ".enlca-old.part", times=(0, 0))
    monkeypatch.setattr(scratch, "write_rows", swept)
    with FileLock(tmp_path / ".enlca-new.part" / LOCK):
        Scratch().write(tmp_path / "a.png", rows_of(PICTURE), quality=95)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {".enlca-new.part", "enlca-mine.part", ".enlca-mine", ".enlca-fresh.part", "a.png"}


def test_sweeping_where_nothing_is_does_no_harm(tmp_path):
    sweep(tmp_path / "gone")
    sweep(tmp_path / ("x" * 300))
    assert list(tmp_path.iterdir()) == []
