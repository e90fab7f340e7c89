"""The command `enlca hub push`."""

from typing import Annotated

import typer

from enlca.cli.common import Json, JsonFile, Scale
from enlca.cli.output import progress, publish

# Under which enlca gives away its own weights.
LICENSE = "apache-2.0"


def push(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A bundled name, a run folder or a checkpoint file.")
    ],
    repository: Annotated[
        str, typer.Argument(metavar="REPO", help="ORG/NAME on the hub; made if it does not exist.")
    ],
    scale: Annotated[Scale | None, typer.Option(help="Which of the weights of a bundled name.")] = None,
    license: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Licence of the weights. Default: of bundled ones, apache-2.0."),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Hide a new repository from others.")] = False,
    as_json: Json = False,
    json_file: JsonFile = None,
) -> None:
    """Upload a network to the Hugging Face hub, with its card; see `enlca upscale --model hf-hub:ORG/NAME`.

    The token is that of `hf auth login`, or of the environment variable HF_TOKEN.
    """
    import json

    from enlca.checkpoint.store import bundled
    from enlca.integrations.hub import push as upload

    if license is None and model in {item.name for item in bundled()}:
        license = LICENSE
    with progress("uploading") as show:
        show(repository, 0, 1)
        commit = upload(model, repository, scale=scale, license=license, private=private)
    if as_json or json_file:
        facts = {"repository": repository, "commit": commit, "model": f"hf-hub:{repository}"}
        publish(json.dumps(facts) + "\n", as_json=as_json, json_file=json_file)
    if not as_json:
        print(commit)
