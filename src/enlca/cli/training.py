"""Commands that train: `train`."""

from pathlib import Path
from typing import Annotated

import typer

from enlca.cli.common import progress
from enlca.errors import EnlcaError


def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="The run; see configs/.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="--section.key VALUE", help="Fields that differ from the file."),
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print_config", help="Print the resolved configuration and stop.")
    ] = False,
) -> None:
    """Train a network."""
    try:
        from enlca.training.config import read_config

        settings, text = read_config(config, overrides or [])
        if print_config:
            print(text, end="")
            return
        from enlca.training.fit import fit
    except ModuleNotFoundError as error:
        raise EnlcaError(f"training needs {error.name}: pip install 'enlca[train]'") from error

    with progress("decoding pictures") as show:
        best = fit(settings, text, on_pack=lambda done, total: show("", done, total))
    print(f"best weights: {best}")


COMMANDS = (train,)
SETTINGS: dict[str, dict] = {"train": {"context_settings": {"ignore_unknown_options": True}}}
