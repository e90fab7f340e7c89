"""A job from its URLs to its summary: manifest, probe, workers, report."""

import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from hashlib import sha256

from enlca.bulk.drive import Pool, drive
from enlca.bulk.manifest import JobFiles
from enlca.bulk.one import reason_of
from enlca.bulk.stores import check_create_only, listed, open_store
from enlca.bulk.worker import Spec, Tally
from enlca.errors import BulkError, Stopped
from enlca.image.folders import is_picture_name
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
    progress: Progress = no_progress,
) -> Report:
    """Begin a job, or go on with it, and return its report.

    Args:
        spec: the job.
        make_pool: starts the workers.
        pattern: only keys that match, such as `2024/*.jpg`; `*` matches `/`, too.
        progress: gets the number of pictures with an outcome.

    Raises:
        BulkError: a store cannot be used, or the job was begun for something else.
        Stopped: by SIGTERM or Ctrl-C; each worker has finished its picture.
    """
    source, target = open_store(spec.source), open_store(spec.target, make=True)
    files = JobFiles(open_store(spec.job, make=True), spec.job)
    if not spec.replace:
        check_create_only(target, spec.target)
    wanted = spec.about() | {"pattern": pattern}
    about = files.about()
    if about is None:
        outputs = _inside(spec.target, spec.source)
        keys = ((key, size) for key, size in listed(source) if _is_wanted(key, pattern, outputs))
        about = files.write_manifest(keys, wanted)
    for name, value in wanted.items():
        if about.get(name) != value:
            what = f"{spec.job}: was begun with {name} {about.get(name)!r}, not {value!r}"
            raise BulkError(f"{what}; give the same, or another --job")
    total = about["total"]
    if not total:
        raise BulkError(f"{spec.source}: no pictures there")
    done = sum(unit.size for unit in files.done())
    begun, before = time.monotonic(), done

    def count(tally: Tally) -> None:
        nonlocal done
        done += tally.total
        rate = (done - before) / max(time.monotonic() - begun, 1e-3)
        progress(f"{rate:.3g}/s", done, total)

    if done < total:
        with stop_politely() as asked:
            pool = make_pool(spec)
            try:
                units = files.left(total, workers=pool.workers)
                drive(pool, units, files, stopping=asked.is_set, on_tally=count)
            finally:
                pool.close()
            if asked.is_set():
                raise Stopped(f"stopped: {done} of {total} have an outcome; the same command goes on")
    return report_of(files)


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
    if "://" not in source and "://" not in target:
        source, target = (os.path.realpath(folder) for folder in (source, target))
    source, target = f"{source.rstrip('/')}/", f"{target.rstrip('/')}/"
    return target.removeprefix(source) if target.startswith(source) else None


def _is_wanted(key: str, pattern: str | None, outputs: str | None) -> bool:
    name = key.rpartition("/")[2]
    if not is_picture_name(name) or any(part.startswith(".") for part in key.split("/")):
        return False
    if outputs and key.startswith(outputs):
        return False
    return pattern is None or fnmatchcase(key, pattern)
