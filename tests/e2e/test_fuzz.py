"""Damaged files, many: each is upscaled or refused in one line, in time and in bounded memory."""

import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from damage import CHANGES, damaged, files_of, with_size
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd import pillow, smooth
from PIL import Image

S = 4
MAX_PIXELS = 1 << 18
KINDS = [*CHANGES, *(f"head {kind}" for kind in CHANGES)]


def check(done, folder, names):
    """What holds whatever the files `names` in `folder`/in are; the number of those that were upscaled."""
    code, out, err = done
    assert "Traceback" not in err
    records = json.loads(out)["pictures"]
    assert sorted(Path(one["source"]).name for one in records) == sorted(names)
    refused = [one for one in records if one["error"]]
    # Each is named, with its source or its target, in one line of its own.
    assert sorted(err.splitlines()) == sorted(f"enlca: {one['error']}" for one in refused)
    for one in refused:
        stem = Path(one["source"]).stem
        assert f"/{stem}." in one["error"] or f"/{stem}_x4." in one["error"], one
    assert code == (1 if refused else 0)
    made = [one for one in records if not one["error"]]
    assert sorted(path.name for path in (folder / "in").iterdir()) == sorted(names)
    out_folder = folder / "out"
    results = sorted(path.name for path in out_folder.iterdir()) if out_folder.exists() else []
    assert results == sorted(Path(one["target"]).name for one in made)
    for one in made:
        with Image.open(one["target"]) as image:
            image.load()
            assert image.size == (one["width"], one["height"]), one
            assert image.size[0] % S == image.size[1] % S == 0
            assert math.prod(image.size) <= S * S * MAX_PIXELS
    return len(made)


CHANGE = st.tuples(st.sampled_from(KINDS), st.floats(0, 1), st.integers(0, 1 << 20))
ORIGINALS = files_of(smooth(29, 23, 3))


QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=12, **QUIET)
@given(changes=st.lists(CHANGE, min_size=1, max_size=4))
def test_a_damaged_file_of_any_format_is_upscaled_or_one_line(tiny_model, command, changes):
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        files = {name: damaged(data, changes) for name, data in ORIGINALS.items()}
        check(command(*words(folder, files, tiny_model)), folder, files)


def words(folder, files, model, *, max_pixels=MAX_PIXELS):
    """Write the files; the words of the command that upscales them all."""
    (folder / "in").mkdir(parents=True)
    for name, data in files.items():
        (folder / "in" / name).write_bytes(data)
    settings = ("--model", model, "-o", folder / "out", "--json", "--max-pixels", max_pixels)
    return [str(word) for word in ("upscale", *((folder / "in" / name) for name in files), *settings)]


# Runs commands in one process, each within so many seconds; prints how each ended and the peak of memory.
RUNNER = """
import contextlib, faulthandler, io, json, resource, sys, time
from enlca.cli import main
limit, commands = json.load(sys.stdin)
for words in commands:
    out, err = io.StringIO(), io.StringIO()
    faulthandler.dump_traceback_later(limit, exit=True)
    sys.argv = ["enlca", *words]
    started = time.perf_counter()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as leaving:
            code = leaving.code
    faulthandler.cancel_dump_traceback_later()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps([code, out.getvalue(), err.getvalue(), peak, time.perf_counter() - started]), flush=True)
"""


def in_a_process(commands, *, limit):
    """How each command ended: (code, stdout, stderr), the peak of memory in bytes so far, and seconds."""
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input=json.dumps([limit, commands]),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    ended = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"died in {commands[len(ended)]}: {done.stderr[-3000:]}"
    # What C libraries print themselves.
    assert done.stderr == ""
    return [(tuple(one[:3]), *one[3:]) for one in ended]


# Formats that cannot promise more pixels than are believed by default.
SMALL = ("webp",)


