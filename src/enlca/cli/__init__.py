"""The `enlca` command. Each sub-command is thin and imports what it needs when it runs, so help is instant.

Exit codes: 0 all done; 1 some inputs failed, each named on stderr; 2 wrong usage; 130 interrupted.
"""

import sys

import typer

from enlca.cli import measure, models, pictures, training
from enlca.errors import EnlcaError

INTERRUPTED = 130

app = typer.Typer(
    name="enlca",
    help="Image super-resolution with efficient non-local contrastive attention.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for room in (pictures, measure, models, training):
    for command in room.COMMANDS:
        app.command(command.__name__, **room.SETTINGS.get(command.__name__, {}))(command)


def main() -> None:
    """Run the command line; every expected failure is one line on stderr and an exit code."""
    try:
        code = app(standalone_mode=False)
    except typer.TyperException as error:
        # Without a command the help has been printed, and there is nothing to add.
        message = getattr(error, "format_message", error.__str__)().strip()
        sys.exit(_complain(f"{message} (see enlca --help, or enlca COMMAND --help)", 2) if message else 2)
    except EnlcaError as error:
        sys.exit(_complain(str(error), 2))
    except typer.Abort:
        code = INTERRUPTED
    if code == INTERRUPTED:
        _complain("interrupted; nothing is left half-written", code)
    sys.exit(code or 0)


def _complain(message: str, code: int) -> int:
    print(f"enlca: {message}", file=sys.stderr)
    return code
