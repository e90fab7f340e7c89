"""The examples of deployment name commands, options, files and routes that exist."""

import fnmatch
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from enlca.cli.app import app

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
DOCUMENTS = {
    path.name: list(yaml.safe_load_all(path.read_text())) for path in sorted((ROOT / "deploy").glob("*.yaml"))
}


def dicts(value: Any) -> Iterator[dict[str, Any]]:
    """All mappings inside a document."""
    if isinstance(value, dict):
        yield value
    for inside in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from dicts(inside)


def commands() -> list[list[str]]:
    """The words after `enlca` in the image and in the examples."""
    found = [json.loads(line) for line in re.findall(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)]
    for documents in DOCUMENTS.values():
        for one in dicts(documents):
            found += [one["args"]] if "args" in one else []
            found += [shlex.split(one["entrypoint"])[1:]] if "entrypoint" in one else []
    return found


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_exist_with_their_options(words):
    all_commands = getattr(typer.main.get_command(app), "commands")  # noqa: B009 - not in the base class
    known = {name for param in all_commands[words[0]].params for name in param.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_the_image_copies_what_exists_and_what_the_context_holds():
    kept = re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE):
        for name in line.split()[:-1]:
            assert (ROOT / name).exists()
            assert any(fnmatch.fnmatch(name, pattern) for pattern in kept)


def test_the_image_is_not_root_and_its_user_is_the_one_of_the_examples():
    [user] = re.findall(r"^USER (\d+)$", DOCKERFILE, re.MULTILINE)
    assert f"--uid {user} " in DOCKERFILE
    contexts = [
        one["securityContext"]
        for one in dicts(DOCUMENTS["kubernetes-serve.yaml"])
        if "securityContext" in one
    ]
    assert [one["runAsUser"] for one in contexts if "runAsUser" in one] == [int(user)]


def test_probes_ask_for_a_route_that_needs_no_token_and_the_end_outlasts_a_request():
    deployment, service = DOCUMENTS["kubernetes-serve.yaml"]
    pod = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]
    for probe in ("readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/healthz", "port": "http"}
    timeout = float(container["args"][container["args"].index("--timeout") + 1])
    assert pod["terminationGracePeriodSeconds"] > timeout
    assert service["spec"]["selector"] == deployment["spec"]["template"]["metadata"]["labels"]
