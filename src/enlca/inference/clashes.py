"""Names of outputs that clash, in the index of a plan: separated, or refused; and results of earlier runs.

A plan of one picture has no use for it: `outputs.plan` calls it for several.
"""

import os
import re
import sqlite3
from collections.abc import Callable

from enlca.inference.inputs import Report

# The columns of a job that its target decides: target, place, skip and reason.
Placed = tuple[bytes, bytes, bool, str | None]
# Is given a source and the folder below the input that led to it; None if no other name is possible.
Separate = Callable[[str, str], Placed | None]

_SIZE = re.compile(rb"_(?:x\d+(?:\.\d+)?|[whs]\d+|\d+x\d+|min\d+x\d+)$")
_CLASHING = "place IN (SELECT place FROM job GROUP BY place HAVING count(*) > 1)"


def separate_names(index: sqlite3.Connection, separate: Separate) -> None:
    """Give jobs with one target names of their own: `a.gif` and `a.tif` become `a_gif_x4` and `a_tif_x4`.

    A new name may be that of another picture, which is separated in its turn: each at most once.
    """
    while True:
        index.execute(f"CREATE TEMP TABLE clash AS SELECT n FROM job WHERE NOT separated AND {_CLASHING}")
        rows = index.execute("SELECT source, below, n FROM job WHERE n IN clash")
        found = False
        for source, below, n in rows:
            found = True
            placed = separate(os.fsdecode(source), os.fsdecode(below))
            index.execute("UPDATE job SET separated = 1 WHERE n = ?", (n,))
            if placed is not None:
                update = "UPDATE job SET target = ?, place = ?, skip = ?, reason = ? WHERE n = ?"
                index.execute(update, (*placed, n))
        index.execute("DROP TABLE clash")
        if not found:
            return


def refuse_clashes(index: sqlite3.Connection, report: Report) -> None:
    """Report the jobs whose target is that of another one, all but the first, and remove them."""
    # Each statement that follows looks at all jobs.
    if not index.execute(f"SELECT 1 FROM job WHERE {_CLASHING} LIMIT 1").fetchone():
        return
    query = (
        "SELECT two.source, one.source, two.target FROM job two JOIN job one ON one.place = two.place "
        "WHERE one.n = (SELECT min(n) FROM job WHERE place = two.place) AND one.n < two.n ORDER BY two.n"
    )
    hint = "name the outputs by what differs: {folder}, {stem} or {ext} in -o"
    for row in index.execute(query):
        source, first, target = map(os.fsdecode, row)
        report(source, f"{source}: would be written to {target}, as {first} is; {hint}")
    index.execute("DELETE FROM job WHERE n NOT IN (SELECT min(n) FROM job GROUP BY place)")


def mark_results(index: sqlite3.Connection) -> None:
    """Mark inputs that are named like results of others: `a_x4.png` or `a_jpg_x4.png` beside `a.jpg`."""
    indexed = False
    for n, source in index.execute("SELECT n, id FROM job"):
        root = _root(source)
        if not (size := _SIZE.search(root)):
            continue
        if not indexed:
            index.create_function("root", 1, _root, deterministic=True)
            index.execute("CREATE INDEX by_root ON job (root(id))")
            index.execute("CREATE INDEX by_id ON job (id)")
            indexed = True
        stem = root[: size.start()]
        name, _, ext = stem.rpartition(b"_")
        query = "SELECT 1 FROM job WHERE root(id) = ? OR id = ? LIMIT 1"
        if index.execute(query, (stem, name + b"." + ext)).fetchone():
            index.execute("UPDATE job SET again = 1 WHERE n = ?", (n,))


def _root(path: bytes) -> bytes:
    """Return a path without its suffix."""
    return os.path.splitext(path)[0]
