"""Commands that train: `train`."""

from pathlib import Path
from typing import Annotated

import typer

from enlca.cli.common import progress


def train(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="The run; see configs/.")],
    print_config: Annotated[
        bool, typer.Option("--print_config", help="Print the resolved configuration and stop.")
    ] = False,
) -> None:
    """Train a network; `--section.key value` overrides any field of the file."""
    from enlca.training.config import read_config

    settings, text = read_config(config, context.args)
    if print_config:
        print(text, end="")
        return
    from enlca.training.fit import fit

    with progress("decoding pictures") as show:
        best = fit(settings, text, on_pack=lambda done, total: show("", done, total))
    print(f"best weights: {best}")


COMMANDS = (train,)
SETTINGS: dict[str, dict] = {
    "train": {"context_settings": {"allow_extra_args": True, "ignore_unknown_options": True}}
}
