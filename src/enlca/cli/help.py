"""The text of `--help`: commands in groups, examples, common options first, exit codes last."""

import inspect
from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand, TyperGroup

# The groups of `enlca --help`, in its order; each command names its own (see `cli/app.py`).
GROUPS = PICTURES, MEASURING, TRAINING, MODELS = ("Pictures", "Measuring", "Training", "Models")
EXIT_CODES = "Exit codes: 0 all done; 1 some inputs failed, each named; 2 wrong usage; 130 interrupted."
EXAMPLES: dict[str, Sequence[tuple[str, str]]] = {
    "": (
        ("enlca upscale photo.jpg", "photo_x4.png beside it"),
        ("enlca upscale holiday/ -o sr/", "a folder of pictures"),
        ("enlca explore", "a page in the browser: drop a picture, look into the network"),
    ),
    "upscale": (
        ("enlca upscale photo.jpg", "photo_x4.png beside it"),
        ("enlca upscale holiday/ -o sr/ --recursive --skip-existing", "goes on where it stopped"),
        ("enlca upscale photo.jpg --width 3840", "an exact size; or --scale 3.5"),
        ("enlca upscale --watch in/ -o out/", "goes on with what comes into the folder"),
        ("enlca upscale huge.tif --max-memory 2GiB", "streamed, with the same result"),
    ),
    "degrade": (
        ("enlca degrade originals/ lr/ --scale 4", "MATLAB's bicubic, to the bit"),
        ("enlca degrade originals/ lr_web/ --scale 4 --preset web --seed 1", "as photographs are"),
    ),
    "bulk": (("enlca bulk s3://photos/2024 s3://photos/large --glob '*.jpg'", ""),),
    "evaluate": (
        ("enlca evaluate --model bicubic --model enlcn-tiny --data Set5 --scale 4", "one table"),
        ("enlca evaluate --model runs/mine --data Set5 --scale 4 --json", "a run's best weights"),
    ),
    "compare": (
        (
            "enlca compare --model edsr-tiny --model my_results/ --data Set5 --scale 4 --html report.html",
            "",
        ),
    ),
    "score": (("enlca score my_results/ Set5/ --scale 4", "pictures that any method made"),),
    "audit": (("enlca audit my_results/ Set5/ --scale 4", "why do my numbers differ?"),),
    "cost": (
        ("enlca cost", "the attentions of Table 4"),
        ("enlca cost enlcn-tiny rcan --size 270x480", "whole networks"),
    ),
    "info": (("enlca info enlcn-tiny", "or any file of weights"),),
    "convert": (("enlca convert enlcn_x4.pt enlcn_x4.safetensors", "the authors' checkpoints, and back"),),
    "export": (("enlca export enlcn-tiny tiny.onnx", "or .xml for OpenVINO"),),
    "push": (("enlca hub push runs/mine me/mine --license cc-by-4.0", "for --model hf-hub:me/mine"),),
    "explore": (
        ("enlca explore --open", "and in the browser at once"),
        ("enlca explore --model runs/mine/best.safetensors --port 8000", ""),
        ("enlca explore --shortcut ~/Desktop", "a file to double-click"),
    ),
    "serve": (("enlca serve --model enlcn-light --port 8000", ""),),
    "train": (
        ("enlca train smoke --data.train my_pictures/", "a minute: does it work here?"),
        (
            "enlca train enlcn_tiny_x4 --data.train my_pictures/ --run.dir runs/mine",
            "a recipe, with fields changed",
        ),
    ),
    "configs": (
        ("enlca configs", "all names"),
        ("enlca configs show smoke > mine.yaml", "a file of your own to begin with"),
    ),
    "resume": (("enlca resume runs/mine", "after Ctrl-C, a kill or a power cut"),),
}
# Options that most uses need, first in the help of commands with many.
COMMON: dict[str, Sequence[str]] = {
    "upscale": (
        *("--out", "--model", "--scale", "--width", "--height", "--format", "--quality"),
        *("--recursive", "--skip-existing", "--overwrite"),
    ),
    "bulk": ("--model", "--scale", "--format", "--job", "--workers"),
    "evaluate": ("--model", "--data", "--scale", "--json", "--csv"),
    "compare": ("--model", "--data", "--scale", "--html"),
    "serve": ("--model", "--host", "--port", "--token"),
}


def write_commands(group: TyperGroup, ctx: Any, formatter: Any) -> None:
    """Write the commands of a group under the titles that they name, each with its whole first sentence."""
    shown = [(name, group.get_command(ctx, name)) for name in group.list_commands(ctx)]
    rows = [
        (getattr(one, "rich_help_panel", None) or "Commands", name, _first_sentence(one.help or ""))
        for name, one in shown
        if one is not None and not one.hidden
    ]
    for title in dict.fromkeys([*GROUPS, *(title for title, *_ in rows)]):
        if found := [(name, text) for of, name, text in rows if of == title]:
            with formatter.section(title):
                formatter.write_dl(found)


def write_examples(name: str, formatter: Any) -> None:
    """Write the examples of a command; "" stands for `enlca` itself."""
    if not (examples := EXAMPLES.get(name, ())):
        return
    with formatter.section("Examples"):
        wide = max(len(line) for line, comment in examples if comment or len(examples) == 1)
        for line, comment in examples:
            # Not `write_text`, which would break a command over lines: it is there to be copied.
            said = f"{line:{wide}}  # {comment}" if comment else line
            formatter.write(f"{'':{formatter.current_indent}}{said}\n")


def write_options(command: TyperCommand, ctx: Any, formatter: Any) -> None:
    """Write arguments, then common options, then the others."""
    common = COMMON.get(ctx.info_name or "", ())
    rows: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": [], "More options": []}
    parameters = command.get_params(ctx)
    listed = {name: number for number, name in enumerate(common)}
    parameters.sort(key=lambda one: min((listed.get(name, len(listed)) for name in one.opts), default=0))
    for one in parameters:
        if (record := one.get_help_record(ctx)) is None:
            continue
        rest = "More options" if common else "Options"
        place = "Options" if listed.keys() & {*one.opts} else rest
        rows["Arguments" if one.param_type_name == "argument" else place].append(record)
    for title, records in rows.items():
        if records:
            with formatter.section(title):
                formatter.write_dl(records)


def write_exit_codes(formatter: Any) -> None:
    """Write the exit codes, which all commands share."""
    formatter.write_paragraph()
    formatter.write_text(EXIT_CODES)


def _first_sentence(text: str) -> str:
    paragraph = " ".join(inspect.cleandoc(text).partition("\n\n")[0].split())
    return paragraph.partition(". ")[0].removesuffix(".")
