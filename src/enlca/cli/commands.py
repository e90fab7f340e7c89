"""All commands in one application, and what becomes of their errors."""

import sys

import typer

from enlca.cli import (
    INTERRUPTED,
    INTERRUPTION,
    cost,
    data,
    explore,
    export,
    measure,
    models,
    pictures,
    training,
)
from enlca.cli.common import printable
from enlca.errors import EnlcaError

app = typer.Typer(
    name="enlca",
    help="Image super-resolution with efficient non-local contrastive attention.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Rich help looks better and takes a third of the time until it is there.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for room in (pictures, measure, models, export, cost, explore, training):
    for command in room.COMMANDS:
        app.command(command.__name__, **room.SETTINGS.get(command.__name__, {}))(command)
app.add_typer(data.app, name="data")


def run() -> int:
    """Run the command that `sys.argv` names; the exit code."""
    try:
        code = app(prog_name="enlca", standalone_mode=False) or 0
    except typer.TyperException as error:
        message = getattr(error, "format_message", error.__str__)().strip()
        if message.startswith("Usage:"):
            # Without a command the help is the message.
            print(message)
            return 2
        return _complain(f"{message} (see enlca --help, or enlca COMMAND --help)", 2)
    except EnlcaError as error:
        return _complain(str(error), error.exit_code)
    except OSError as error:
        # No space, no permission, a file where a folder should be: not ours to mend, but to name.
        return _complain(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)
    except typer.Abort:
        code = INTERRUPTED
    if code == INTERRUPTED:
        # Typer makes this number of Ctrl-C.
        print(INTERRUPTION, file=sys.stderr)
    return code


def _complain(message: str, code: int) -> int:
    print(f"enlca: {printable(message)}", file=sys.stderr)
    return code
