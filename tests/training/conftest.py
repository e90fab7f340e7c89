"""A home with pictures and a configuration, for whole runs of a network as small as it gets."""

import contextlib
import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

CONFIG = """\
data: {train: pictures, validation: Val, patch: 11, batch: 3, cache: cache}
network: {scale: 2, channels: 8, n_blocks: 2, blocks_per_stage: 1, embed_channels: 4, n_features: 8,
          res_scale: 1.0, upsampler: direct, skip: bilinear}
loss: {anchors: 7, contrast_weight: 0.01}
optim: {lr: 1.0e-3, ema: 0.9, clip: 1.0}
schedule: {kind: cosine, warmup: 3, contrast_after: 1}
run: {dir: run, steps: 40, steps_per_epoch: 8, save_every: 5, log_every: 3, seed: 3, device: cpu}
"""


@pytest.fixture(scope="session")
def template(tmp_path_factory) -> Path:
    """What `home` is a copy of, with the run of its configuration, which nothing happened to."""
    from enlca.training.fit import fit
    from enlca.training.parse import read_config

    folder = tmp_path_factory.mktemp("template")
    random = np.random.default_rng(1)
    for name, sizes in {"pictures": [(61, 67), (47, 53)], "Val": [(29, 31), (31, 37), (41, 23)]}.items():
        (folder / name).mkdir()
        for number, (height, width) in enumerate(sizes):
            noise = random.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
            picture = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
            picture.save(folder / name / f"{number}.png")
    (folder / "tiny.yaml").write_text(CONFIG)
    with contextlib.chdir(folder):
        fit(*read_config(Path("tiny.yaml")))
    return folder


@pytest.fixture
def home(template, tmp_path, monkeypatch) -> Path:
    """The current folder: `pictures`, `Val` (3 of them, of different sizes), `tiny.yaml`, and a cache."""
    shutil.copytree(template, tmp_path, ignore=shutil.ignore_patterns("run"), dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def straight(template, home) -> Path:
    """The folder `run` in `home`: 40 steps that nothing happened to."""
    return Path(shutil.copytree(template / "run", home / "run"))


@pytest.fixture
def rows() -> Callable[[str | Path], list[dict[str, Any]]]:
    """Reads a run's `metrics.csv`, without the column that is never the same twice."""

    def read(folder: str | Path) -> list[dict[str, Any]]:
        with open(Path(folder) / "metrics.csv", newline="") as file:
            found = list(csv.DictReader(file))
        for row in found:
            del row["steps_per_second"]
        return found

    return read
