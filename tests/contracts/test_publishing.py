"""How enlca is published: one version, pinned workflows, an example of a user that the types fit."""

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

import enlca

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
EXAMPLE = ROOT / "tests" / "typing" / "user_example.py"


@pytest.fixture(scope="module")
def yaml():
    return pytest.importorskip("yaml", reason="needs pip install 'enlca[train]'")


def test_the_version_stands_in_one_place():
    assert "version" not in PROJECT["project"]
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "src/enlca/__init__.py"
    assert re.search(
        rf"^## \[(Unreleased\] - )?{re.escape(enlca.__version__)}", (ROOT / "CHANGELOG.md").read_text(), re.M
    )


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_pins_actions_by_commit_and_has_no_rights_that_it_does_not_name(path, yaml):
    used = re.findall(r"uses: (\S+)( # v\S+)?", path.read_text("utf-8"))
    assert used
    assert not [action for action, tag in used if not re.search(r"@[0-9a-f]{40}$", action) or not tag]
    workflow = yaml.safe_load(path.read_text("utf-8"))
    assert workflow["permissions"] == {}
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"]
        assert job["permissions"]
        steps = [step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@")]
        assert all(step["with"]["persist-credentials"] is False for step in steps)


def test_every_python_that_is_claimed_is_tested_on_every_system(yaml):
    matrix = yaml.safe_load((GITHUB / "workflows" / "tests.yml").read_text("utf-8"))["jobs"]["tests"][
        "strategy"
    ]["matrix"]
    claimed = [
        line.rpartition(" ")[2] for line in PROJECT["project"]["classifiers"] if ":: Python :: 3." in line
    ]
    assert matrix["python"] == claimed
    assert [system.partition("-")[0] for system in matrix["os"]] == ["ubuntu", "macos", "windows"]
    low, high = re.findall(r"3\.(\d+)", PROJECT["project"]["requires-python"])
    assert claimed == [f"3.{minor}" for minor in range(int(low), int(high))]


def test_only_the_job_that_publishes_may_publish(yaml):
    jobs = yaml.safe_load((GITHUB / "workflows" / "release.yml").read_text("utf-8"))["jobs"]
    assert jobs["build"]["permissions"] == {"contents": "read"}
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert jobs["publish"]["environment"]["name"] == "pypi"
    [publish] = [step for step in jobs["publish"]["steps"] if "pypi-publish" in step["uses"]]
    assert publish["with"] == {"attestations": True}


def test_forms_and_settings_of_github_parse(yaml):
    for path in [*GITHUB.rglob("*.yml"), ROOT / "CITATION.cff"]:
        assert yaml.safe_load(path.read_text("utf-8")), path
    for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml"):
        form = yaml.safe_load(path.read_text("utf-8"))
        assert path.name == "config.yml" or {"name", "description", "body"} <= form.keys()


def test_every_address_of_the_project_is_the_same():
    home = PROJECT["project"]["urls"]["Source"]
    texts = [
        ROOT / "CITATION.cff",
        ROOT / "SECURITY.md",
        ROOT / "integrations" / "comfyui" / "pyproject.toml",
    ]
    texts += [ROOT / "src" / "enlca" / "integrations" / "hub.py", GITHUB / "ISSUE_TEMPLATE" / "config.yml"]
    for path in texts:
        assert home in path.read_text("utf-8"), path


def test_the_users_example_uses_every_public_name_and_runs(tmp_path):
    text = EXAMPLE.read_text("utf-8")
    assert text.startswith("# pyright: strict\n")
    assert "tests/typing" in PROJECT["tool"]["pyright"]["include"]
    assert not [name for name in enlca.__all__ if f"enlca.{name}" not in text]
    spec = importlib.util.spec_from_file_location("user_example", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    assert "no-such-model" in example.main(tmp_path)
