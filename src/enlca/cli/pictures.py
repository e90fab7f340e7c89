"""Commands that make pictures: `upscale`, `degrade`."""

import gc
import json
import sys
from contextlib import closing
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from enlca.cli.common import printable, progress, report_failures

if TYPE_CHECKING:
    from collections.abc import Callable

    from enlca.image.rows import PictureRows
    from enlca.inference.batch import Outcome
    from enlca.inference.transforms import Forward
    from enlca.network.sr import SRNetwork

FORMATS = ("png", "jpg", "webp", "tif", "avif")
LARGEST = 4
# Written here too, so that a wrong word is told before anything heavy is loaded; `tests/cli` compares them.
MODES = ("auto", "whole", "stream", "tiled")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
FRAMES = ("auto", "first", "all")
OTHER_ENGINES = ("onnx", "openvino")
ENGINES = ("auto", "torch", *OTHER_ENGINES)


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
            help="A file, a folder, or a name like {stem}_x{scale}{suffix}. Default: beside it.",
        ),
    ] = None,
    model: Annotated[str, typer.Option(help="A bundled name (see `enlca models`) or a file.")] = "enlcn-tiny",
    scale: Annotated[
        float | None, typer.Option(help="Up to 4, also 3.5: exactly. Default: the model's own.")
    ] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Exactly so many pixels wide.")] = None,
    height: Annotated[int | None, typer.Option(min=1, help="Exactly so many pixels high.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    precision: Annotated[
        str, typer.Option(help="auto, fp32, bf16 or fp16; auto is bf16 where the hardware is faster in it.")
    ] = "auto",
    mode: Annotated[
        str,
        typer.Option(help="auto, whole, stream (the same in bounded memory) or tiled (ordinary tiles)."),
    ] = "auto",
    max_memory: Annotated[
        str | None, typer.Option(help="Like 2GiB. Default: half of what is free on the device.")
    ] = None,
    format: Annotated[
        str, typer.Option(help=f"{', '.join(FORMATS)}; a file named by -o decides itself.")
    ] = "png",
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of jpg, webp and avif.")] = 95,
    frames: Annotated[
        str, typer.Option(help="first, all, or auto: all pages of a TIFF that becomes a TIFF.")
    ] = "auto",
    ensemble: Annotated[bool, typer.Option("--ensemble", help="Average 8 views; 8 times slower.")] = False,
    engine: Annotated[str, typer.Option(help="torch, onnx or openvino; auto is torch.")] = "auto",
    compile: Annotated[
        bool, typer.Option("--compile", help="Compile the network first: worth it for many pictures.")
    ] = False,
    recursive: Annotated[
        bool, typer.Option("--recursive", help="Folders below folders, too; the tree is kept.")
    ] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Only what is missing: goes on after a stop.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace inputs, too, where outputs have their names.")
    ] = False,
    max_pixels: Annotated[
        int, typer.Option(min=1, help="Refuse pictures whose header promises more than this.")
    ] = 1 << 30,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> int:
    """Upscale pictures."""
    check_choice("--format", format, FORMATS)
    if scale is not None and not 0 < scale <= LARGEST:
        raise typer.BadParameter(f"--scale must be above 0 and at most {LARGEST}; got {scale:g}")
    if scale is not None and (width or height):
        raise typer.BadParameter("--scale and --width or --height contradict each other; give one of them")
    if skip_existing and overwrite:
        raise typer.BadParameter("--skip-existing and --overwrite contradict each other; give one of them")
    check_choice("--mode", mode, MODES)
    check_choice("--precision", precision, PRECISIONS)
    check_choice("--frames", frames, FRAMES)
    check_choice("--engine", engine, ENGINES)
    check_engine(engine, device=device, precision=precision, compile=compile)
    from enlca.inference.batch import Outcome, Settings, run
    from enlca.inference.outputs import plan
    from enlca.inference.target_size import Size, default_scale, network_scales
    from enlca.inference.upscaler import Upscaler
    from enlca.runtime.device import choose_device, size_in_bytes

    # What is loaded stays: looking for garbage in it when Python leaves takes as long as ten small pictures.
    # Only now, not at the end: ONNX and Triton, which come later, would miss what is theirs, and say so.
    gc.freeze()
    limit = None if max_memory is None else size_in_bytes(max_memory)
    scales = network_scales(model, at_least=scale)
    where = choose_device("cpu" if engine in OTHER_ENGINES else device).type
    if width or height:
        size = Size(width=width, height=height)
    else:
        # The text of a number is what was meant: 1.1 is 11/10.
        size = Size(scale=Fraction(str(scale)) if scale else default_scale(scales))
    way = {"device": where, "precision": precision, "mode": mode, "max_memory": limit}
    way |= {"ensemble": ensemble, "compile": compile}
    settings = Settings(quality=quality, max_pixels=max_pixels, frames=frames, max_memory=limit)
    existing = "skip" if skip_existing else "overwrite" if overwrite else "replace"
    jobs, unusable = plan(inputs, out, size=size, suffix=f".{format}", recursive=recursive, existing=existing)
    outcomes = [Outcome(failure.source, error=failure.error) for failure in unusable]

    def load(own: int) -> "Callable[..., PictureRows]":
        return Upscaler(model, scale=own, engine=load_engine_of(engine, precision=precision), **way).rows

    with progress("upscaling") as show:
        results = run(jobs, load, size=size, scales=scales, settings=settings, progress=show)
        # Closed here and now, so that Ctrl-C removes unfinished files.
        with closing(results):
            outcomes += results
    if as_json:
        factor = size.scale and (int(size.scale) if size.scale.denominator == 1 else float(size.scale))
        body = {"model": model, "scale": factor, "pictures": [outcome.to_dict() for outcome in outcomes]}
        print(json.dumps(body))
    else:
        for outcome in outcomes:
            if outcome.error is None:
                print(_line(outcome))
    return report_failures([outcome.error for outcome in outcomes if outcome.error])


