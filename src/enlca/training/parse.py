"""From a YAML file and `--section.field value` overrides to a `TrainConfig`."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from enlca.errors import ConfigError
from enlca.models import CustomConfig
from enlca.training.config import VERSION, CustomTrainConfig, TrainConfig

SECTIONS = {field.name: field for field in dataclasses.fields(TrainConfig)}
FIELDS = {
    name: [inner.name for inner in dataclasses.fields(field.type)]
    for name, field in SECTIONS.items()
    if isinstance(field.type, type) and dataclasses.is_dataclass(field.type)
}
# Of a file: a configuration with all entries has 4,000 bytes, 100 values and 4 levels.
MOST_BYTES, MOST_VALUES, MOST_DEPTH = 1 << 20, 10_000, 32
# What PyYAML and the parser raise beside errors of their own.
UNREADABLE = (yaml.YAMLError, RecursionError, OverflowError, AttributeError, LookupError)
# Of a run of a network of one's own.
CUSTOM_FIELDS = FIELDS | {"network": [field.name for field in dataclasses.fields(CustomConfig)]}


def read_config(path: Path, overrides: Sequence[str] = ()) -> tuple[TrainConfig, str]:
    """Return the configuration of a YAML file with `--section.field value` overrides, and its resolved YAML.

    Raises:
        ConfigError: for a missing file, unknown entries (the known ones are listed) or impossible values.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    kind = CustomTrainConfig if _refuse_unknown(path, overrides) else TrainConfig
    parser = ArgumentParser(prog="enlca train", exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_class_arguments(kind)
    try:
        values = parser.parse_args(["--config", str(path), *overrides])
        config = parser.instantiate(values)
        text = parser.dump(values, skip_unset=False)
        return kind(**{name: getattr(config, name) for name in SECTIONS}), text
    except (ConfigError, ArgumentError, ValueError, TypeError, *UNREADABLE) as error:
        raise ConfigError(f"{path}: {_line(error)}") from error


def read_resumed(run: Path, overrides: Sequence[str] = ()) -> tuple[TrainConfig, str]:
    """Return the configuration that the run in folder `run` goes on with, and its resolved YAML.

    `--run.steps +N` is N steps more than the saved state has taken, `--schedule.decay_from now` that state's
    step. `--run.dir` is `run` unless an override names another.

    Raises:
        ConfigError: as `read_config`.
        StateError: if an override refers to the saved state and there is none.
    """
    words = [part for word in overrides for part in _split(word)]
    for index in range(1, len(words)):
        name, value = words[index - 1 : index + 1]
        if name == "--run.steps" and re.fullmatch(r"\+\d+", value):
            words[index] = str(_steps_taken(run) + int(value))
        elif name == "--schedule.decay_from" and value == "now":
            words[index] = str(_steps_taken(run))
    return read_config(run / "config.yaml", ["--run.dir", str(run), *words])


def _split(word: str) -> list[str]:
    """Split `--name=value` into two words."""
    return word.split("=", 1) if word.startswith("--") and "=" in word else [word]


def _steps_taken(run: Path) -> int:
    from enlca.errors import StateError
    from enlca.training.state import read_state

    state, _ = read_state(run)
    if state is None:
        raise StateError(f"{run}: nothing was saved yet, so there is no step to count from")
    return state["step"]


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML file that is as small as a configuration.

    Raises:
        ConfigError: it is not YAML, or nested deeper or longer than a configuration, aliases followed.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES} bytes")
        text, depth = path.read_text(), 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MOST_DEPTH:
                raise ValueError(f"nested deeper than {MOST_DEPTH} levels")
        body = yaml.safe_load(text)
        _count(body)
        return body
    except (*UNREADABLE, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: not YAML: {_line(error)}") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error


def _count(body: Any) -> None:
    """Raise ValueError for more values than a configuration has: aliases can repeat some without end."""
    left, seen = [body], 0
    while left:
        item, seen = left.pop(), seen + 1
        if seen > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES} values, aliases followed")
        if isinstance(item, str) and "\0" in item:
            raise ValueError("a text with a NUL character")
        if isinstance(item, (dict, list)):
            left += item.values() if isinstance(item, dict) else item


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:400] or type(error).__name__


def _refuse_unknown(path: Path, overrides: Sequence[str]) -> bool:
    """Refuse unknown entries with a list of the known ones, which the parser's own message lacks.

    Return whether the network is one's own: `network.build` is given.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such configuration file")
    if path.stat().st_size == 0:
        raise ConfigError(f"{path}: the file is empty (0 bytes)")
    body = read_yaml(path)
    if not isinstance(body, dict):
        raise ConfigError(f"{path}: expected the sections {', '.join(FIELDS)}")
    if body.get("version", VERSION) != VERSION:
        raise ConfigError(
            f"{path}: version {body['version']}, this enlca reads version {VERSION}; update enlca"
        )
    named = [(section, field) for section, inner in body.items() for field in _keys(inner)]
    for word in overrides:
        if word.startswith("--"):
            section, _, field = word[2:].partition("=")[0].partition(".")
            named.append((section, field or None))
    custom = ("network", "build") in named
    fields = CUSTOM_FIELDS if custom else FIELDS
    for section, field in named:
        if section not in SECTIONS:
            raise ConfigError(f"{path}: unknown section {section!r}; there are {', '.join(FIELDS)}")
        # Below a field are settings of a function of one's own, or those of `data.degradation`.
        first = field.partition(".")[0] if field else field
        if section in fields and field is not None and first not in fields[section]:
            known = ", ".join(fields[section])
            raise ConfigError(f"{path}: unknown entry {section}.{field}; {section} has {known}")
    return custom


def _keys(inner: Any) -> list[str | None]:
    # In YAML a key may be a number.
    return [str(key) for key in inner] if isinstance(inner, dict) and inner else [None]
