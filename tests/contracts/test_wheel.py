"""What is published: a small wheel with the weights and no test, which works offline and anywhere."""

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

import enlca

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
FOLDER = "enlca/checkpoint/weights/"
WEIGHTS = sorted(
    path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src" / FOLDER).rglob("*.safetensors")
)
# Refuse the network as a machine without one does, then be the command `enlca`.
OFFLINE = """
import sys

def refuse(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        raise OSError(f"offline: {event}")

sys.addaudithook(refuse)
from enlca.cli import main
import enlca
print(enlca.__file__, file=sys.stderr)
main()
"""


def build(folder: Path, *, time: float) -> dict[str, Path]:
    """Build wheel and sdist from a copy of their files whose files are as old as `time` says."""
    source, out = folder / "enlca", folder / "dist"
    source.mkdir()
    sdist = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    for name in ["pyproject.toml", *(name.lstrip("/") for name in sdist)]:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(ROOT / name, source / name)
    for path in source.rglob("*"):
        os.utime(path, (time, time))
    arguments = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-t", "sdist", "-d", str(out)]
    subprocess.run(arguments, cwd=source, check=True, capture_output=True)
    [wheel], [sdist] = out.glob("*.whl"), out.glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    pytest.importorskip("hatchling", reason="needs pip install --group dev")
    return build(tmp_path_factory.mktemp("build"), time=1.6e9)


@pytest.fixture(scope="module")
def names(built):
    with zipfile.ZipFile(built["wheel"]) as file:
        return file.namelist()


def test_the_wheel_holds_the_weights_and_no_test_and_is_small(built, names):
    assert WEIGHTS
    assert sorted(name for name in names if name.endswith(".safetensors")) == WEIGHTS
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"enlca", f"enlca-{enlca.__version__}.dist-info"}
    assert not [name for name in names if "test" in Path(name).name]
    assert {"enlca/py.typed", f"enlca-{enlca.__version__}.dist-info/licenses/LICENSE"} <= {*names}
    assert built["wheel"].stat().st_size <= 8e6


def test_the_wheel_holds_the_training_configurations(names):
    inside = {Path(name).name for name in names if name.startswith("enlca/configs/")}
    assert inside == {path.name for path in (ROOT / "configs").glob("*.yaml")}


def test_the_metadata_say_version_and_places_and_nothing_of_how_enlca_is_developed(built, names):
    with zipfile.ZipFile(built["wheel"]) as file:
        [path] = [name for name in names if name.endswith("METADATA")]
        metadata = message_from_bytes(file.read(path))
    assert metadata["Version"] == enlca.__version__
    assert {line.partition(",")[0] for line in metadata.get_all("Project-URL", [])} >= {
        "Documentation",
        "Issues",
        "Source",
    }
    assert {*metadata.get_all("Provides-Extra", [])} == {*PROJECT["project"]["optional-dependencies"]}
    assert not {*metadata.get_all("Provides-Extra", [])} & {*PROJECT["dependency-groups"]}


def test_the_sdist_builds_the_same_package(built):
    with tarfile.open(built["sdist"]) as file:
        inside = {name.partition("/")[2] for name in file.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "src/enlca/__init__.py"} <= inside
    assert {f"src/{name}" for name in WEIGHTS} <= inside


def test_wheel_and_sdist_are_the_same_bytes_whenever_they_are_built(built, tmp_path):
    again = build(tmp_path, time=1.7e9)
    for kind, path in built.items():
        assert again[kind].read_bytes() == path.read_bytes(), kind


@pytest.mark.slow
def test_the_installed_wheel_upscales_a_photo_offline_outside_the_repository(built, tmp_path):
    from PIL import Image

    place, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", place]
    subprocess.run([*pip, built["wheel"]], check=True, capture_output=True)
    elsewhere.mkdir()
    Image.new("RGB", (16, 12), (200, 100, 50)).save(elsewhere / "photo.jpg")
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, "upscale", "photo.jpg"],
        cwd=elsewhere,
        env=os.environ | {"PYTHONPATH": str(place), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert str(place) in done.stderr
    with Image.open(elsewhere / "photo_x4.png") as made:
        assert made.size == (64, 48)
