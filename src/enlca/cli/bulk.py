"""The command for stores: `bulk`."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from enlca.checkpoint import DEFAULT_MODEL
from enlca.cli.common import (
    Device,
    Factor,
    Format,
    Json,
    JsonFile,
    MaxPixels,
    Mode,
    ModelName,
    Precision,
    Quality,
)
from enlca.cli.output import printable, progress, publish, write_out

if TYPE_CHECKING:
    from enlca.bulk.job import Report

Runner = Literal["local", "ray"]
STATUS = "status"


def bulk(
    source: Annotated[
        str,
        typer.Argument(
            metavar="IN_URL",
            help="s3://bucket/prefix, gs://, az://, file://, a folder, or a text file of http(s) addresses.",
        ),
    ],
    target: Annotated[str, typer.Argument(metavar="OUT_URL", help="A store or a folder; keeps the tree.")],
    job: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Manifest and outcomes. Default: a folder here, named by both URLs."
        ),
    ] = None,
    runner: Annotated[Runner, typer.Option(help="Processes of this machine, or Ray's cluster.")] = "local",
    workers: Annotated[int, typer.Option(min=1, help="Each holds a network.")] = 2,
    glob: Annotated[
        str | None, typer.Option(help="Only keys that match, like '2024/*.jpg'; * matches / too.")
    ] = None,
    model: ModelName = DEFAULT_MODEL,
    scale: Factor = None,
    format: Annotated[Format, typer.Option(help="Of the results.")] = "png",
    quality: Quality = 95,
    device: Device = "auto",
    precision: Annotated[Precision, typer.Option(help="As in upscale.")] = "auto",
    mode: Annotated[Mode, typer.Option(help="As in upscale.")] = "auto",
    max_memory: Annotated[str | None, typer.Option(help="Of each worker, like 2GiB.")] = None,
    max_pixels: MaxPixels = 1 << 30,
    allow_overwrite: Annotated[
        bool, typer.Option("--allow-overwrite", help="Replace existing results.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Do the pictures that failed once more.")
    ] = False,
    as_json: Json = False,
    json_file: JsonFile = None,
) -> int:
    """Upscale all pictures of a bucket; the same command goes on. `enlca bulk status JOB` tells how far.

    `a/b.jpg` becomes `a/b_jpg_x4.png`. Each result is written once, even if workers die.
    """
    from enlca.bulk.job import default_job, report_of, run_job
    from enlca.bulk.manifest import JobFiles
    from enlca.bulk.stores import open_store

    if source == STATUS:
        return _show(report_of(JobFiles(open_store(target), target)), as_json, json_file)
    from enlca.bulk.spec import Spec

    place = job or default_job(source, target)
    spec = Spec(
        source=source,
        target=target,
        job=place,
        model=model,
        scale=None if scale is None else str(scale),
        suffix=f".{format}",
        quality=quality,
        max_pixels=max_pixels,
        max_memory=max_memory,
        device=device,
        replace=allow_overwrite,
        options={"precision": precision, "mode": mode},
    )
    if runner == "ray":
        from enlca.bulk.on_ray import RayPool as Pool
    else:
        from enlca.bulk.local import LocalPool as Pool
    print(f"enlca: job {printable(place)}", file=sys.stderr)
    with progress("upscaling") as show:
        options = {"pattern": glob, "retry_failed": retry_failed, "progress": show}
        report = run_job(spec, lambda spec: Pool(spec, workers), **options)
    return _show(report, as_json, json_file)


def _show(report: "Report", as_json: bool, json_file: Path | None) -> int:
    """Print how far a job is; return the exit code."""
    tally = report.tally
    body = {"total": report.total, "done": tally.done, "skipped": tally.skipped, "failed": tally.failed}
    reasons = [{"reason": reason, "count": n} for reason, n in report.reasons.most_common()]
    publish(json.dumps(body | {"reasons": reasons}) + "\n", as_json=as_json, json_file=json_file)
    if not as_json:
        there = f", {tally.skipped} there already" if tally.skipped else ""
        left = f", {report.total - tally.total} left" if tally.total < report.total else ""
        write_out(f"{tally.done} done{there}, {tally.failed} failed of {report.total}{left}\n")
        for reason, n in report.reasons.most_common():
            example = printable(report.examples[reason])
            write_out(f"{n:8} {printable(reason)} (as {example})\n")
    return 1 if tally.failed else 0