def check_engine(engine: str, *, device: str, precision: str, compile: bool) -> None:
    """Check that the options go together; nothing heavy is loaded.

    Raises:
        BadParameter: another engine on a GPU, in half precision, or compiled by PyTorch.
    """
    if engine not in OTHER_ENGINES:
        return
    if device not in ("auto", "cpu"):
        raise typer.BadParameter(f"--engine {engine} computes on the processor: --device cpu, not {device}")
    if precision == "fp16" or (precision == "bf16" and engine == "onnx"):
        raise typer.BadParameter(f"--engine {engine} does not compute in {precision}; use --precision fp32")
    if compile:
        raise typer.BadParameter("--compile is PyTorch's; --engine torch goes with it")


def load_engine_of(engine: str, *, precision: str) -> "Callable[[SRNetwork], Forward] | None":
    """Return what makes the engine of a network; None for PyTorch, which "auto" is, too."""
    if engine not in OTHER_ENGINES:
        return None
    from enlca.export.engines import load_engine

    return partial(load_engine, engine, precision="bf16" if precision == "bf16" else "fp32")


def degrade(
    hr_dir: Annotated[Path, typer.Argument(help="Folder of large pictures.")],
    lr_dir: Annotated[Path, typer.Argument(help="Folder that receives the small ones, as PNG.")],
    scale: Annotated[int, typer.Option(help="2, 3 or 4.")],
) -> int:
    """Make small pictures of large ones: MATLAB's bicubic to the bit, after mod-cropping."""
    check_scale(scale)
    from enlca.data.degradations import degrade_folder

    with progress("degrading") as show:
        failures = degrade_folder(hr_dir, lr_dir, scale=scale, on_picture=show)
    return report_failures(failures)


def check_choice(option: str, value: str, allowed: tuple[str, ...]) -> None:
    """Refuse a word that an option does not know."""
    if value not in allowed:
        raise typer.BadParameter(f"{option} must be one of {', '.join(allowed)}; got {value!r}")


def check_scale(scale: int | None) -> None:
    """Refuse a scale that pictures are not made for, before anything heavy is loaded."""
    if scale not in (None, 2, 3, 4):
        raise typer.BadParameter(f"--scale must be 2, 3 or 4; got {scale}")


def _line(outcome: "Outcome") -> str:
    """One picture that went well, in words that stdout can print whatever the names hold."""
    if outcome.skipped:
        text = f"{outcome.source} -> {outcome.target} exists: skipped"
    else:
        text = f"{outcome.source} -> {outcome.target} ({outcome.width}x{outcome.height})"
    text += f": {outcome.remark}" if outcome.remark else ""
    encoding = sys.stdout.encoding or "utf-8"
    return printable(text).encode(encoding, "backslashreplace").decode(encoding)


COMMANDS = (upscale, degrade)
SETTINGS: dict[str, dict] = {}
