"""The page of the measurements in `benchmarks/results/`, by the hardware that they were made on."""

import ast
import csv
from collections import defaultdict
from itertools import groupby
from pathlib import Path

from pages.text import table

ROOT = Path(__file__).parents[2] / "benchmarks"
# Columns that every result has, and that are said once.
WHERE = ("processor", "threads", "python", "torch", "enlca", "date")
# Files that are not called after the program that writes them.
WRITERS = {"contrast_share": "training_step"}
INTRODUCTION = """\
# Benchmarks by hardware

All numbers in `benchmarks/results/`, as they were measured. Each program checks first that what it compares
computes the same. `python -m benchmarks.run NAME` measures on your machine; what was tried and what came of
it is in [benchmarks/NOTES.md](../../benchmarks/NOTES.md). The machines were shared with other work, so ratios
within one table say more than times. Hardware that is not listed was not measured: there is no GPU yet.
"""
SHOWN = 12


def writer(name: str) -> str:
    """Return the program that writes `NAME.csv`."""
    programs = sorted((path.stem for path in ROOT.glob("*.py")), key=len, reverse=True)
    return WRITERS.get(name) or next(program for program in programs if name.startswith(program))


def page() -> str:
    """Return the page, in Markdown."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted((ROOT / "results").glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        for where, same in groupby(rows, key=lambda row: tuple(row[name] for name in WHERE)):
            found[where[0]].append(measured(path.stem, dict(zip(WHERE, where, strict=True)), list(same)))
    sections = (f"## {processor}\n\n" + "\n".join(parts) for processor, parts in sorted(found.items()))
    return "\n".join([INTRODUCTION, *sections])


def measured(name: str, where: dict[str, str], rows: list[dict[str, str]]) -> str:
    """Return one result: what it measures, how to repeat it, and its table; a long one is folded."""
    program = writer(name)
    about = ast.get_docstring(ast.parse((ROOT / f"{program}.py").read_text(encoding="utf-8"))) or ""
    columns = [column for column in rows[0] if column not in WHERE]
    made = f"{where['threads']} threads, PyTorch {where['torch']}, Python {where['python']}, {where['date']}"
    body = table(columns, ([row[column] for column in columns] for row in rows))
    if len(rows) > SHOWN:
        body = f":::{{dropdown}} {len(rows)} rows\n{body}:::\n"
    first = " ".join(about.partition("\n\n")[0].split())
    return f"### {name}\n\n{first}\n\n{body}\n`python -m benchmarks.run {program}`; {made}.\n"
