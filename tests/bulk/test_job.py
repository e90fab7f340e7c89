"""A job with its workers in this process: manifest, units, resume, deaths, report."""

import multiprocessing
import os
import signal
import time
from dataclasses import replace

import pytest

from enlca.bulk import drive as driving
from enlca.bulk import local, manifest
from enlca.bulk.drive import Crashed, drive
from enlca.bulk.job import report_of, run_job
from enlca.bulk.manifest import JobFiles, Unit
from enlca.bulk.spec import Spec, Tally
from enlca.bulk.stores import open_store
from enlca.bulk.worker import Worker
from enlca.errors import BulkError, Stopped

from .conftest import MADE, files_in


class Here:
    """A pool of one worker in this process, which may die at some keys."""

    workers = 1

    def __init__(self, spec, work, *, deadly=(), stop_after=None):
        self.worker = Worker(spec)
        self.worker.work = work
        self.units, self.deadly, self.seen = [], deadly, []
        self.stopped, self.left = False, stop_after

    def begin(self):
        pass

    @property
    def n_pending(self):
        return len(self.units)

    def submit(self, unit):
        self.units.append(unit)

    def finished(self, timeout):
        unit = self.units.pop(0)
        keys = self.worker.files.keys(unit)
        self.seen += keys
        if set(keys) & set(self.deadly):
            yield unit, Crashed()
            return
        try:
            yield unit, self.worker.run(unit, self.stopping)
        except Exception as error:
            yield unit, error

    def stopping(self):
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGTERM)
            return self.left < 0
        return self.stopped

    def drain(self):
        self.units.clear()

    def close(self):
        pass


@pytest.fixture(autouse=True)
def tiny_model_loads_nothing(monkeypatch, work):
    monkeypatch.setattr("enlca.bulk.worker.work_of", lambda spec: work)


@pytest.fixture
def spec(tree, tmp_path):
    return Spec(str(tree), str(tmp_path / "out"), str(tmp_path / "job"))


def test_a_tree_is_kept_and_each_picture_has_one_row(spec, work, tmp_path):
    report = run_job(spec, lambda spec: Here(spec, work))
    assert files_in(tmp_path / "out") == MADE
    assert (report.total, report.tally) == (4, Tally(done=3, failed=1))
    assert report.reasons == {"damaged or cut short, get a whole copy of it": 1}
    rows = list(JobFiles(open_store(spec.job), spec.job).outcomes())
    assert sorted(row["key"] for row in rows) == ["a.png", "deep/a.jpg", "deep/a.png", "deep/damaged.png"]


def test_a_job_that_is_done_is_not_done_again(spec, work):
    run_job(spec, lambda spec: Here(spec, work))

    def never(spec):
        raise AssertionError

    assert run_job(spec, never).tally == Tally(done=3, failed=1)


def test_sigterm_drains_and_the_same_command_goes_on(spec, work, tmp_path):
    with pytest.raises(Stopped, match="2 of 4 have an outcome; the same command goes on"):
        run_job(spec, lambda spec: Here(spec, work, stop_after=2))
    pools = []
    report = run_job(spec, lambda spec: pools.append(Here(spec, work)) or pools[0])
    assert len(pools[0].seen) == 2
    assert report.tally == Tally(done=3, failed=1)
    assert files_in(tmp_path / "out") == MADE


def test_only_the_picture_that_kills_its_worker_fails(spec, work, tmp_path, monkeypatch):
    monkeypatch.setattr(JobFiles, "left", lambda self, total, **_: iter([Unit(0, 0, total)]))
    pools = []
    report = run_job(spec, lambda spec: pools.append(Here(spec, work, deadly=["deep/a.png"])) or pools[0])
    assert report.tally == Tally(done=2, failed=2)
    assert driving.DIED in report.reasons
    assert pools[0].seen.count("deep/a.png") == 1 + driving.TRIES
    assert files_in(tmp_path / "out") == [MADE[0], MADE[1]]


def test_workers_that_die_at_once_end_the_job(spec, work, tmp_path):
    files = JobFiles(open_store(str(tmp_path / "job"), make=True), "job")
    files.write_manifest(((f"{n}.png", 1) for n in range(40)), {})

    class Dying(Here):
        def finished(self, timeout):
            yield self.units.pop(0), Crashed()

    with pytest.raises(BulkError, match="die as soon as they begin"):
        drive(Dying(spec, work), files.left(40), files)


