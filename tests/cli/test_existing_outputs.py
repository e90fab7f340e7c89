"""What exists already: other people's files are kept, results of earlier runs are known as such."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from enlca.cli.output import LineReport
from enlca.inference.jobs import Job, Outcome

PIXELS = np.random.default_rng(0).integers(0, 256, (13, 11, 3), dtype=np.uint8)


@pytest.fixture
def upscale(tmp_path, monkeypatch, command, tiny_model):
    """Upscales in the current folder, which has `photos/woman.jpg` and `photos/man.png`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for name in ("woman.jpg", "man.png"):
        Image.fromarray(PIXELS).save(tmp_path / "photos" / name)
    return lambda *words: command("upscale", *words, "--model", tiny_model)


@pytest.mark.parametrize("name", ["keep.png", "keep.jpg"])
@pytest.mark.parametrize("kind", ["text", "picture"])
def test_a_file_that_enlca_did_not_write_is_kept_and_the_options_are_named(tmp_path, upscale, name, kind):
    if kind == "text":
        (tmp_path / name).write_text("dear diary")
    else:
        Image.fromarray(PIXELS).save(tmp_path / name)
    before = (tmp_path / name).read_bytes()
    done = upscale("photos/man.png", "-o", name)
    what = "exists, and is no picture that enlca upscale wrote"
    line = f"enlca: {name}: {what}; --overwrite replaces it, --skip-existing keeps it\n"
    assert done == (1, "", line)
    assert (tmp_path / name).read_bytes() == before
    assert upscale("photos/man.png", "-o", name, "--skip-existing").code == 0
    assert (tmp_path / name).read_bytes() == before
    assert upscale("photos/man.png", "-o", name, "--overwrite").code == 0
    with Image.open(name) as made:
        assert made.size == (44, 52)


@pytest.mark.parametrize("format", ["png", "jpg", "webp", "tif", "avif", "gif"])
def test_what_an_earlier_run_wrote_is_replaced(upscale, format):
    words = ("photos/man.png", "-o", "out", "--format", format)
    assert upscale(*words).code == 0
    assert (upscale(*words).code, upscale(*words).err) == (0, "")


def test_the_others_of_a_folder_are_done(tmp_path, upscale):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "man_x4.png").write_text("dear diary")
    done = upscale("photos", "-o", "out")
    assert done.code == 1
    assert done.out == "photos/woman.jpg -> out/woman_x4.png (44x52)\n"
    assert done.err.startswith("enlca: out/man_x4.png: exists")


def test_results_beside_their_originals_are_not_upscaled_again_and_that_is_said(upscale, tmp_path):
    assert upscale("photos/woman.jpg", "--format", "jpg").code == 0
    # A picture of another program's by such a name is a picture like any other.
    Image.fromarray(PIXELS).save(tmp_path / "photos" / "man_x4.png")
    left_out = "photos/woman_x4.jpg: a result of an earlier run beside its original: left out"
    for inputs in (["photos"], ["photos/*"], ["photos/woman.jpg", "photos/woman_x4.jpg"]):
        done = upscale(*inputs, "-o", "elsewhere")
        assert (done.code, done.err) == (0, "")
        assert left_out in done.out.splitlines()
    assert not (tmp_path / "elsewhere" / "woman_x4_x4.png").exists()
    assert (tmp_path / "elsewhere" / "man_x4_x4.png").exists()
    body = json.loads(upscale("photos", "-o", "elsewhere", "--json").out)
    assert (body["done"], body["failed"], body["skipped"]) == (3, 0, 1)


def test_a_result_that_is_named_by_itself_is_upscaled_and_that_is_said(upscale):
    assert upscale("photos/man.png").code == 0
    done = upscale("photos/man_x4.png", "-o", "elsewhere")
    assert done.code == 0
    assert done.out.endswith("(176x208): was a result of enlca upscale already\n")


@pytest.mark.parametrize("suffix", ["bmp", "ppm"])
def test_a_format_that_holds_no_mark_is_known_by_its_name(upscale, suffix):
    assert upscale("photos/man.png", "-o", f"photos/man_x4.{suffix}").code == 0
    done = upscale("photos", "-o", "elsewhere")
    assert f"photos/man_x4.{suffix}: a result of an earlier run" in done.out


def test_two_files_of_one_stem_are_both_done(upscale, tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "photos" / "man.gif")
    done = upscale("photos", "-o", "out")
    assert (done.code, done.err) == (0, "")
    assert [line.split()[2] for line in done.out.splitlines()] == [
        "out/man_gif_x4.png",
        "out/man_png_x4.png",
        "out/woman_x4.png",
    ]


def test_what_decodes_of_a_cut_picture_is_taken_if_asked_and_marked(upscale, tmp_path):
    Image.fromarray(np.kron(PIXELS, np.ones((8, 8, 1), np.uint8))).save(tmp_path / "cut.jpg")
    whole = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    assert "damaged or cut short" in upscale("cut.jpg").err
    body = json.loads(upscale("cut.jpg", "photos/man.png", "-o", "out", "--salvage", "--json").out)
    cut, good = body["pictures"]
    assert (cut["width"], cut["height"], cut["remark"]) == (352, 416, "damaged: what decodes of it was taken")
    assert good["remark"] is None
    (tmp_path / "cut.jpg").write_bytes(b"")
    assert "the file is empty" in upscale("cut.jpg", "--salvage").err


def test_ctrl_c_in_a_folder_says_on_a_terminal_how_many_are_done_and_how_to_go_on(capsys, monkeypatch):
    jobs = [Job(Path(f"{n}.png"), Path(f"{n}_x4.png")) for n in range(17)]
    report = LineReport()
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    for job in jobs[:5]:
        report.add(Outcome(str(job.source), str(job.target), 44, 52, skipped=job is jobs[0]))
    with pytest.raises(KeyboardInterrupt), report.counting(jobs):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "enlca: 5 of 17 done; go on with --skip-existing\n"
    with pytest.raises(KeyboardInterrupt), report.counting(jobs[:1]):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == ""
