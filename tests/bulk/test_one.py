"""One picture from store to store."""

import io
from dataclasses import replace

import numpy as np
import pytest
from obstore import exceptions
from PIL import Image

from enlca.bulk import stores
from enlca.bulk.addresses import place_of
from enlca.bulk.job import reason_of
from enlca.bulk.one import one
from enlca.bulk.origins import Objects
from enlca.bulk.stores import check_create_only, open_store, put, retried
from enlca.errors import BulkError
from enlca.image.picture import read_image

from .conftest import H, S, W, picture


@pytest.fixture
def memory():
    return open_store("memory://"), open_store("memory://")


def keys(store):
    return sorted(item["path"] for page in store.list() for item in page)


def test_an_object_becomes_another(memory, work):
    source, target = memory
    source.put("deep/ä b.png", picture(0))
    outcome = one(Objects(source), "deep/ä b.png", target, work)
    assert (outcome.source, outcome.target) == ("deep/ä b.png", "deep/ä b_png_x4.png")
    assert (outcome.width, outcome.height, outcome.error) == (S * W, S * H, None)
    made = read_image(bytes(target.get(outcome.target).bytes())).pixels
    np.testing.assert_array_equal(made[::S, ::S], read_image(picture(0)).pixels)
    assert keys(target) == [outcome.target]


def test_what_exists_is_left_alone_and_not_computed(memory, work):
    source, target = memory
    source.put("a.png", picture(0))
    target.put("a_png_x4.png", b"before")
    assert one(Objects(source), "a.png", target, work).skipped
    assert bytes(target.get("a_png_x4.png").bytes()) == b"before"


def test_of_two_workers_at_one_picture_the_first_writes(memory, work, monkeypatch):
    source, target = memory
    source.put("a.png", picture(0))
    monkeypatch.setattr("enlca.bulk.one.exists", lambda *_: False)
    target.put("a_png_x4.png", b"the first")
    assert one(Objects(source), "a.png", target, work).skipped
    assert bytes(target.get("a_png_x4.png").bytes()) == b"the first"


def test_a_damaged_picture_is_a_row_that_names_its_key(memory, work):
    source, target = memory
    source.put("deep/a.png", picture(0)[:60])
    source.put("b.png", b"dear diary")
    first, second = (one(Objects(source), key, target, work) for key in ("deep/a.png", "b.png"))
    assert first.error is not None
    assert second.error is not None
    assert first.error.startswith("deep/a.png: damaged or cut short, get a whole copy of it (")
    assert reason_of(first.error, "deep/a.png") == "damaged or cut short, get a whole copy of it"
    assert second.error.startswith("b.png: not a picture in a format")
    assert one(Objects(source), "gone.png", target, work).error == "gone.png: no such object any more"
    assert keys(target) == []


def test_what_a_format_cannot_hold_is_one_reason_for_all_pictures(memory, work):
    source, target = memory
    file = io.BytesIO()
    Image.new("RGBA", (W, H), (1, 2, 3, 4)).save(file, "PNG")
    for key in ("a.png", "deep/b.png"):
        source.put(key, file.getvalue())
    jpeg = replace(work, suffix=".jpg")
    errors = [one(Objects(source), key, target, jpeg).error or "" for key in ("a.png", "deep/b.png")]
    assert errors[0].startswith("a.png: ")
    assert errors[1].startswith("deep/b.png: ")
    assert reason_of(errors[0], "a.png") == reason_of(errors[1], "deep/b.png")


@pytest.mark.parametrize("error", [PermissionError(), OSError(13, "denied"), "Generic error: (os error 13)"])
def test_a_file_that_may_not_be_read_is_an_outcome_at_once(memory, work, error, monkeypatch):
    monkeypatch.setattr(stores, "PAUSES", (1e9,))

    class Closed:
        def get(self, key):
            raise exceptions.GenericError(error) if isinstance(error, str) else error

    outcome = one(Objects(Closed()), "a.png", memory[1], work)
    assert (outcome.error or "").startswith("a.png: not permitted: ")
    assert "None" not in (outcome.error or "")


def test_a_folder_that_cannot_be_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BulkError, match=r"file/out: no folder that can be written: "):
        open_store(f"{tmp_path}/file/out", make=True)


def test_the_longest_name_of_a_file_has_a_result(tmp_path, work):
    (tmp_path / "in").mkdir()
    names = [f"{'ä' * 120}{end}.jpeg" for end in ("ab", "ba")]
    for name in names:
        (tmp_path / "in" / name).write_bytes(picture(0))
    source, target = Objects(open_store(str(tmp_path / "in"))), open_store(str(tmp_path / "out"), make=True)
    outcomes = [one(source, name, target, work) for name in names]
    assert [outcome.error for outcome in outcomes] == [None, None]
    assert keys(target) == sorted(outcome.target for outcome in outcomes)


def test_names_never_meet(work):
    names = ["a_b.png", "a.b_png", "a_b_png", "a.png_b", "a.PNG", "a.png", "a_png", "a_", "a"]
    addresses = [f"https://host/{name}" for name in names]
    made = {work.target(place_of(address)) for address in addresses}
    assert len(made) == len(names)


def test_transport_errors_are_retried_and_answers_are_not():
    from obstore.exceptions import GenericError

    calls = []

    def failing(times, error):
        calls.clear()

        def call():
            calls.append(1)
            if len(calls) <= times:
                raise error
            return "done"

        return call

    assert retried(failing(2, GenericError("reset\n\nDebug source:")), pauses=(0.0, 0.0)) == "done"
    with pytest.raises(ConnectionError, match=r"^reset$"):
        retried(failing(3, GenericError("reset\n\nDebug source:")), pauses=(0.0, 0.0))
    with pytest.raises(FileNotFoundError):
        retried(failing(9, FileNotFoundError("no")), pauses=(0.0, 0.0))
    assert len(calls) == 1


def test_a_store_that_replaces_though_asked_to_create_is_refused(monkeypatch):
    store = open_store("memory://")
    check_create_only(store, "memory://")
    assert keys(store) == []

    class Careless:
        def __init__(self):
            self.objects = {}

        def put(self, key, content, **_):
            self.objects[key] = content

        def delete(self, key):
            del self.objects[key]

    with pytest.raises(BulkError, match="could be written twice; --allow-overwrite accepts that"):
        check_create_only(Careless(), "s3://careless")


@pytest.mark.parametrize("url", ["ftp://x/y", "no/such/folder", "gs://bucket"])
def test_a_url_that_cannot_be_used_is_one_line(url, monkeypatch):
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    with pytest.raises(BulkError) as caught:
        open_store(url)
    assert str(caught.value).startswith(f"{url}: ")


def test_put_creates_once(monkeypatch):
    monkeypatch.setattr(stores, "PAUSES", ())
    store = open_store("memory://")
    assert put(store, "a", b"one")
    assert not put(store, "a", b"two")
    assert put(store, "a", b"three", replace=True)
    assert bytes(store.get("a").bytes()) == b"three"
