import threading
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from enlca.errors import CheckpointError, StoreError
from enlca.image.picture import Picture, collect, read_image, rows_of
from enlca.inference import batch
from enlca.inference.batch import Settings
from enlca.inference.jobs import Job, Outcome
from enlca.inference.outputs import plan
from enlca.inference.target_size import Size
from enlca.inference.upscaler import Upscaler

H, W, S = 7, 5, 4
X4 = Size(scale=Fraction(S))


def noise(*shape):
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)


def run(jobs, up, **settings):
    """All jobs by one upscaler."""
    return batch.run(jobs, lambda scale: up.rows, size=X4, scales=[S], **settings)


@pytest.fixture(scope="module")
def up(tiny_model):
    return Upscaler(tiny_model, device="cpu")


@pytest.fixture
def photos(tmp_path):
    """A folder with two pictures and a text."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "b.jpg"):
        Image.fromarray(noise(H, W, 3)).save(folder / name)
    (folder / "notes.txt").write_text("not a picture")
    return folder


def test_pictures_are_written_and_reported_in_order(photos, tmp_path, up):
    jobs, _ = plan([photos], tmp_path / "new" / "out", size=X4)
    calls = []
    outcomes = list(run(jobs, up, progress=lambda what, done, total: calls.append((what, done, total))))
    assert calls[0] == ("a.png", 0, 2)
    assert ("b.jpg", 1, 2) in calls
    assert calls[-1] == ("b.jpg", 2, 2)
    assert [done for _, done, _ in calls] == sorted(done for _, done, _ in calls)
    assert [outcome.source for outcome in outcomes] == [str(job.source) for job in jobs]
    for job, outcome in zip(jobs, outcomes, strict=True):
        made = read_image(job.target)
        np.testing.assert_array_equal(made.pixels, up(job.source).pixels)
        assert (outcome.target, outcome.width, outcome.height) == (str(job.target), S * W, S * H)
        assert outcome.error is None
        assert outcome.seconds is not None
        assert outcome.seconds >= 0


def test_one_picture_that_fails_does_not_stop_the_others(photos, tmp_path, up):
    (photos / "broken.png").write_text("dear diary")
    Image.fromarray(noise(H, W, 4)).save(photos / "clear.png")
    jobs, _ = plan([photos, photos / "gone.png"], tmp_path / "out", size=X4, suffix=".jpg")
    outcomes = {outcome.source: outcome.error for outcome in run(jobs, up)}
    failed = {source: error for source, error in outcomes.items() if error}
    assert failed.keys() == {str(photos / name) for name in ("broken.png", "clear.png", "gone.png")}
    assert "transparency" in failed[str(photos / "clear.png")]
    assert failed[str(photos / "gone.png")] == f"{photos / 'gone.png'}: no such file"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a_x4.jpg", "b_x4.jpg"]


def test_a_folder_that_cannot_be_made_is_named(photos, tmp_path, up):
    (tmp_path / "file").touch()
    [outcome] = run([Job(photos / "a.png", tmp_path / "file" / "a.png")], up)
    assert outcome.error is not None
    assert str(tmp_path / "file") in outcome.error


def allocator(text):
    return RuntimeError(f"[enforce fail at alloc_cpu.cpp:127] err == 0. {text}")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        allocator("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    ],
    ids=["python", "cuda", "cpu"],
)
def test_a_picture_too_large_for_the_memory_is_named_and_does_not_stop_the_others(
    photos, tmp_path, tiny_model, monkeypatch, error
):
    up = Upscaler(tiny_model, device="cpu")
    rows = up.rows

    errors = [error]

    def first_fails(given, **settings):
        if errors:
            raise errors.pop()
        return rows(given, **settings)

    monkeypatch.setattr(up, "rows", first_fails)
    first, second = run(plan([photos], tmp_path, size=X4)[0], up)
    assert first.error == f"{photos / 'a.png'}: too large for the memory of this machine"
    assert second.error is None


def test_mistakes_of_our_own_are_not_hidden(photos, tmp_path, tiny_model, monkeypatch):
    up = Upscaler(tiny_model, device="cpu")

    def fail(given, **settings):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(up, "rows", fail)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        list(run(plan([photos], tmp_path, size=X4)[0], up))
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_what_exists_is_skipped_and_stays_in_its_place_in_the_list(photos, tmp_path, up):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a_x4.png").write_bytes(b"whole")
    started = set()
    jobs, _ = plan([photos], tmp_path / "out", size=X4, existing="skip")
    first, second = run(jobs, up, progress=lambda what, done, total: started.add((what, total)))
    assert first == Outcome(str(jobs[0].source), str(jobs[0].target), skipped=True)
    assert (second.target, second.skipped) == (str(jobs[1].target), False)
    assert started == {("b.jpg", 1)}
    assert jobs[0].target.read_bytes() == b"whole"


def test_pictures_are_read_ahead_and_written_behind_while_one_is_upscaled(photos, tmp_path, monkeypatch):
    for name in "cdefg":
        Image.fromarray(noise(H, W, 3)).save(photos / f"{name}.png")
    n_read, n_written = threading.Semaphore(0), threading.Semaphore(0)
    read, write = batch.open_image, batch.write_rows

    def counted_read(path, **settings):
        n_read.release()
        return read(path, **settings)

    def counted_write(*args, **settings):
        remarks = write(*args, **settings)
        n_written.release()
        return remarks

    monkeypatch.setattr(batch, "open_image", counted_read)
    monkeypatch.setattr(batch, "write_rows", counted_write)
    number = 0

    def slowly(rows, **settings):
        nonlocal number
        number += 1
        # By now the next ones have been read, and those before this one are written, or this waits for ever.
        for _ in range(3 if number == 1 else number <= 5):
            assert n_read.acquire(timeout=60)
        if number > 1:
            assert n_written.acquire(timeout=60)
        return rows_of(Picture(collect(rows).pixels.repeat(S, axis=0).repeat(S, axis=1)))

    outcomes = list(
        batch.run(plan([photos], tmp_path, size=X4)[0], lambda scale: slowly, size=X4, scales=[S])
    )
    assert [outcome.error for outcome in outcomes] == [None] * 7


@pytest.mark.parametrize(("suffix", "limit"), [(".webp", 16383), (".jpg", 65535)])
def test_a_side_too_long_for_the_format_is_known_before_the_work(photos, tmp_path, suffix, limit):
    def never(scale):
        raise AssertionError

    size = Size(width=limit + 1, height=9)
    first, _ = batch.run(
        plan([photos], tmp_path / "out", size=size, suffix=suffix)[0], never, size=size, scales=[S]
    )
    assert f"at most {limit} pixels a side, this picture would be {limit + 1}x9" in str(first.error)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["Fotos für Ægir 写真", "a b\nc", "[1] {stem} 100%"])
def test_names_may_hold_anything(photos, tmp_path, up, name):
    (photos / "a.png").rename(photos / f"{name}.png")
    folder = photos.rename(tmp_path / name)
    (tmp_path / f"{name} out").mkdir()
    outcomes = list(run(plan([folder], tmp_path / f"{name} out", size=X4)[0], up))
    assert [outcome.error for outcome in outcomes] == [None, None]
    assert (tmp_path / f"{name} out" / f"{name}_x4.png").is_file()


def test_a_full_disk_is_one_line_for_each_picture_and_nothing_is_lost(photos, tmp_path, up, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a_x4.png").write_bytes(b"before")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    settings = Settings(overwrite=True)
    outcomes = list(run(plan([photos], tmp_path / "out", size=X4)[0], up, settings=settings))
    assert [outcome.error for outcome in outcomes] == [
        f"{tmp_path / 'out' / name}: cannot be written: No space left on device"
        for name in ("a_x4.png", "b_x4.png")
    ]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a_x4.png"]
    assert (tmp_path / "out" / "a_x4.png").read_bytes() == b"before"


def test_a_picture_for_whose_features_there_is_no_room_is_named(photos, tmp_path):
    def full(rows, **settings):
        raise StoreError("/tmp: no room")

    outcomes = list(batch.run(plan([photos], tmp_path, size=X4)[0], lambda scale: full, size=X4, scales=[S]))
    assert [outcome.error for outcome in outcomes] == [
        f"{photos / name}: /tmp: no room" for name in ("a.png", "b.jpg")
    ]


def test_a_folder_without_permission_is_known_before_the_work(photos, tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    first, _ = batch.run(
        plan([photos], tmp_path, size=X4)[0], lambda scale: lambda rows, **_: rows, size=X4, scales=[S]
    )
    assert first.error == f"{tmp_path / 'a_x4.png'}: Permission denied"


def test_a_missing_network_is_not_the_fault_of_a_picture(photos, tmp_path):
    def load(scale):
        raise CheckpointError("damaged.safetensors: does not fit")

    with pytest.raises(CheckpointError, match="damaged"):
        list(batch.run(plan([photos], tmp_path, size=X4)[0], load, size=X4, scales=[S]))


def test_who_stops_listening_leaves_nothing_unfinished(photos, tmp_path, up):
    outcomes = run(plan([photos], tmp_path / "out", size=X4)[0], up)
    assert next(outcomes).error is None
    outcomes.close()
    assert not list((tmp_path / "out").glob(".*"))
