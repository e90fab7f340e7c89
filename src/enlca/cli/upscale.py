"""`enlca upscale`."""

import gc
import os
import re
import sys
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from enlca.checkpoint import BASE, DEFAULT_MODEL
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
    box,
)
from enlca.cli.engines import check_engine, engine_loader
from enlca.cli.hints import hint_at_photo, hint_at_size
from enlca.cli.output import JsonReport, LineReport, progress
from enlca.cli.streams import STREAM, check_streams, stream_job, to_stdout
from enlca.cli.watch import check_folders, watch_folders

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from enlca.image.rows import PictureRows
    from enlca.network.interface import SRModel

Frames = Literal["auto", "first", "all"]
# Runtimes of the extra `export`.
OtherEngine = Literal["onnx", "openvino"]
Engine = Literal["auto", "torch", OtherEngine]


def upscale(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...",
            help="Pictures, folders of pictures, patterns like 'a/*.png', or - for stdin.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            help="A file, a folder, a name like {stem}_x{scale}{suffix}, or - for stdout. "
            "Default: beside the input.",
        ),
    ] = None,
    model: ModelName = DEFAULT_MODEL,
    strength: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Mix the weights: 0 is those of --base, 1 those of --model."),
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="With --strength: the model that --model was trained on from.")
    ] = None,
    scale: Factor = None,
    width: Annotated[int | None, typer.Option(min=1, help="Exact width of the output, in pixels.")] = None,
    height: Annotated[int | None, typer.Option(min=1, help="Exact height of the output, in pixels.")] = None,
    shorter_side: Annotated[
        int | None, typer.Option(min=1, help="Exact length of the shorter side, in pixels.")
    ] = None,
    at_least: Annotated[
        Any, typer.Option(parser=box, metavar="WxH", help="Smallest size that covers WxH; none is shrunk.")
    ] = None,
    device: Device = "auto",
    precision: Annotated[
        Precision, typer.Option(help="auto is bf16 where the hardware is faster in it.")
    ] = "auto",
    mode: Annotated[
        Mode,
        typer.Option(help="stream: as whole, in bounded memory. tiled: each tile attends to itself only."),
    ] = "auto",
    max_memory: Annotated[
        str | None, typer.Option(help="Like 2GiB. Default: half of the device's free memory.")
    ] = None,
    format: Annotated[
        Literal[Format, "same"], typer.Option(help="Unless -o names a file. same: as the input.")
    ] = "png",
    quality: Quality = 95,
    frames: Annotated[
        Frames, typer.Option(help="auto: all where the format stays (TIFF, GIF, WebP, APNG), else the first.")
    ] = "auto",
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Average the 8 flips and rotations; 8 times slower.")
    ] = False,
    engine: Annotated[Engine, typer.Option(help="auto is torch.")] = "auto",
    compile: Annotated[
        bool, typer.Option("--compile", help="Compile the network first: pays for many pictures.")
    ] = False,
    recursive: Annotated[
        bool, typer.Option("--recursive", help="Include subfolders; the output keeps their tree.")
    ] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Skip existing outputs: resumes a stopped job.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace any file: inputs, too, and what enlca did not write.")
    ] = False,
    salvage: Annotated[
        bool, typer.Option("--salvage", help="Take what decodes of damaged pictures, with a remark.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on with what comes into the folders, until Ctrl-C.")
    ] = False,
    max_pixels: MaxPixels = 1 << 30,
    as_json: Json = False,
    json_file: JsonFile = None,
) -> int:
    """Upscale pictures."""
    kinds = {"--scale": scale, "--width or --height": width or height}
    kinds |= {"--shorter-side": shorter_side, "--at-least": at_least}
    sizes = [name for name, value in kinds.items() if value is not None]
    if len(sizes) > 1:
        raise typer.BadParameter(f"{sizes[0]} and {sizes[1]} contradict each other; give one of them")
    if skip_existing and overwrite:
        raise typer.BadParameter("--skip-existing and --overwrite contradict each other; give one of them")
    if base is not None and strength is None:
        raise typer.BadParameter("--base is the model that --strength mixes with; give --strength, too")
    if "" in sys.argv:
        # As a path it would be the current folder.
        raise typer.BadParameter("an empty word names no picture: is a variable unset?")
    _refuse_addresses([*inputs, *filter(None, [out])])
    another = engine in get_args(OtherEngine)
    if another:
        check_engine(engine, device=device, precision=precision, compile=compile)
    piped = STREAM in (*inputs, out)
    if piped:
        check_streams(inputs, out, as_json=as_json, watch=watch)
    if watch:
        check_folders(inputs, out, as_json=bool(as_json or json_file))
    from enlca.inference.batch import Settings, run
    from enlca.inference.jobs import Outcome
    from enlca.inference.outputs import plan
    from enlca.inference.target_size import Size, default_scale, network_scales
    from enlca.inference.upscaler import Upscaler
    from enlca.runtime.device import choose_device, on_host, size_in_bytes

    # Objects of loaded modules live until the end; searching them for garbage at exit takes as long as
    # upscaling ten small files. Not later than here: ONNX and Triton report objects that exit does not free.
    gc.freeze()
    limit = None if max_memory is None else size_in_bytes(max_memory)
    scales, source = network_scales(model, at_least=scale)
    where = choose_device("cpu" if another else device)
    # From the text of the number: 1.1 is 11/10, not the nearest float.
    factor = Fraction(str(scale)) if scale else None if sizes else default_scale(scales)
    size = Size(scale=factor, width=width, height=height, shorter=shorter_side, at_least=at_least)
    options = {"device": where, "precision": precision, "mode": mode}
    options |= {"max_memory": limit, "ensemble": ensemble, "compile": compile}
    options |= {"engine": engine_loader(engine)} if another else {}
    settings = Settings(quality=quality, max_pixels=max_pixels, frames=frames)
    settings = replace(settings, max_memory=on_host(limit, where.type), overwrite=overwrite, salvage=salvage)

    def network(own: int) -> "str | os.PathLike[str] | SRModel":
        if strength is None:
            return source
        from enlca.checkpoint.mixing import mix

        return mix(base or BASE, model, strength=strength, scale=own)

    @cache
    def load(own: int) -> "Callable[..., PictureRows]":
        return Upscaler(network(own), scale=own, **options).rows

    work = partial(run, load=load, size=size, scales=scales, settings=settings)
    existing = "overwrite" if overwrite else "skip" if skip_existing or watch else "replace"
    naming = {"size": size, "suffix": None if format == "same" else f".{format}"}
    naming |= {"recursive": recursive, "existing": existing}
    if watch and out is not None:
        return watch_folders(inputs, out, partial(plan, **naming), work, recursive=recursive)
    if piped:
        jobs, unusable = stream_job(inputs, out, **naming)
    else:
        jobs, unusable = plan(inputs, out, **naming)
    hints = sys.stderr.isatty() and not piped
    if hints:
        hint_at_photo(jobs, model)
    head = {"model": model, "scale": factor and (int(factor) if factor.denominator == 1 else float(factor))}
    if as_json or json_file:
        report = JsonReport(head, printed=as_json, file=json_file)
    else:
        report = LineReport(lines=not (piped and to_stdout(inputs, out)))
    for failure in unusable:
        report.add(Outcome(failure.source, error=failure.error))
    with progress("upscaling") as show, report.counting(jobs):
        results = work(jobs, progress=show)
        # Closed here and now, so that Ctrl-C removes unfinished files.
        with closing(results):
            for outcome in results:
                report.add(outcome)
                hints = hints and not hint_at_size(outcome)
    report.close()
    return 1 if report.n_failed else 0


def _refuse_addresses(paths: "Sequence[Path]") -> None:
    """Raise a usage error for `s3://bucket/a.jpg` and the like, of which a path has lost a slash."""
    for path in paths:
        address = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/(?=[^/])", str(path))
        if address and not path.exists():
            whole = str(path).replace(":/", "://", 1)
            raise typer.BadParameter(f"{whole} is an address; upscale takes files, enlca bulk takes buckets")
