"""Commands that train: `train`, `resume`."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from enlca.errors import EnlcaError, require

if TYPE_CHECKING:
    from enlca.training.run_folder import OnProgress, TrainingProgress

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="--section.key VALUE", help="Fields to override."),
]


def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="The configuration; see configs/.")],
    overrides: Overrides = None,
    print_config: Annotated[
        bool, typer.Option("--print_config", help="Print the resolved configuration and exit.")
    ] = False,
) -> None:
    """Train a network."""
    _run(config, overrides, resume=None, print_config=print_config)


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
