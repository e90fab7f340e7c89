"""Commands that train: `train`, `resume`, `configs`, and `data check`, `data pack`, `data fetch`."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from enlca.cli.common import Json, JsonFile, Scale
from enlca.cli.output import progress, publish, report_failures, write_out
from enlca.errors import EnlcaError, Stopped, require

if TYPE_CHECKING:
    from enlca.data.check import Contents
    from enlca.training.run_folder import OnProgress, TrainingProgress

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="--section.key VALUE", help="Fields to override."),
]


def train(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG", help="A YAML file, or a name that `enlca configs` lists.")
    ],
    overrides: Overrides = None,
    print_config: Annotated[
        bool, typer.Option("--print_config", help="Print the resolved configuration and exit.")
    ] = False,
) -> None:
    """Train a network as a configuration says.

    Each field of it is an option, too: --section.field VALUE.
    """
    from enlca.training.recipes import find_config

    _run(find_config(config), overrides, resume=None, print_config=print_config)


def resume(
    run: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="The folder of the run.")],
    overrides: Overrides = None,
) -> None:
    """Resume a run that was stopped or killed; it ends in the same weights, to the bit on a CPU.

    With `--run.dir OTHER` it branches: it continues in OTHER, and RUN_DIR stays as it is. `--run.steps +N` is
    N steps more than the saved state, `--schedule.decay_from now` is the step of that state.
    """
    if not (run / "config.yaml").is_file():
        raise EnlcaError(f"{run}: no run to go on with (it has no config.yaml)")
    _run(run / "config.yaml", overrides, resume=run, print_config=False)


def configs(
    action: Annotated[
        Literal["list", "show"], typer.Argument(help="show prints the YAML file of NAME.")
    ] = "list",
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="With show.")] = None,
    as_json: Json = False,
    json_file: JsonFile = None,
) -> None:
    """List the training configurations that come with the package, or show one.

    `enlca train NAME` trains by one of them.
    """
    from enlca.training.recipes import find_recipe, recipes, summary

    if action == "show":
        if name is None:
            raise typer.BadParameter(f"show which? {', '.join(recipes())}")
        text = find_recipe(name).read_text(encoding="utf-8")
        publish(json.dumps({"name": name, "yaml": text}) + "\n", as_json=as_json, json_file=json_file)
        if not as_json:
            write_out(text)
        return
    found = [{"name": name, "summary": summary(path)} for name, path in recipes().items()]
    publish(json.dumps({"configs": found}) + "\n", as_json=as_json, json_file=json_file)
    if not as_json:
        write_out("".join(f"{one['name']:16} {one['summary']}\n" for one in found))


def _run(file: Path, overrides: list[str] | None, *, resume: Path | None, print_config: bool) -> None:
    with require("train", feature="training"):
        from enlca.training.parse import read_config, read_resumed

        if resume is None:
            settings, text = read_config(file, overrides or [])
        else:
            settings, text = read_resumed(resume, overrides or [])
        if print_config:
            print(text, end="")
            return
        from enlca.training.fit import fit

    with _bar() as (on_pack, on_progress):
        best = fit(
            settings,
            text,
            resume=resume,
            on_pack=on_pack,
            on_progress=on_progress,
            say=lambda line: print(f"enlca: {line}", file=sys.stderr),
        )
    if best is not None:
        print(f"best weights: {best}")


SHOWN = {
    "psnr": "PSNR {:.3f}",
    "l1": "L1 {:.4f}",
    "contrast": "L_cl {:.4f}",
    "gap": "gap {:.2f}",
    "steps_per_second": "{:.1f} steps/s",
}


@contextmanager
def _bar() -> Iterator[tuple[Callable[[int, int], None], "OnProgress | None"]]:
    """Show one bar on stderr for decoding, then training; nothing where stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total: None, None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(bar_width=20), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.description}"), console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=None)

        def on_pack(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, description="decoding pictures")

        def on_progress(now: "TrainingProgress") -> None:
            numbers = [form.format(now.numbers[name]) for name, form in SHOWN.items() if name in now.numbers]
            bar.update(task, completed=now.step, total=now.steps, description="  ".join(numbers))

        yield on_pack, on_progress