def test_a_store_that_is_lost_ends_the_job_and_nothing_is_lost(spec, work, monkeypatch):
    from enlca.bulk import worker

    upscale = worker.one

    def lost(source, key, target, work):
        if key == "deep/a.jpg":
            raise ConnectionError("connection refused")
        return upscale(source, key, target, work)

    monkeypatch.setattr(worker, "one", lost)
    with pytest.raises(BulkError, match="cannot be reached: connection refused; the same command goes on"):
        run_job(spec, lambda spec: Here(spec, work))
    monkeypatch.setattr(worker, "one", upscale)
    assert run_job(spec, lambda spec: Here(spec, work)).tally == Tally(done=3, failed=1)


def test_a_job_goes_on_only_with_the_settings_that_it_was_begun_with(spec, work):
    run_job(spec, lambda spec: Here(spec, work))
    with pytest.raises(BulkError, match=r"was begun with suffix '.png', not '.jpg'; .* another --job"):
        run_job(replace(spec, suffix=".jpg"), lambda spec: Here(spec, work))


def test_only_keys_that_match_are_taken_and_results_among_the_pictures_are_none(spec, work, tree):
    inside = replace(spec, target=str(tree / "large"))
    assert run_job(inside, lambda spec: Here(spec, work), pattern="*a.png").total == 2
    again = replace(inside, job=spec.job + "2")
    assert run_job(again, lambda spec: Here(spec, work)).tally == Tally(done=1, skipped=2, failed=1)


def test_a_place_without_a_job_or_without_pictures_is_named(spec, work, tmp_path):
    with pytest.raises(BulkError, match="no job there"):
        report_of(JobFiles(open_store("memory://"), "memory://"))
    with pytest.raises(BulkError, match="no pictures there"):
        run_job(spec, lambda spec: Here(spec, work), pattern="*.webp")


def rows_of(spec):
    return list(JobFiles(open_store(spec.job), spec.job).outcomes())


def test_a_retry_does_what_failed_once_more_and_nothing_else(spec, work, tree, tmp_path):
    run_job(spec, lambda spec: Here(spec, work))
    before = {row["key"]: row for row in rows_of(spec)}
    (tree / "deep" / "damaged.png").write_bytes((tree / "a.png").read_bytes())
    assert run_job(spec, lambda spec: Here(spec, work)).tally == Tally(done=3, failed=1)
    pools = []
    report = run_job(spec, lambda spec: pools.append(Here(spec, work)) or pools[0], retry_failed=True)
    assert pools[0].seen == ["deep/damaged.png"]
    assert report.tally == Tally(done=4)
    after = {row["key"]: row for row in rows_of(spec)}
    assert len(rows_of(spec)) == len(after) == 4
    assert all(after[key] == row for key, row in before.items() if row["error"] is None)
    assert files_in(tmp_path / "out") == sorted([*MADE, "deep/damaged_png_x4.png"])


def test_a_retry_that_is_killed_leaves_each_row_with_one_outcome_or_none(spec, work, tree, monkeypatch):
    (tree / "deep" / "a.jpg").write_bytes(b"")
    with monkeypatch.context() as patch:
        patch.setattr(JobFiles, "left", lambda self, total, **_: iter([Unit(0, 0, total)]))
        run_job(spec, lambda spec: Here(spec, work))
    before = rows_of(spec)

    class Killed(Exception):
        pass

    class Deadly:
        def __init__(self, store, deaths):
            self.store, self.left = store, deaths

        def __getattr__(self, name):
            if name in ("put", "delete"):
                self.left -= 1
                if self.left < 0:
                    raise Killed
            return getattr(self.store, name)

    for deaths in range(9):
        files = JobFiles(open_store(spec.job), spec.job)
        files.store = Deadly(files.store, deaths)
        try:
            files.forget_failures()
        except Killed:
            assert sorted(row["key"] for row in rows_of(spec)) == sorted(row["key"] for row in before)
            assert [unit.size for unit in JobFiles(files.store.store, "").left(len(before))] == []
            continue
        break
    # At least one part is written, and the whole is deleted.
    assert deaths >= 2
    files = JobFiles(open_store(spec.job), spec.job)
    left = [key for unit in files.left(4) for key in files.keys(unit)]
    assert sorted(left) == ["deep/a.jpg", "deep/damaged.png"]
    assert sorted(row["key"] for row in rows_of(spec)) == ["a.png", "deep/a.png"]


