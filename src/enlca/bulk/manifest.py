"""A job in a store: what it is, the keys of its pictures, and the outcomes so far, as Parquet.

    job.json                                what is done to which pictures; written when the manifest is whole
    manifest/SHARD.parquet                  keys, in groups of UNIT rows
    outcomes/SHARD-FIRST-LAST.parquet       a row for each of these rows of the shard

An outcome's name says which rows are done, so what is left to do is known from a listing.
"""

import json
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, islice
from typing import Any

from enlca.bulk.stores import listed, put, retried
from enlca.errors import BulkError, require

# Rows that a worker takes at once, at most, and rows of a file.
UNIT, SHARD = 64, 16_384
# Files of outcomes that are read at once.
READERS = 16
ABOUT = "job.json"
_OUTCOME = re.compile(r"outcomes/(\d+)-(\d+)-(\d+)\.parquet")
COLUMNS = ("key", "target", "width", "height", "seconds", "error", "skipped", "remark")


@dataclass(frozen=True, order=True)
class Unit:
    """Rows of a shard, the last one excluded."""

    shard: int
    first: int
    last: int

    @property
    def size(self) -> int:
        """How many."""
        return self.last - self.first


class JobFiles:
    """The files of a job.

    Args:
        store: of `stores.open_store`.
        url: by which messages name it.
    """

    def __init__(self, store: Any, url: str):
        self.store, self.url = store, url
        # A worker takes the units of a shard one after the other.
        self._shard = lru_cache(maxsize=1)(self._read)

    def about(self) -> dict | None:
        """Return what the job is; None if there is none, or its manifest is not whole. Raises BulkError."""
        try:
            return json.loads(bytes(retried(lambda: self.store.get(ABOUT).bytes())))
        except FileNotFoundError:
            return None
        except (ValueError, OSError) as error:
            raise BulkError(f"{self.url}: {ABOUT} cannot be read: {error}") from error

    def write_manifest(self, found: Iterable[tuple[str, int]], about: dict) -> dict:
        """Write keys and sizes as they come; return `about` with their number, recorded if there are any."""
        rows, shards, total = iter(found), 0, 0
        while part := list(islice(rows, SHARD)):
            keys, sizes = zip(*part, strict=True)
            self._write(f"manifest/{shards:06}.parquet", {"key": keys, "size": sizes})
            shards, total = shards + 1, total + len(part)
        about = about | {"total": total}
        if total:
            put(self.store, ABOUT, json.dumps(about, indent=2).encode(), replace=True)
        return about

    def keys(self, unit: Unit) -> list[str]:
        """Return the keys of some rows."""
        return self._shard(unit.shard)[unit.first : unit.last]

    def write_outcomes(self, unit: Unit, outcomes: list[dict]) -> None:
        """Record the outcomes of all rows of a unit."""
        columns = {name: [outcome.get(name) for outcome in outcomes] for name in COLUMNS}
        self._write(_name_of(unit), columns)

    def done(self) -> list[Unit]:
        """Return the units that have outcomes, in order.

        Units within another do not count: they replace it once it is deleted (`forget_failures`).
        """
        names = (_OUTCOME.fullmatch(key) for key, _ in listed(self.store, "outcomes"))
        units = (Unit(*map(int, name.groups())) for name in names if name)
        done: list[Unit] = []
        for unit in sorted(units, key=lambda unit: (unit.shard, unit.first, -unit.last)):
            if not (done and unit.shard == done[-1].shard and unit.last <= done[-1].last):
                done.append(unit)
        return done

    def left(self, total: int, *, workers: int = 1) -> Iterator[Unit]:
        """Yield the rows without outcomes, in units that become small, so that all workers end together."""
        done, at = self.done(), 0
        n_left = total - sum(unit.size for unit in done)
        for shard in range(-(-total // SHARD)):
            first = 0
            while first < (end := min(SHARD, total - shard * SHARD)):
                if at < len(done) and done[at].shard == shard:
                    if first == done[at].first:
                        first, at = done[at].last, at + 1
                        continue
                    end = done[at].first
                size = max(1, min(UNIT, n_left // (4 * workers), end - first))
                yield Unit(shard, first, first + size)
                first, n_left = first + size, n_left - size

    def outcomes(self) -> Iterator[dict]:
        """Yield all outcomes so far."""
        for _, rows in self._each():
            yield from rows

    def forget_failures(self) -> None:
        """Make the rows that failed ones without an outcome, so that they are left to do."""
        for unit, rows in self._each():
            if all(row["error"] is None for row in rows):
                continue
            first = unit.first
            for failed, group in groupby(rows, key=lambda row: row["error"] is not None):
                kept = list(group)
                if not failed:
                    self.write_outcomes(Unit(unit.shard, first, first + len(kept)), kept)
                first += len(kept)
            # Until here its parts do not count, so that a row never has two outcomes, nor loses one.
            name = _name_of(unit)
            retried(lambda name=name: self.store.delete(name))

    def _each(self) -> Iterator[tuple[Unit, list[dict]]]:
        """Yield the units that are done, with their outcomes; several are read at once."""
        units = iter(self.done())
        with ThreadPoolExecutor(READERS) as readers:
            while part := list(islice(units, 4 * READERS)):
                yield from zip(part, readers.map(self._outcomes, part), strict=True)

    def _outcomes(self, unit: Unit) -> list[dict]:
        return self._table(_name_of(unit)).to_pylist()

    def _read(self, shard: int) -> list[str]:
        return self._table(f"manifest/{shard:06}.parquet").column("key").to_pylist()

    def _table(self, name: str) -> Any:
        import pyarrow
        import pyarrow.parquet

        # Neither a file object of Python's nor `read_table`: their threads may outlive what they ask for when
        # Python exits, and abort.
        content = pyarrow.BufferReader(bytes(retried(lambda: self.store.get(name).bytes())))
        return pyarrow.parquet.ParquetFile(content).read(use_threads=False)

    def _write(self, name: str, columns: dict) -> None:
        with require("cloud", feature="bulk"):
            import pyarrow
            import pyarrow.parquet

        types = {
            "size": pyarrow.int64(),
            "width": pyarrow.int64(),
            "height": pyarrow.int64(),
            "seconds": pyarrow.float64(),
            "skipped": pyarrow.bool_(),
        }
        fields = [(name, types.get(name, pyarrow.string())) for name in columns]
        table = pyarrow.table(dict(columns), schema=pyarrow.schema(fields))
        file = pyarrow.BufferOutputStream()
        pyarrow.parquet.write_table(table, file, row_group_size=UNIT if "size" in columns else None)
        put(self.store, name, file.getvalue().to_pybytes(), replace=True)


def _name_of(unit: Unit) -> str:
    """Return the name of the outcomes of a unit."""
    return f"outcomes/{unit.shard:06}-{unit.first:06}-{unit.last:06}.parquet"
