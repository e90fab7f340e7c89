"""Commands that write images: `upscale`, `degrade`."""

import gc
import json
import os
import re
from contextlib import closing
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from enlca.checkpoint import DEFAULT_MODEL
from enlca.cli.common import Device, Json, JsonFile, ModelName, Scale
from enlca.cli.hints import hint_at_photo
from enlca.cli.output import (
    JsonReport,
    LineReport,
    printable,
    progress,
    publish,
    report_failures,
    write_out,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from enlca.image.rows import PictureRows
    from enlca.inference.transforms import Forward
    from enlca.network.interface import SRModel
    from enlca.network.sr import SRNetwork

LARGEST = 4
# The model that the one for photographs was trained on from.
BASE = "enlcn-light"
Format = Literal["png", "jpg", "webp", "tif", "avif"]
Mode = Literal["auto", "whole", "stream", "tiled"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Frames = Literal["auto", "first", "all"]
Preset = Literal["clean", "web", "phone", "strong"]
# Runtimes of the extra `export`.
OtherEngine = Literal["onnx", "openvino"]
Engine = Literal["auto", "torch", OtherEngine]


def upscale(
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="INPUT...", help="Pictures, folders of pictures, or patterns like 'a/*.png'."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            help="A file, a folder, or a name like {stem}_x{scale}{suffix}. Default: beside the input.",
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
    scale: Annotated[
        float | None, typer.Option(help="Any factor up to 4, such as 3.5. Default: the model's own.")
    ] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Exact width of the output, in pixels.")] = None,
    height: Annotated[int | None, typer.Option(min=1, help="Exact height of the output, in pixels.")] = None,
    device: Annotated[Device, typer.Option(help="auto takes a GPU if there is one.")] = "auto",
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
    format: Annotated[Format, typer.Option(help="Unless -o names a file.")] = "png",
    quality: Annotated[int, typer.Option(min=1, max=100, help="For jpg, webp and avif.")] = 95,
    frames: Annotated[
        Frames, typer.Option(help="auto: all pages of a TIFF that becomes a TIFF, else the first.")
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
        bool, typer.Option("--overwrite", help="Replace an input where its output has the same name.")
    ] = False,
    max_pixels: Annotated[
        int, typer.Option(min=1, help="Refuse pictures with more pixels than this by their header.")
    ] = 1 << 30,
    as_json: Json = False,
    json_file: JsonFile = None,
) -> int:
    """Upscale pictures."""
    if scale is not None and not 0 < scale <= LARGEST:
        raise typer.BadParameter(f"--scale must be above 0 and at most {LARGEST}; got {scale:g}")
    if scale is not None and (width or height):
        raise typer.BadParameter("--scale and --width or --height contradict each other; give one of them")
    if skip_existing and overwrite:
        raise typer.BadParameter("--skip-existing and --overwrite contradict each other; give one of them")
    if base is not None and strength is None:
        raise typer.BadParameter("--base is the model that --strength mixes with; give --strength, too")
    _check_engine(engine, device=device, precision=precision, compile=compile)
    _refuse_addresses([*inputs, *filter(None, [out])])
    from enlca.inference.batch import Outcome, Settings, run
    from enlca.inference.outputs import plan
    from enlca.inference.target_size import Size, default_scale, network_scales
    from enlca.inference.upscaler import Upscaler
    from enlca.runtime.device import choose_device, on_host, size_in_bytes

    # Objects of loaded modules live until the end; searching them for garbage at exit takes as long as
    # upscaling ten small files. Not later than here: ONNX and Triton report objects that exit does not free.
    gc.freeze()
    limit = None if max_memory is None else size_in_bytes(max_memory)
    scales, source = network_scales(model, at_least=scale)
    where = choose_device("cpu" if engine in get_args(OtherEngine) else device).type
    if width or height:
        size = Size(width=width, height=height)
    else:
        # From the text of the number: 1.1 is 11/10, not the nearest float.
        size = Size(scale=Fraction(str(scale)) if scale else default_scale(scales))
    options = {"device": where, "precision": precision, "mode": mode, "max_memory": limit}
    options |= {"ensemble": ensemble, "compile": compile, "engine": _engine_loader(engine)}
    settings = Settings(
        quality=quality, max_pixels=max_pixels, frames=frames, max_memory=on_host(limit, where)
    )
    existing = "skip" if skip_existing else "overwrite" if overwrite else "replace"
    jobs, unusable = plan(inputs, out, size=size, suffix=f".{format}", recursive=recursive, existing=existing)
    hint_at_photo(jobs, model)
    factor = size.scale and (int(size.scale) if size.scale.denominator == 1 else float(size.scale))
    head = {"model": model, "scale": factor}
    report = JsonReport(head, printed=as_json, file=json_file) if as_json or json_file else LineReport()
    for failure in unusable:
        report.add(Outcome(failure.source, error=failure.error))

    def network(own: int) -> "str | os.PathLike[str] | SRModel":
        if strength is None:
            return source
        from enlca.checkpoint.mixing import mix

        return mix(base or BASE, model, strength=strength, scale=own)

    def load(own: int) -> "Callable[..., PictureRows]":
        return Upscaler(network(own), scale=own, **options).rows

    with progress("upscaling") as show:
        results = run(jobs, load, size=size, scales=scales, settings=settings, progress=show)
        # Closed here and now, so that Ctrl-C removes unfinished files.
        with closing(results):
            for outcome in results:
                report.add(outcome)
    report.close()
    return 1 if report.n_failed else 0


def degrade(
    hr_dir: Annotated[Path, typer.Argument(help="Folder of HR images.")],
    lr_dir: Annotated[Path, typer.Argument(help="Folder that receives the LR images, as PNG.")],
    scale: Annotated[Scale, typer.Option(help="The factor by which they are downscaled.")],
    preset: Annotated[
        Preset, typer.Option(help="clean: MATLAB's bicubic to the bit. The others: as photographs are.")
    ] = "clean",
    seed: Annotated[int, typer.Option(min=0, help="Of the random draws of a preset.")] = 0,
    as_json: Json = False,
    json_file: JsonFile = None,
) -> int:
    """Make LR images of HR images, after mod-cropping: MATLAB's bicubic, or degraded as photographs are.

    The same seed and names give the same pictures. Files that exist are not replaced.
    """
    from enlca.data.degradations import degrade_folder
    from enlca.data.recipes import Degradation

    degradation = Degradation(preset=preset)
    with progress("degrading") as show:
        options = {"scale": scale, "degradation": degradation, "seed": seed}
        done = degrade_folder(hr_dir, lr_dir, **options, on_picture=show)
    body = {"folder": str(lr_dir), "scale": scale, "preset": preset, "seed": seed}
    publish(json.dumps(body | done._asdict()) + "\n", as_json=as_json, json_file=json_file)
    if not as_json:
        there = f", {done.kept} there already" if done.kept else ""
        failed = f", {len(done.failures)} failed" if done.failures else ""
        write_out(printable(f"{lr_dir}: {done.made} made{there}{failed}") + "\n")
    return report_failures(done.failures)


def _check_engine(engine: str, *, device: str, precision: str, compile: bool) -> None:
    """Check that the options go together.

    Raises:
        BadParameter: another engine than PyTorch on a GPU, in half precision, or compiled by PyTorch.
    """
    if engine not in get_args(OtherEngine):
        return
    if device not in ("auto", "cpu"):
        raise typer.BadParameter(f"--engine {engine} computes on the processor: --device cpu, not {device}")
    if precision not in ("auto", "fp32"):
        raise typer.BadParameter(f"--engine {engine} does not compute in {precision}; use --precision fp32")
    if compile:
        raise typer.BadParameter("--compile is PyTorch's; --engine torch goes with it")


def _refuse_addresses(paths: "Sequence[Path]") -> None:
    """Raise a usage error for `s3://bucket/a.jpg` and the like, of which a path has lost a slash."""
    for path in paths:
        address = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/(?=[^/])", str(path))
        if address and not path.exists():
            whole = str(path).replace(":/", "://", 1)
            raise typer.BadParameter(f"{whole} is an address; upscale takes files, enlca bulk takes buckets")


def _engine_loader(engine: str) -> "Callable[[SRNetwork], Forward] | None":
    """Return what makes the engine of a network; None for PyTorch."""
    if engine not in get_args(OtherEngine):
        return None
    from enlca.export.engines import load_engine

    return partial(load_engine, engine)
