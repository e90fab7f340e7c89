"""The application: all commands, and how their errors become one line on stderr and an exit code."""

import sys

import typer

from enlca.cli import INTERRUPTED, INTERRUPTION
from enlca.cli.bulk import bulk
from enlca.cli.cost import cost
from enlca.cli.measure import audit, compare, evaluate, score
from enlca.cli.models import convert, explore, export, info, models
from enlca.cli.output import printable
from enlca.cli.serve import serve
from enlca.cli.training import data, resume, train
from enlca.cli.upscale import degrade, upscale
from enlca.errors import EnlcaError

app = typer.Typer(
    name="enlca",
    help="Image super-resolution with efficient non-local contrastive attention.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Rich help takes three times as long to appear.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    upscale,
    bulk,
    degrade,
    evaluate,
    compare,
    score,
    audit,
    info,
    models,
    convert,
    export,
    cost,
    explore,
    serve,
):
    app.command(command.__name__)(command)
for command in (train, resume):
    # Options like --run.steps are fields of the configuration.
    app.command(command.__name__, context_settings={"ignore_unknown_options": True})(command)
app.add_typer(data, name="data")


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