def check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="HR images, or pairs, or a pack.")],
    scale: Annotated[
        Scale | None, typer.Option(help="Check this scale only. Default: every scale with LR images.")
    ] = None,
    patch: Annotated[
        int | None, typer.Option(min=1, help="Side of an LR patch that must fit into every image.")
    ] = None,
    as_json: Json = False,
    json_file: JsonFile = None,
) -> int:
    """Read every image of a folder or pack; report what is there and what training could not use."""
    if patch is not None and scale is None:
        raise typer.BadParameter("--patch counts LR pixels: give --scale, too")
    from enlca.data.check import check_folder

    with progress("reading") as show:
        found = check_folder(folder, scale=scale, patch=patch, on_progress=partial(show, ""))
    publish(json.dumps(found.to_dict()) + "\n", as_json=as_json, json_file=json_file)
    if not as_json:
        print(f"{folder}")
        for contents in found.contents:
            _print(contents)
        print(f"  {len(found.problems) or 'no'} problem{'s' if len(found.problems) != 1 else ''}")
    return report_failures(found.problems)


def pack(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="HR images, or pairs.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The pack: a new folder.")],
    scale: Annotated[Scale, typer.Option(help="The upscaling factor.")],
    min_side: Annotated[
        int, typer.Option(min=1, help="Refuse images with fewer LR pixels than this on a side.")
    ] = 1,
) -> None:
    """Decode and degrade images once, for training from memory maps; an interrupted run can be resumed."""
    from enlca.data.packed import open_pack
    from enlca.data.packing import is_pack, write_pack
    from enlca.data.pairs import training_pairs
    from enlca.errors import PackError

    pairs = training_pairs(folder, scale)
    was_there = is_pack(out)
    with _resumable(), progress("packing") as show:
        count = partial(show, "")
        write_pack(folder, pairs, out, scale=scale, min_side=min_side, on_progress=count)
    packed = open_pack(out)
    if packed.scale != scale or packed.names != [pair.name for pair in pairs]:
        raise PackError(f"{out}: is a pack of other pictures, or for another scale; name another place")
    already = "is packed already: " if was_there else ""
    print(f"{out}: {already}{len(packed)} pictures for x{scale}, {packed.nbytes / 1e6:.1f} MB")


def fetch(
    name: Annotated[str | None, typer.Argument(help="Name of a data set; see --list.")] = None,
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="DIR", help="Folder that receives the data set's folder."),
    ] = None,
    scale: Annotated[
        Scale | None, typer.Option(help="LR images of this scale only. Default: all scales.")
    ] = None,
    url_base: Annotated[str | None, typer.Option(help="Address of a mirror with the same files.")] = None,
    sha256: Annotated[
        list[str] | None, typer.Option(metavar="FILE=HASH", help="SHA-256 of an archive; may be repeated.")
    ] = None,
    list_all: Annotated[bool, typer.Option("--list", help="List the data sets and exit.")] = False,
) -> int:
    """Download a data set: resumed, verified and unpacked; existing files are not fetched again."""
    from enlca.data.archives import SOURCES, find_source, listing

    if list_all:
        print(listing(), end="")
        return 0
    if name is None or folder is None:
        raise typer.BadParameter(f"say what to fetch ({', '.join(SOURCES)}) and where to")
    source = find_source(name)
    hashes = dict(_hash(words) for words in sha256 or [])
    with require("train", feature="fetching"):
        from enlca.data.download import fetch

    with _resumable(), progress("fetching") as show:
        lines = fetch(source, folder, scale=scale, url_base=url_base, hashes=hashes, on_progress=show)
        for line in lines:
            print(line, flush=True)
    return 0


@contextmanager
def _resumable() -> Iterator[None]:
    """Turn Ctrl-C into a message that nothing is lost."""
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped("interrupted; the same command goes on where this one stopped") from None


def _hash(words: str) -> tuple[str, str]:
    name, equals, digest = words.partition("=")
    if not (name and equals and len(digest) == 64 and set(digest.lower()) <= set("0123456789abcdef")):
        raise typer.BadParameter(f"--sha256 must be FILE=HASH with 64 hexadecimal digits; got {words!r}")
    return name, digest.lower()


def _print(contents: "Contents") -> None:
    for_scale = f" (x{contents.scale})" if contents.scale else ""
    print(f"  {contents.layout}{for_scale}")
    print(f"    {contents.pictures} pictures, {contents.megapixels:.1f} megapixels")
    if contents.smallest and contents.median and contents.largest:
        sizes = (contents.smallest, contents.median, contents.largest)
        words = [f"{what} {width}x{height}" for what, (width, height) in zip(WORDS, sizes, strict=True)]
        print(f"    {', '.join(words)}")
        print(f"    {', '.join(f'{number} {mode}' for mode, number in contents.modes.items())}")


WORDS = ("smallest", "median", "largest")
