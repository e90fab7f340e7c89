import numpy as np
import pytest
import torch
from PIL import Image

from enlca.image.files import read_image
from enlca.inference.jobs import Job, JobError, plan, run
from enlca.inference.upscaler import Upscaler

H, W, S = 7, 5, 4


def noise(*shape):
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)


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


def targets(inputs, out, **settings):
    jobs, failed = plan(inputs, out, scale=S, **settings)
    assert failed == []
    return [job.target for job in jobs]


def test_without_an_output_each_picture_gets_a_neighbour(photos):
    assert targets([photos / "a.png"], None) == [photos / "a_x4.png"]
    assert targets([photos], None) == [photos / "a_x4.png", photos / "b_x4.png"]
    assert targets([photos / "a.png"], None, suffix=".webp") == [photos / "a_x4.webp"]


def test_a_file_as_output_is_taken_as_it_is(photos, tmp_path):
    assert targets([photos / "a.png"], tmp_path / "new" / "large.JPG") == [tmp_path / "new" / "large.JPG"]


@pytest.mark.parametrize("name", ["out", "out.png"])
def test_a_folder_as_output_receives_everything_whatever_its_name(photos, tmp_path, name):
    (tmp_path / name).mkdir()
    assert targets([photos], tmp_path / name) == [tmp_path / name / "a_x4.png", tmp_path / name / "b_x4.png"]


def test_a_folder_as_output_need_not_exist(photos, tmp_path):
    assert targets([photos / "a.png"], tmp_path / "new") == [tmp_path / "new" / "a_x4.png"]


def test_an_input_given_twice_is_enlarged_once(photos):
    assert targets([photos / "a.png", photos], None) == [photos / "a_x4.png", photos / "b_x4.png"]


def test_several_inputs_do_not_fit_into_one_file(photos, tmp_path):
    for inputs in ([photos], [photos / "a.png", photos / "b.jpg"]):
        with pytest.raises(JobError, match=r"large\.png names one file, but there is more than one input"):
            plan(inputs, tmp_path / "large.png", scale=S)


def test_two_inputs_never_become_one_file(photos, tmp_path):
    (tmp_path / "more").mkdir()
    Image.fromarray(noise(H, W)).save(tmp_path / "more" / "a.png")
    with pytest.raises(
        JobError, match=r"photos/a\.png and .*more/a\.png would both be written to .*a_x4\.png"
    ):
        plan([photos, tmp_path / "more"], tmp_path / "out", scale=S)
    Image.fromarray(noise(H, W)).save(photos / "b.png")
    with pytest.raises(JobError, match="would both be written to"):
        plan([photos], None, scale=S)


def test_an_input_is_never_overwritten(photos, tmp_path):
    (tmp_path / "link").symlink_to(photos)
    for target in (photos / "a.png", tmp_path / "link" / "a.png"):
        with pytest.raises(JobError, match="is an input and would be overwritten"):
            plan([photos / "a.png"], target, scale=S)
    Image.fromarray(noise(H, W)).save(photos / "a_x4.png")
    with pytest.raises(JobError, match=r"a_x4\.png is an input"):
        plan([photos], None, scale=S)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("large.gif", r"cannot write \.gif; choose from \.png"), ("notes.txt", r"cannot write \.txt")],
)
def test_a_format_that_cannot_be_written_is_refused(photos, name, reason):
    with pytest.raises(JobError, match=reason):
        plan([photos / "a.png"], photos / name, scale=S)


def test_a_file_is_no_folder(photos, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(JobError, match="is a file, not a folder"):
        plan([photos / "a.png"], tmp_path / "file", scale=S)


def test_a_folder_without_pictures_is_a_failure_that_stops_nothing(photos, tmp_path):
    (tmp_path / "empty").mkdir()
    jobs, [failed] = plan([tmp_path / "empty", photos / "a.png"], None, scale=S)
    assert jobs == [Job(photos / "a.png", photos / "a_x4.png")]
    assert failed.source == str(tmp_path / "empty")
    assert failed.error is not None
    assert "no pictures" in failed.error


def test_pictures_are_written_and_reported_in_order(photos, tmp_path, up):
    jobs, _ = plan([photos], tmp_path / "new" / "out", scale=S)
    started = []
    outcomes = list(run(jobs, up, on_start=started.append))
    assert started == jobs
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
    jobs, _ = plan([photos, photos / "gone.png"], tmp_path / "out", scale=S, suffix=".jpg")
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
    picture = up.picture

    def first_fails(given):
        monkeypatch.setattr(up, "picture", picture)
        raise error

    monkeypatch.setattr(up, "picture", first_fails)
    first, second = run(plan([photos], tmp_path, scale=S)[0], up)
    assert first.error == f"{photos / 'a.png'}: too large for the memory of this machine"
    assert second.error is None


def test_mistakes_of_our_own_are_not_hidden(photos, tmp_path, tiny_model, monkeypatch):
    up = Upscaler(tiny_model, device="cpu")

    def fail(given):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(up, "picture", fail)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        list(run(plan([photos], tmp_path, scale=S)[0], up))
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]
