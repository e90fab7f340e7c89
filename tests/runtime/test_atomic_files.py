import os

import numpy as np
import pytest
from filelock import FileLock

from enlca.errors import PictureError, Stopped
from enlca.image.files import write_rows
from enlca.image.picture import Picture, read_image, rows_of, write_image
from enlca.runtime import files
from enlca.runtime.files import LOCK, PartialFiles, atomic_path, cache_dir, sweep, write_atomically

PICTURE = Picture(np.arange(105, dtype=np.uint8).reshape(7, 5, 3))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_and_alone(tmp_path):
    write_image(tmp_path / "a.png", PICTURE)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, PICTURE.pixels)
    assert names(tmp_path) == ["a.png"]


def test_a_name_as_long_as_a_name_can_be_is_written(tmp_path):
    path = tmp_path / ("x" * 255)
    write_atomically(path, b"content")
    assert path.read_bytes() == b"content"


def test_a_picture_that_cannot_be_written_leaves_nothing_and_is_called_by_its_own_name(tmp_path):
    alpha = np.zeros((7, 5), dtype=np.uint8)
    with pytest.raises(PictureError) as refusal:
        write_rows(tmp_path / "a.jpg", rows_of(Picture(PICTURE.pixels, alpha)), partial=PartialFiles())
    assert str(refusal.value).startswith(f"{tmp_path / 'a.jpg'}: ")
    assert names(tmp_path) == []


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail():
        with atomic_path(path) as part:
            part.write_text("new")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_an_abandoned_file_is_removed_at_once_and_never_appears(tmp_path):
    partial = PartialFiles()

    def abandoned():
        with partial.atomic_path(tmp_path / "a.txt") as part:
            part.write_text("whole")
            assert len(names(tmp_path)) == 1
            partial.abandon()
            assert names(tmp_path) == []

    with pytest.raises(OSError, match="No such file"):
        abandoned()
    with pytest.raises(Stopped, match="stopped"):
        write_rows(tmp_path / "b.png", rows_of(PICTURE), partial=partial)
    assert names(tmp_path) == []


def test_sweeping_removes_what_is_not_locked_and_nothing_else(tmp_path):
    for name in (".enlca-dead.part", ".enlca-new.part", "enlca-mine.part", ".enlca-mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "picture.png").touch()
    (tmp_path / ".enlca-fresh.part").touch()
    (tmp_path / ".enlca-old.part").touch()
    os.utime(tmp_path / ".enlca-old.part", times=(0, 0))
    with (
        FileLock(tmp_path / ".enlca-new.part" / LOCK),
        atomic_path(tmp_path / "a.txt") as part,
    ):
        sweep(tmp_path)
        part.touch()
    left = set(names(tmp_path))
    assert left == {".enlca-new.part", "enlca-mine.part", ".enlca-mine", ".enlca-fresh.part", "a.txt"}


def test_sweeping_an_empty_or_missing_folder_does_no_harm(tmp_path):
    sweep(tmp_path / "gone")
    sweep(tmp_path / ("x" * 300))
    assert names(tmp_path) == []


def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(files.os, "fsync", lambda handle: calls.append("fsync"))
    replace = os.replace
    monkeypatch.setattr(files.os, "replace", lambda *paths: (calls.append("replace"), replace(*paths)))
    write_atomically(tmp_path / "a.txt", b"content")
    assert calls == ["fsync", "replace"]


def test_the_cache_is_where_the_system_has_it(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "enlca"


def test_without_a_home_there_is_no_cache(monkeypatch):
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: files.Path("~/.cache/enlca"))
    with pytest.raises(OSError, match="not an absolute path"):
        cache_dir()


def test_a_user_whom_the_system_does_not_know_has_no_cache(monkeypatch):
    def unknown(*_, **__):
        raise RuntimeError("could not determine the home directory for '~/.cache'")

    monkeypatch.setattr("platformdirs.user_cache_path", unknown)
    with pytest.raises(OSError, match="no cache directory: could not determine"):
        cache_dir()
