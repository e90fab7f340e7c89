"""The application: all commands, and how their errors become one line on stderr and an exit code."""

import logging
import sys
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand, TyperGroup

import enlca
from enlca.cli import INTERRUPTED, INTERRUPTION, help
from enlca.cli.bulk import bulk
from enlca.cli.cost import cost
from enlca.cli.degrade import degrade
from enlca.cli.hub import push
from enlca.cli.measure import audit, compare, evaluate, score
from enlca.cli.models import convert, explore, export, info, models
from enlca.cli.output import printable
from enlca.cli.serve import serve
from enlca.cli.training import check, configs, fetch, pack, resume, train
from enlca.cli.upscale import upscale
from enlca.errors import EnlcaError

LogLevel = Literal["debug", "info", "warning", "error"]
# These wrote their JSON to a file that followed `--json`; understood for one release.
JSON_TO_A_FILE = ("evaluate", "compare", "score")


class Command(TyperCommand):
    """A command whose help has examples, and that does not drop the first of two models silently."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words after the command's name. Raises a usage error: two models where one is used."""
        if self.name in JSON_TO_A_FILE:
            args = _with_json_file(args)
        _, _, given = self.make_parser(ctx).parse_args(args=[*args])
        for parameter in given:
            if "--model" in parameter.opts and not parameter.multiple and given.count(parameter) > 1:
                raise typer.BadParameter(f"--model is given twice, but {self.name} takes one model")
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write examples, options, exit codes."""
        help.write_examples(self.name or "", formatter)
        help.write_options(self, ctx, formatter)
        help.write_exit_codes(formatter)


class Group(TyperGroup):
    """A group of commands that are listed by what they are for."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write examples, commands, options, exit codes."""
        help.write_examples("" if ctx.parent is None else self.name or "", formatter)
        self.format_commands(ctx, formatter)
        TyperCommand.format_options(self, ctx, formatter)  # pyright: ignore[reportArgumentType]
        help.write_exit_codes(formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands."""
        help.write_commands(self, ctx, formatter)


app = typer.Typer(
    name="enlca",
    cls=Group,
    help="Image super-resolution with efficient non-local contrastive attention.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Rich help takes three times as long to appear.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS = {
    help.PICTURES: (upscale, bulk, degrade, explore, serve),
    help.MEASURING: (evaluate, compare, score, audit, cost),
    help.MODELS: (models, info, convert, export),
}
for title, commands in COMMANDS.items():
    for command in commands:
        app.command(command.__name__, cls=Command, rich_help_panel=title)(command)
for command in (train, resume):
    # Options like --run.steps are fields of the configuration.
    settings = {"ignore_unknown_options": True}
    app.command(command.__name__, cls=Command, rich_help_panel=help.TRAINING, context_settings=settings)(
        command
    )
app.command("configs", cls=Command, rich_help_panel=help.TRAINING)(configs)
data = typer.Typer(help="Images for training and testing: check, pack, fetch.", no_args_is_help=True)
for command in (check, pack, fetch):
    data.command(command.__name__, cls=Command)(command)
app.add_typer(data, name="data", cls=Group, rich_help_panel=help.TRAINING)
hub = typer.Typer(help="The Hugging Face hub: push a network.", no_args_is_help=True)
hub.command("push", cls=Command)(push)
app.add_typer(hub, name="hub", cls=Group, rich_help_panel=help.MODELS)


def _print_version(wanted: bool) -> bool:
    if wanted:
        from importlib.metadata import version
        from platform import python_version

        print(f"enlca {enlca.__version__} (Python {python_version()}, torch {version('torch')})")
        raise typer.Exit
    return wanted


@app.callback()
def start(
    log_level: Annotated[
        LogLevel | None, typer.Option(help="Also print what is decided on the way, on stderr.")
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Image super-resolution with efficient non-local contrastive attention."""
    if log_level is not None:
        logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
        logging.getLogger("enlca").setLevel(log_level.upper())


def run() -> int:
    """Run the command in `sys.argv` and return its exit code."""
    try:
        code = app(prog_name="enlca", standalone_mode=False) or 0
    except typer.TyperException as error:
        message = getattr(error, "format_message", error.__str__)().strip()
        if message.startswith("Usage:"):
            # `enlca` alone: the message is the help.
            print(message)
            return 2
        return _fail(f"{_on_one_line(message)} (see enlca --help, or enlca COMMAND --help)", 2)
    except EnlcaError as error:
        return _fail(str(error), error.exit_code)
    except OSError as error:
        # No space, no permission, a file where a folder should be.
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)
    except typer.Abort:
        code = INTERRUPTED
    except (MemoryError, RuntimeError) as error:
        from enlca.runtime.device import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        return _fail("not enough memory on this machine; close other programs, or ask for less", 1)
    if code == INTERRUPTED:
        # Typer turns Ctrl-C into this exit code.
        print(INTERRUPTION, file=sys.stderr)
    return code


def _on_one_line(message: str) -> str:
    """Join the list of choices that Typer puts on separate lines, and drop pydantic's prefix."""
    return message.replace("\n\t", " ").replace("Value error, ", "").removesuffix(".")


def _fail(message: str, code: int) -> int:
    print(f"enlca: {printable(message)}", file=sys.stderr)
    return code


def _with_json_file(args: list[str]) -> list[str]:
    """Return the words with `--json FILE`, as it was spelt, written as `--json-file FILE`."""
    words = [part for word in args for part in (word.split("=", 1) if word.startswith("--json=") else [word])]
    for number, (word, following) in enumerate(pairwise(words)):
        if word == "--json" and not following.startswith("-") and not Path(following).is_dir():
            words[number] = "--json-file"
            print("enlca: --json FILE is --json-file FILE now; next time it prints only", file=sys.stderr)
    return words