@pytest.mark.parametrize("max_pixels", [1 << 30, MAX_PIXELS])
def test_files_that_promise_too_much_are_refused_by_their_header(tiny_model, tmp_path, max_pixels):
    side = 60_000 if max_pixels == 1 << 30 else 10_000
    files = {
        name: with_size(data, side, side)
        for name, data in ORIGINALS.items()
        if max_pixels < 1 << 30 or not name.startswith(SMALL)
    }
    harmless = words(tmp_path / "harmless", ORIGINALS, tiny_model)
    bombs = words(tmp_path / "bombs", files, tiny_model, max_pixels=max_pixels)
    (_, before, _), (done, after, seconds) = in_a_process([harmless, bombs], limit=60)
    assert check(done, tmp_path / "bombs", files) == 0
    assert seconds < 20
    assert after - before < 64 << 20
    others = [line for line in done[2].splitlines() if f"more than {max_pixels} pixels" not in line]
    # Where a header cannot be changed alone, something else may contradict it.
    assert all("too many pixels" in line or "damaged or cut short" in line for line in others)
    assert len(others) <= 3


def test_what_a_decoder_warns_about_reaches_nobody(tiny_model, tmp_path):
    noise = np.random.default_rng(0).integers(-20, 20, (29, 23, 3))
    data = pillow((smooth(29, 23, 3) + noise).clip(0, 255).astype(np.uint8), format="JPEG", progressive=True)
    # Eight bytes of a scan are gone: libjpeg goes on and warns, in libvips' words when the file is closed.
    at = data.index(b"\xff\xda", data.index(b"\xff\xda") + 1) + 20
    files = {f"{number}.jpg": data[:at] + bytes(8) + data[at + 8 :] for number in range(3)}
    [(done, _, _)] = in_a_process([words(tmp_path, files, tiny_model)], limit=LIMIT)
    assert check(done, tmp_path, files) == 0


LIMIT, MEMORY, BATCH, N_BATCHES, PROCESSES = 60, 1 << 30, 25, 20, 4


def crops(shared_data):
    """Pictures of few pixels, without end: cut out of photographs where there are some, else made."""
    photographs = []
    if shared_data is not None:
        photographs = sorted((shared_data / "train" / "img").glob("*.avif"))[:12]
        photographs += sorted((shared_data / "validation").glob("*/*.png"))[:12]
    random = np.random.default_rng(11)
    while True:
        height, width = random.integers(1, 49, 2)
        if photographs:
            with Image.open(photographs[random.integers(len(photographs))]) as image:
                left, top = (int(random.integers(side - 49)) for side in image.size)
                box = (left, top, left + int(width), top + int(height))
                yield np.asarray(image.convert("RGB").crop(box))
        else:
            noise = random.integers(-30, 31, (height, width, 3))
            yield (smooth(height, width, 3) + noise).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def photographs(request):
    """The folder of pictures; None where they are absent."""
    try:
        return request.getfixturevalue("shared_data")
    except pytest.skip.Exception:
        return None


@pytest.mark.slow
@pytest.mark.parametrize("process", range(PROCESSES))
def test_thousands_of_damaged_files_hang_nothing_take_no_memory_and_leave_nothing(
    tiny_model, tmp_path, photographs, process
):
    random = np.random.default_rng(process)
    pictures = crops(photographs)
    batches = []
    for number in range(N_BATCHES):
        files = {}
        originals = files_of(next(pictures))
        for name in random.choice(sorted(originals), BATCH, replace=True):
            changes = [
                (KINDS[random.integers(len(KINDS))], float(random.random()), int(random.integers(1 << 20)))
                for _ in range(random.integers(1, 5))
            ]
            files[f"{len(files)}-{name}"] = damaged(originals[name], changes)
        batches.append((tmp_path / str(number), files))
    commands = [words(folder, files, tiny_model) for folder, files in batches]
    ended = in_a_process(commands, limit=LIMIT)
    made = [check(done, *batch) for (done, _, _), batch in zip(ended, batches, strict=True)]
    # Damage of both kinds: some that matters, and some that does not.
    assert 0.05 < sum(made) / (BATCH * N_BATCHES) < 0.95
    assert max(peak for _, peak, _ in ended) < MEMORY
