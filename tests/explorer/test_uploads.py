"""Only folders that were made here are deleted, and only files that were received here are opened."""

from pathlib import Path

import pytest

from enlca.errors import PictureError
from enlca.explorer.uploads import OwnFolder, Uploads


@pytest.fixture
def uploads(tmp_path) -> Uploads:
    return Uploads(tmp_path.resolve())


def received(uploads: Uploads, name: str = "noise.png") -> Path:
    folder = uploads.folder()
    path = folder.path / "hash" / name
    path.parent.mkdir()
    path.write_bytes(b"picture")
    uploads.add(path, folder)
    return path


def test_a_folder_removes_itself_with_everything_in_it(tmp_path):
    folder = OwnFolder(tmp_path)
    (folder.path / "x.png").touch()
    folder.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_has_taken_the_place_of_ours_stays(tmp_path):
    folder = OwnFolder(tmp_path)
    folder.path.rename(tmp_path / "moved")
    folder.path.mkdir()
    (folder.path / "precious.png").touch()
    folder.remove()
    assert (folder.path / "precious.png").exists()


def test_what_a_link_in_the_place_of_our_folder_leads_to_stays(tmp_path):
    (precious := tmp_path / "precious").mkdir()
    folder = OwnFolder(tmp_path)
    folder.path.rmdir()
    folder.path.symlink_to(precious)
    folder.remove()
    assert precious.exists()


def test_a_folder_is_removed_once(tmp_path):
    folder = OwnFolder(tmp_path)
    folder.remove()
    folder.path.mkdir()
    folder.remove()
    assert folder.path.exists()


def test_an_upload_is_opened_once_and_then_deleted(uploads):
    path = received(uploads)
    with uploads.claimed(str(path)) as file:
        assert file.read_bytes() == b"picture"
    assert list(uploads.root.iterdir()) == []
    with pytest.raises(PictureError, match="no upload"), uploads.claimed(str(path)):
        pass


def test_an_upload_that_cannot_be_read_is_deleted_all_the_same(uploads):
    with pytest.raises(ZeroDivisionError), uploads.claimed(str(received(uploads))):
        raise ZeroDivisionError
    assert list(uploads.root.iterdir()) == []


def test_other_paths_are_no_uploads_and_nothing_of_them_is_deleted(uploads, picture):
    path = received(uploads)
    others = (uploads.root, path.parent, path.parent.parent, picture, "", None, 5, [str(path)], "https://a/b")
    for other in (*others, f"{path.parent}/../hash/noise.png"):
        asked = str(other) if isinstance(other, Path) else other
        assert asked not in uploads
        with pytest.raises(PictureError, match="no upload"), uploads.claimed(asked):
            pass
    assert path.exists()
    assert picture.exists()


def test_a_file_that_became_a_link_is_not_followed(uploads, picture):
    path = received(uploads)
    path.unlink()
    path.symlink_to(picture)
    with pytest.raises(PictureError, match="has changed"), uploads.claimed(str(path)):
        pass
    assert picture.exists()


def test_only_regular_files_in_their_own_folder_are_received(uploads, picture):
    folder, other = uploads.folder(), uploads.folder()
    (inside := folder.path / "hash").mkdir()
    (link := inside / "link.png").symlink_to(picture)
    (flat := folder.path / "flat.png").touch()
    (foreign := other.path / "hash").mkdir()
    (foreign / "x.png").touch()
    for path in (link, flat, inside, picture, foreign / "x.png", inside / "none.png"):
        with pytest.raises(ValueError, match="not a file of the upload"):
            uploads.add(path, folder)


def test_the_oldest_of_many_uploads_goes_and_at_the_end_all_go(tmp_path):
    uploads = Uploads(tmp_path.resolve(), most=2)
    paths = [received(uploads) for _ in range(3)]
    assert [path.exists() for path in paths] == [False, True, True]
    assert [str(path) in uploads for path in paths] == [False, True, True]
    uploads.close()
    assert list(tmp_path.iterdir()) == []
