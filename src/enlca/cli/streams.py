"""`-` as an input or as the output: a picture from stdin, or into stdout."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from enlca.image.source import Source
    from enlca.inference.jobs import Failure, Job

STREAM = Path("-")


def check_streams(inputs: Sequence[Path], out: Path | None, *, as_json: bool, watch: bool) -> None:
    """Check that the streams hold one picture and nothing else. Raises BadParameter."""
    if len(inputs) > 1 or inputs[0].is_dir():
        raise typer.BadParameter("- is one picture: give one input with it")
    if watch:
        raise typer.BadParameter("--watch looks into folders; - is none")
    if STREAM in inputs and sys.stdin.isatty():
        raise typer.BadParameter("- reads a picture from stdin, which is a terminal")
    if not to_stdout(inputs, out):
        return
    if as_json:
        raise typer.BadParameter("--json and the picture would both go to stdout; use --json-file")
    if sys.stdout.isatty():
        raise typer.BadParameter("a picture would go to stdout, which is a terminal; name a file with -o")


def to_stdout(inputs: Sequence[Path], out: Path | None) -> bool:
    """Whether the result goes to stdout: said by -o, or where stdin comes without it."""
    return out == STREAM or (out is None and STREAM in inputs)


def stream_job(
    inputs: Sequence[Path], out: Path | None, **naming: Any
) -> "tuple[Sequence[Job], list[Failure]]":
    """Return the job between streams, or between one and a file; `naming` is for `outputs.plan`.

    Raises:
        JobError: as `outputs.plan`; several pictures.
    """
    from dataclasses import replace

    from enlca.errors import JobError
    from enlca.image.source import Source
    from enlca.inference.jobs import Job, Sink
    from enlca.inference.outputs import plan

    given = Source.of(sys.stdin.buffer, name="stdin") if STREAM in inputs else None
    # Its name in `{stem}`; a folder of this name is no picture.
    called = STREAM if Path("stdin").is_dir() else Path("stdin")
    named = [called if given else inputs[0]]
    piped = to_stdout(inputs, out)
    jobs, failed = plan(named, None if piped else out, **naming)
    made: list[Job] = list(jobs)
    if len(made) > 1:
        raise JobError("- is one picture: give one input with it")
    if given:
        made = [replace(job, source=given) for job in made]
    if piped:
        suffix = naming["suffix"] or _suffix_of(given or Source.of(inputs[0]))
        made = [replace(job, target=Sink(sys.stdout.buffer, f"stdout{suffix}"), skip=False) for job in made]
    return made, failed


def _suffix_of(source: "Source") -> str:
    """Return the suffix of a picture's own format, by its content; of PNG where it cannot be written."""
    from enlca.errors import PictureError
    from enlca.image.encoding import WRITABLE
    from enlca.image.files import format_of

    try:
        suffix = f".{format_of(source)}"
    # What is wrong with it is said where it is upscaled.
    except PictureError:
        return ".png"
    return suffix if suffix in WRITABLE else ".png"