def test_a_place_without_pictures_may_get_some_later(spec, work, tree, tmp_path):
    (tmp_path / "empty").mkdir()
    empty = replace(spec, source=str(tmp_path / "empty"))
    with pytest.raises(BulkError, match="no pictures there"):
        run_job(empty, lambda spec: Here(spec, work))
    (tmp_path / "empty" / "a.png").write_bytes((tree / "a.png").read_bytes())
    assert run_job(empty, lambda spec: Here(spec, work)).tally == Tally(done=1)


def test_units_become_small_towards_the_end():
    files = JobFiles(open_store("memory://"), "memory://")
    sizes = [unit.size for unit in files.left(1000, workers=3)]
    assert sum(sizes) == 1000
    assert sizes == sorted(sizes, reverse=True)
    assert (sizes[0], sizes[-12:]) == (manifest.UNIT, [1] * 12)


def test_what_is_left_is_what_has_no_outcome(monkeypatch):
    monkeypatch.setattr(manifest, "UNIT", 4)
    monkeypatch.setattr(manifest, "SHARD", 10)
    files = JobFiles(open_store("memory://"), "memory://")
    about = files.write_manifest(((f"{n:02}", n) for n in range(23)), {})
    assert about["total"] == 23
    for unit in (Unit(0, 0, 4), Unit(0, 5, 6), Unit(1, 8, 10), Unit(2, 0, 1)):
        files.write_outcomes(unit, [{"key": key, "skipped": False} for key in files.keys(unit)])
    left = [key for unit in files.left(23) for key in files.keys(unit)]
    done = [row["key"] for row in files.outcomes()]
    assert sorted(left + done) == [f"{n:02}" for n in range(23)]
    assert all(unit.size <= 4 for unit in files.left(23))
    assert [unit.size for unit in files.left(23, workers=3)] == [1] * len(left)


def test_results_between_the_pictures_are_refused(spec, work, tree, tmp_path):
    os.symlink(tree, tmp_path / "link")
    for target in (str(tree), f"{tree}/", f"file://{tree}", str(tmp_path / "link")):
        with pytest.raises(BulkError, match=r"the pictures are there, .*; name a folder in it"):
            run_job(replace(spec, target=target), lambda spec: Here(spec, work))
    assert not [name for name in files_in(tree) if "_x4" in name or "probe" in name]


def test_many_pictures_that_kill_in_a_row_fail_and_the_job_ends(spec, work):
    files = JobFiles(open_store(spec.job, make=True), "job")
    files.write_manifest(((f"{n}.png", 1) for n in range(12)), {})
    pool = Here(spec, work, deadly=[f"{n}.png" for n in range(driving.HOPELESS - 1)])
    tally = drive(pool, (Unit(0, row, row + 1) for row in range(12)), files)
    assert tally.failed == 12
    assert sum(driving.DIED in row["error"] for row in files.outcomes()) == driving.HOPELESS - 1


def do(unit):
    """Do nothing for a moment, or die, instead of upscaling a unit in a process."""
    if unit.first == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.1)
    return Tally(done=unit.size)


def test_a_process_that_dies_takes_no_other_unit_with_it(spec, monkeypatch):
    monkeypatch.setattr(local, "_run", do)
    monkeypatch.setattr(local, "_begin", lambda *_: None)
    monkeypatch.setattr(local, "_context", lambda: multiprocessing.get_context("fork"))
    files = JobFiles(open_store(spec.job, make=True), "job")
    files.write_manifest(((f"{n}.png", 1) for n in range(12)), {})
    pool = local.LocalPool(spec, 2)
    try:
        assert drive(pool, (Unit(0, row, row + 1) for row in range(12)), files) == Tally(done=11, failed=1)
    finally:
        pool.close()
    assert [row["key"] for row in files.outcomes()] == ["5.png"]


def test_processes_that_die_before_they_have_begun_end_the_job_before_any_picture_is_blamed(
    spec, monkeypatch
):
    monkeypatch.setattr(local, "_begin", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    monkeypatch.setattr(local, "_context", lambda: multiprocessing.get_context("fork"))
    pool = local.LocalPool(spec, 2)
    with pytest.raises(BulkError, match="die as soon as they begin"):
        pool.begin()
    pool.close()
