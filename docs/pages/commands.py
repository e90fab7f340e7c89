"""The reference of the commands, from their own parsers."""

import re
import textwrap
from typing import Any

import typer.main

from enlca.cli import help
from enlca.cli.app import app
from pages.text import heading, plain

INTRODUCTION = """\
What `enlca COMMAND --help` says. Exit codes of all commands: 0 if all was done; 1 if some inputs failed, each
of them named on stderr, while the others were done; 2 for a wrong call; 130 after Ctrl-C. `--json` prints one
JSON object on stdout and nothing else. Progress is shown on stderr if it is a terminal.
"""


def commands() -> dict[str, Any]:
    """Return the parser of every command by what is typed, `enlca data check` among them."""
    found = {}

    def look(command: Any, name: str) -> None:
        below = getattr(command, "commands", {})
        for word, inner in below.items():
            look(inner, f"{name} {word}")
        if not below:
            found[name] = command

    look(typer.main.get_command(app), "enlca")
    return found


def page() -> str:
    """Return the page, in reStructuredText."""
    described = [described_command(name, command) for name, command in commands().items()]
    return "\n".join([heading("Commands"), INTRODUCTION, *described])


def with_options(text: str) -> str:
    """Return a text of `--help` with the options in it as code."""
    return re.sub(r"(?<![\w`-])--[a-z][\w-]*(?![\w`-])(?=[^`]*(?:`[^`]*`[^`]*)*$)", r"``\g<0>``", plain(text))


def described_command(name: str, command: Any) -> str:
    """Return a section: the call, what it does, arguments and options with their defaults."""
    context = command.context_class(command, info_name=name)
    lines = [heading(name, "-"), f".. program:: {name}\n", ".. code-block:: text\n"]
    lines += [f"   {command.get_usage(context).removeprefix('Usage: ')}\n", f"{with_options(command.help)}\n"]
    examples = help.EXAMPLES.get(name.removeprefix("enlca "), ())
    if examples:
        lines += [".. code-block:: bash\n"]
        lines += [f"   {call}{f'  # {about}' if about else ''}" for call, about in examples]
        lines += [""]
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and "--help" not in parameter.opts:
            left, right = record
            named = left if parameter.param_type_name == "option" else left.partition(" <")[0]
            lines.append(f".. option:: {named}\n\n{textwrap.indent(with_options(right), '   ')}\n")
    return "\n".join(lines)
