"""The training configurations that come with the package, by name: the YAML files of `configs/`."""

from pathlib import Path

from enlca.errors import ConfigError

# A wheel has them beside the rooms; in a checkout they are at its top.
PLACES = (Path(__file__).parents[1] / "configs", Path(__file__).parents[3] / "configs")


def recipes() -> dict[str, Path]:
    """Return all configurations: the file of each name."""
    folder = next((place for place in PLACES if place.is_dir()), PLACES[0])
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_recipe(name: str) -> Path:
    """Return the file of a configuration. Raises ConfigError: unknown name; the known ones are listed."""
    known = recipes()
    if name not in known:
        raise ConfigError(f"unknown configuration {name!r}; known: {', '.join(known)}; or give a YAML file")
    return known[name]


def find_config(config: str) -> Path:
    """Return a file that exists, or the configuration of that name in the package.

    Raises:
        ConfigError: neither.
    """
    path = Path(config)
    if path.is_file():
        return path
    if path.suffix not in (".yaml", ".yml"):
        return find_recipe(config)
    hint = f"; it is in the package: give its name, {path.stem}" if path.stem in recipes() else ""
    raise ConfigError(f"{path}: no such configuration file{hint}")


def summary(path: Path) -> str:
    """Return the first sentence of the comment at a configuration's top."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("# ") or line.startswith("#  "):
            break
        lines.append(line[2:])
    return " ".join(lines).partition(". ")[0].removesuffix(".")
