"""A job from its URLs to its summary: manifest, probe, workers, report."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from hashlib import sha256

from enlca.bulk.drive import Pool, drive
from enlca.bulk.manifest import JobFiles
from enlca.bulk.origins import Origin, open_origin
from enlca.bulk.spec import Spec, Tally
from enlca.bulk.stores import check_create_only, open_store
from enlca.errors import BulkError, Stopped
from enlca.runtime.concurrency import Progress, no_progress
from enlca.runtime.signals import stop_politely


@dataclass
class Report:
    """What has become of a job.

    Attributes:
        total: pictures in its manifest.
        tally: how many of them have an outcome.
        reasons: how often each reason of a failure occurs.
        examples: a line about one failure of each reason.
    """

    total: int
    tally: Tally = field(default_factory=Tally)
    reasons: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)


def default_job(source: str, target: str) -> str:
    """Return the folder of a job that was given none: the same for the same URLs."""
    return f"enlca-bulk-{sha256(f'{source} {target}'.encode()).hexdigest()[:8]}"


def run_job(
    spec: Spec,
    make_pool: Callable[[Spec], Pool],
    *,
    pattern: str | None = None,
    retry_failed: bool = False,
    progress: Progress = no_progress,
) -> Report:
    """Begin a job, or go on with it, and return its report.

    Args:
        spec: the job.
        make_pool: starts the workers.
        pattern: only keys that match, such as `2024/*.jpg`; `*` matches `/`, too.
        retry_failed: do the pictures that failed once more.
        progress: gets the number of pictures with an outcome.

    Raises:
        BulkError: a store cannot be used, results would lie between the pictures, or the job was begun for
            something else.
        EnlcaError: no worker can begin, for one of the settings is wrong.
        Stopped: by SIGTERM or Ctrl-C; each worker has finished its picture.
    """
    if _inside(spec.target, spec.source) == "":
        why = "the next job would take results for pictures"
        raise BulkError(f"{spec.target}: the pictures are there, and {why}; name a folder in it")
    source = open_origin(spec.source, max_pixels=spec.max_pixels)
    target = open_store(spec.target, make=True)
    files = JobFiles(open_store(spec.job, make=True), spec.job)
    if not spec.replace:
        check_create_only(target, spec.target)
    wanted = spec.about() | {"pattern": pattern}
    about = files.about()
    if about is not None:
        _check_same(about, wanted, spec.job)
        if retry_failed:
            files.forget_failures()
        if sum(unit.size for unit in files.done()) == about["total"]:
            return report_of(files)
    pool = make_pool(spec)
    try:
        # Wrong settings are told before the listing.
        pool.begin()
        if about is None:
            about = files.write_manifest(_found(source, spec, pattern), wanted)
        if not about["total"]:
            raise BulkError(f"{spec.source}: no pictures there")
        _work(pool, files, about["total"], progress)
    finally:
        pool.close()
    return report_of(files)


def _work(pool: Pool, files: JobFiles, total: int, progress: Progress) -> None:
    """Have done what is left. Raises Stopped."""
    done = sum(unit.size for unit in files.done())
    begun, before = time.monotonic(), done

    def count(tally: Tally) -> None:
        nonlocal done
        done += tally.total
        rate = (done - before) / max(time.monotonic() - begun, 1e-3)
        progress(f"{rate:.3g}/s", done, total)

    with stop_politely() as asked:
        units = files.left(total, workers=pool.workers)
        drive(pool, units, files, stopping=asked.is_set, on_tally=count)
    if asked.is_set():
        raise Stopped(f"stopped: {done} of {total} have an outcome; the same command goes on")


def _check_same(about: dict, wanted: dict, job: str) -> None:
    """Raise BulkError if a job was begun for something else."""
    for name, value in wanted.items():
        if about.get(name) != value:
            what = f"{job}: was begun with {name} {about.get(name)!r}, not {value!r}"
            raise BulkError(f"{what}; give the same, or another --job")


def _found(source: Origin, spec: Spec, pattern: str | None) -> Iterator[tuple[str, int]]:
    """Yield the keys and sizes of the pictures that are wanted. Raises BulkError."""
    outputs = _inside(spec.target, spec.source)
    for key, size in source.listed():
        if (pattern is None or fnmatchcase(key, pattern)) and not (outputs and key.startswith(outputs)):
            yield key, size


def report_of(files: JobFiles) -> Report:
    """Return what has become of a job so far. Raises BulkError: there is none."""
    about = files.about()
    if about is None:
        raise BulkError(f"{files.url}: no job there; its manifest is not whole")
    report = Report(about["total"])
    for outcome in files.outcomes():
        if outcome["error"] is None:
            report.tally += Tally(skipped=1) if outcome["skipped"] else Tally(done=1)
            continue
        report.tally += Tally(failed=1)
        reason = reason_of(outcome["error"], outcome["key"])
        report.reasons[reason] += 1
        report.examples.setdefault(reason, outcome["error"])
    return report


def _inside(target: str, source: str) -> str | None:
    """Return the prefix of results that lie among the pictures, None if they lie elsewhere."""
    source, target = (f"{_whole(url).rstrip('/')}/" for url in (source, target))
    return target.removeprefix(source) if target.startswith(source) else None


def _whole(url: str) -> str:
    """Return the URL of a store, or the real path of a folder, by which two of them can be compared."""
    path = url.removeprefix("file://")
    return url if "://" in path else os.path.realpath(path)


def reason_of(error: str, key: str) -> str:
    """Return why a picture failed, without its name and without details, to count alike failures."""
    return error.removeprefix(f"{key}: ").partition(" (")[0]
