import gc
import os
import sqlite3
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from enlca.errors import JobError, StoreError
from enlca.inference.jobs import Job
from enlca.inference.naming import Found
from enlca.inference.outputs import plan
from enlca.inference.target_size import Size

H, W, S = 7, 5, 4
X4 = Size(scale=Fraction(S))


def noise(*shape):
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def photos(tmp_path):
    """A folder with two pictures and a text."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "b.jpg"):
        Image.fromarray(noise(H, W, 3)).save(folder / name)
    (folder / "notes.txt").write_text("not a picture")
    return folder


@pytest.fixture
def tree(photos):
    """The same, with a folder below it that holds another picture called a."""
    (photos / "deep" / "er").mkdir(parents=True)
    Image.fromarray(noise(H, W)).save(photos / "deep" / "er" / "a.png")
    return photos


def targets(inputs, out, **settings):
    jobs, failed = plan(inputs, out, size=X4, **settings)
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


def test_an_input_given_twice_is_upscaled_once(photos):
    assert targets([photos / "a.png", photos], None) == [photos / "a_x4.png", photos / "b_x4.png"]


def test_several_inputs_do_not_fit_into_one_file(photos, tmp_path):
    for inputs in ([photos], [photos / "a.png", photos / "b.jpg"]):
        with pytest.raises(JobError, match=r"large\.png names one file, but there is more than one input"):
            plan(inputs, tmp_path / "large.png", size=X4)


def names(jobs):
    return [(job.source.name, job.target.name) for job in jobs]


def test_two_inputs_never_become_one_file_and_the_others_are_done(photos, tmp_path):
    (tmp_path / "more").mkdir()
    Image.fromarray(noise(H, W)).save(tmp_path / "more" / "a.png")
    jobs, [failed] = plan([photos, tmp_path / "more"], tmp_path / "out", size=X4)
    assert names(jobs) == [("a.png", "a_png_x4.png"), ("b.jpg", "b_x4.png")]
    assert failed.source == str(tmp_path / "more" / "a.png")
    assert failed.error.startswith(
        f"{failed.source}: would be written to {tmp_path / 'out' / 'a_png_x4.png'}"
    )
    assert f"as {photos / 'a.png'} is; name the outputs by what differs: {{folder}}" in failed.error
    # As the hint says.
    jobs, failed = plan([photos, tmp_path / "more"], Path(f"{tmp_path}/out/{{folder}}/{{stem}}.png"), size=X4)
    assert (len(jobs), failed) == (3, [])


def test_files_of_one_stem_are_told_apart_by_their_extensions(photos, tmp_path):
    for name in ("b.png", "b.JPG"):
        Image.fromarray(noise(H, W)).save(photos / name)
    both = [
        ("a.png", "a_x4.png"),
        ("b.JPG", "b_JPG_x4.png"),
        ("b.jpg", "b_jpg_x4.png"),
        ("b.png", "b_png_x4.png"),
    ]
    for out in (None, tmp_path / "out", Path("{folder}/{stem}_{size}{suffix}")):
        jobs, failed = plan([photos], out, size=X4)
        assert (names(jobs), failed) == (both, [])
    # Those that exist are found under these names.
    (photos / "b_png_x4.png").touch()
    jobs, _ = plan([photos], None, size=X4, existing="skip")
    assert [(job.target.name, job.skip) for job in jobs if job.skip] == [("b_png_x4.png", True)]


def test_a_name_that_is_made_to_differ_does_not_take_that_of_another_file(photos, tmp_path):
    for name in ("b.png", "b_jpg.png"):
        Image.fromarray(noise(H, W)).save(photos / name)
    jobs, failed = plan([photos], tmp_path / "out", size=X4)
    assert failed == []
    assert dict(names(jobs)) == {
        "a.png": "a_x4.png",
        "b.jpg": "b_jpg_x4.png",
        "b.png": "b_png_x4.png",
        "b_jpg.png": "b_jpg_png_x4.png",
    }


def test_a_pattern_without_what_differs_keeps_the_first_and_names_the_others(photos, tmp_path):
    jobs, [failed] = plan([photos], tmp_path / "large_{size}.png", size=X4)
    assert names(jobs) == [("a.png", "large_x4.png")]
    assert failed.source == str(photos / "b.jpg")


def test_files_that_are_no_pictures_are_counted_and_the_first_named(photos, tmp_path, monkeypatch):
    for name in ("x.psd", "y.PSD", ".hidden"):
        (photos / name).touch()
    for inputs in ([photos], [photos / "*"]):
        jobs, failed = plan(inputs, tmp_path / "out", size=X4)
        assert (len(jobs), failed) == (2, [])
        assert jobs.unread.suffixes == {".txt": 1, ".psd": 2}
        assert sorted(jobs.unread.names) == [str(photos / name) for name in ("notes.txt", "x.psd", "y.PSD")]
    monkeypatch.setattr("enlca.inference.jobs.NAMED", 1)
    unread = plan([photos], None, size=X4)[0].unread
    assert (len(unread), len(unread.names)) == (3, 1)


def test_inputs_named_like_results_of_others_are_marked(photos, tmp_path):
    marked = ("a_x4.png", "b_jpg_w1920.tif", "b_300x200.jpg")
    for name in (*marked, "c_x4.png", "a_x4_old.png"):
        (photos / name).touch()
    jobs, _ = plan([photos], tmp_path / "out", size=X4)
    assert {job.source.name for job in jobs if job.again} == set(marked)
    assert [job.again for job in plan([photos / "a_x4.png"], tmp_path / "out", size=X4)[0]] == [False]


def test_the_suffix_of_the_input_is_kept_if_asked(photos, tmp_path):
    (photos / "c.HEIC").touch()
    jobs, _ = plan([photos], tmp_path / "out", size=X4, suffix=None)
    assert [job.target.name for job in jobs] == ["a_x4.png", "b_x4.jpg", "c_x4.png"]


def test_an_input_is_never_overwritten(photos, tmp_path):
    (tmp_path / "link").symlink_to(photos)
    for target in (photos / "a.png", tmp_path / "link" / "a.png"):
        with pytest.raises(JobError, match="is an input and would be overwritten"):
            plan([photos / "a.png"], target, size=X4)
    Image.fromarray(noise(H, W)).save(photos / "a_x4.png")
    with pytest.raises(JobError, match=r"a_x4\.png is an input"):
        plan([photos], None, size=X4)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("large.xcf", r"cannot write \.xcf; choose from \.png"), ("notes.txt", r"cannot write \.txt")],
)
def test_a_format_that_cannot_be_written_is_refused(photos, name, reason):
    with pytest.raises(JobError, match=reason):
        plan([photos / "a.png"], photos / name, size=X4)


def test_a_file_is_no_folder(photos, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(JobError, match="is a file, not a folder"):
        plan([photos / "a.png"], tmp_path / "file", size=X4)


def test_a_folder_without_pictures_is_a_failure_that_stops_nothing(photos, tmp_path):
    (tmp_path / "empty").mkdir()
    jobs, [failed] = plan([tmp_path / "empty", photos / "a.png"], None, size=X4)
    assert jobs == [Job(photos / "a.png", photos / "a_x4.png")]
    assert failed.source == str(tmp_path / "empty")
    assert failed.error is not None
    assert "no pictures" in failed.error


def test_a_tree_is_entered_when_asked_and_kept(tree, tmp_path):
    out = tmp_path / "out"
    flat = [out / "a_x4.png", out / "b_x4.png"]
    assert targets([tree], out) == flat
    assert targets([tree], out, recursive=True) == [*flat, out / "deep" / "er" / "a_x4.png"]
    assert targets([tree], None, recursive=True)[-1] == tree / "deep" / "er" / "a_x4.png"


def test_a_pattern_stands_for_the_pictures_that_match(tree, tmp_path):
    out = tmp_path / "out"
    assert targets([tree / "*"], out) == [out / "a_x4.png", out / "b_x4.png"]
    assert targets([tree / "**" / "a.*"], out) == [out / "a_x4.png", out / "deep" / "er" / "a_x4.png"]
    [failed] = plan([tree / "*.webp"], out, size=X4)[1]
    assert failed.error == f"{tree / '*.webp'}: no picture has such a name"


def test_a_file_is_a_file_even_if_its_name_looks_like_a_pattern(photos, tmp_path):
    (photos / "a.png").rename(photos / "[ab]*.png")
    assert targets([photos / "[ab]*.png"], tmp_path) == [tmp_path / "[ab]*_x4.png"]


@pytest.mark.parametrize(
    ("pattern", "size", "name"),
    [
        ("{stem}_x{scale}{suffix}", X4, "a_x4.webp"),
        ("big-{stem}.jpg", X4, "big-a.jpg"),
        ("{stem}-{ext}{suffix}", X4, "a-png.webp"),
        ("{size}/{stem}{suffix}", Size(scale=Fraction("3.5")), "x3.5/a.webp"),
        ("{stem}_{size}{suffix}", Size(width=1920), "a_w1920.webp"),
        ("{stem}_{size}{suffix}", Size(height=1080), "a_h1080.webp"),
        ("{stem}_{size}{suffix}", Size(width=1920, height=1080), "a_1920x1080.webp"),
    ],
)
def test_outputs_are_named_by_a_pattern(photos, tmp_path, pattern, size, name):
    [job] = plan([photos / "a.png"], tmp_path / pattern, size=size, suffix=".webp")[0]
    assert job.target == tmp_path / name


@pytest.mark.parametrize(
    ("source", "out", "target"),
    [
        ("a.png", None, "a_x4.png"),
        ("a.png", ".", "a_x4.png"),
        ("a.b.png", "/{stem}{suffix}", "/a.b.png"),
        ("/a.png", None, "/a_x4.png"),
        ("/a.png", "/", "/a_x4.png"),
        ("x/./a.", "y//{stem}{suffix}", "y/a..png"),
    ],
)
def test_names_are_written_as_paths_are(source, out, target):
    [job], _ = plan([Path(source)], None if out is None else Path(out), size=X4)
    assert (str(job.source), str(job.target)) == (str(Path(source)), target)


def test_a_pattern_keeps_the_tree_or_names_the_folder_itself(tree, tmp_path):
    out = tmp_path / "out"
    assert targets([tree], out / "{stem}{suffix}", recursive=True)[-1] == out / "deep" / "er" / "a.png"
    [_, _, last] = targets([tree / "b.jpg", tree], Path("{folder}/{stem}.tif"), recursive=True)
    assert last == tree / "deep" / "er" / "a.tif"


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("{stem}", "has no suffix; end it in {suffix}"),
        ("{stem}.xcf", "cannot write .xcf"),
        ("{x}.png", "unknown"),
    ],
)
def test_a_pattern_that_names_no_file_is_refused(photos, tmp_path, pattern, reason):
    with pytest.raises(JobError) as refusal:
        plan([photos], tmp_path / pattern, size=X4)
    assert reason in str(refusal.value)


@pytest.mark.parametrize("existing", ["skip", "overwrite"])
def test_a_second_run_beside_the_inputs_does_not_upscale_what_the_first_one_made(photos, existing):
    (photos / "a_x4.png").touch()
    with pytest.raises(JobError, match=r"a_x4\.png is an input .*--skip-existing goes on .*choose -o"):
        plan([photos], None, size=X4)
    jobs, failed = plan([photos], None, size=X4, existing=existing)
    skips = existing == "skip"
    assert (failed, jobs) == (
        [],
        [
            Job(photos / "a.png", photos / "a_x4.png", skip=skips),
            Job(photos / "b.jpg", photos / "b_x4.png"),
        ],
    )


def test_outputs_in_a_folder_within_the_tree_are_no_inputs(tree):
    first = targets([tree], tree / "large", recursive=True)
    for target in first:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    jobs, failed = plan([tree], tree / "large", size=X4, recursive=True, existing="skip")
    assert failed == []
    assert [job.target for job in jobs] == first
    assert all(job.skip for job in jobs)


def test_an_input_is_overwritten_by_its_own_output_if_asked(photos):
    target = photos / "a.png"
    with pytest.raises(JobError, match="or --overwrite if that is meant"):
        plan([target], target, size=X4, existing="skip")
    assert plan([target], target, size=X4, existing="overwrite") == ([Job(target, target)], [])


def test_one_picture_by_two_ways_is_upscaled_once_and_two_links_twice(photos, tmp_path):
    (tmp_path / "link").symlink_to(photos)
    (photos / "c.png").symlink_to(photos / "a.png")
    names = [path.name for path in targets([photos, tmp_path / "link"], tmp_path / "out")]
    assert names == ["a_x4.png", "b_x4.png", "c_x4.png"]


def test_a_name_that_no_file_can_have_is_known_before_the_work(photos, tmp_path):
    source = photos / f"{'ü' * 124}.png"
    (photos / "a.png").rename(source)
    jobs, [failed] = plan([photos], None, size=Size(scale=Fraction("3.5")))
    assert [job.source.name for job in jobs] == ["b.jpg"]
    assert failed.error.startswith(f"{source}: cannot be written to ")
    assert failed.error.endswith("File name too long")


def test_a_folder_that_cannot_be_looked_into_is_named(tree, monkeypatch):
    scandir = os.scandir

    def closed(path):
        if Path(path).name == "er":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    jobs, [failed] = plan([tree], None, size=X4, recursive=True)
    assert [job.source.name for job in jobs] == ["a.png", "b.jpg"]
    assert failed.error == f"{tree / 'deep' / 'er'}: cannot be read: Permission denied"


def test_jobs_are_a_sequence_that_is_not_in_memory(photos, tmp_path):
    jobs, _ = plan([photos], tmp_path / "out", size=X4)
    assert len(jobs) == jobs.n_to_do == 2
    assert [*jobs] == [jobs[0], jobs[1]] == jobs[:] == [jobs[-2], jobs[-1]]
    assert jobs != [jobs[0]]
    with pytest.raises(IndexError):
        jobs[2]


def test_of_a_folder_of_many_files_only_the_present_job_is_in_memory(tmp_path):
    (tmp_path / "many").mkdir()
    for number in range(500):
        (tmp_path / "many" / f"{number}.png").touch()

    def alive():
        return sum(type(one) in (Job, Found) for one in gc.get_objects())

    gc.collect()
    before = alive()
    jobs, _ = plan([tmp_path / "many"], None, size=X4)
    assert alive() == before
    for number, job in enumerate(jobs):
        assert job.source.name == f"{number}.png"
        if number == 250:
            assert alive() <= before + 2


@pytest.mark.parametrize("existing", ["skip", "overwrite"])
def test_of_a_chain_of_outputs_only_the_first_is_upscaled(photos, existing):
    for name in ("a_x4.png", "a_x4_x4.png"):
        (photos / name).touch()
    jobs, _ = plan([photos], None, size=X4, existing=existing)
    assert [job.source.name for job in jobs] == ["a.png", "b.jpg"]


def test_a_link_as_output_counts_as_the_file_behind_it(photos, tmp_path):
    (tmp_path / "large.png").symlink_to(photos / "a.png")
    with pytest.raises(JobError, match="is an input and would be overwritten"):
        plan([photos / "a.png"], tmp_path / "large.png", size=X4)


def test_a_broken_link_is_a_picture_that_cannot_be_read(photos, tmp_path):
    (photos / "c.png").symlink_to("nowhere.png")
    jobs, failed = plan([photos], tmp_path / "out", size=X4)
    assert [job.source.name for job in jobs] == ["a.png", "b.jpg", "c.png"]
    assert not failed


def test_where_there_is_no_room_for_the_list_that_is_said(photos, tmp_path, monkeypatch):
    def full(*_, **__):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("enlca.inference.outputs.refuse_clashes", full)
    with pytest.raises(StoreError, match="no room for the list of the pictures: database or disk is full"):
        plan([photos], tmp_path / "out", size=X4)
