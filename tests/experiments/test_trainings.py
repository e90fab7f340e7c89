"""Trainings side by side end with the command that began them, and lose no step."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from enlca.errors import TrainingStopped

ROOT = Path(__file__).parents[2]
TWO_WITHOUT_AN_END = """
import sys
from pathlib import Path
from enlca.errors import EnlcaError
from experiments.trainings import train_all
from experiments.variants import Budget, enla, runs_of, without_attention

def main():
    place = Path(sys.argv[1])
    budget = Budget("endless", "smoke.yaml", 1, {"run.steps": 1_000_000, "run.save_every": 100_000})
    runs = runs_of([without_attention(), enla()], budget, place / "runs", seeds=2)
    try:
        train_all(runs, budget, train=place / "pictures", jobs=2)
    except EnlcaError as error:
        print(error, file=sys.stderr)
        return error.exit_code

if __name__ == "__main__":
    sys.exit(main())
"""


def until(holds, what, seconds=120):
    """Wait until `holds()`."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"no {what} after {seconds} s"
        time.sleep(0.1)


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_save_and_end_when_their_parent_is_ended_and_begin_nothing_else(tmp_path, number):
    (tmp_path / "pictures").mkdir()
    shutil.copy(ROOT / "docs" / "images" / "bricks_crop.png", tmp_path / "pictures")
    script = tmp_path / "two.py"
    script.write_text(TWO_WITHOUT_AN_END)
    runs = tmp_path / "runs" / "endless"
    parent = subprocess.Popen(
        [sys.executable, script, tmp_path],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: len(list(runs.glob("*/metrics.csv"))) == 2, "two trainings")
        time.sleep(1)
        parent.send_signal(number)
        _, said = parent.communicate(timeout=120)
        # `communicate` returns when the last worker has closed its stderr.
        assert sorted(path.name for path in runs.iterdir()) == ["enla_k1_seed0", "none_seed0"]
        assert all(torch.load(path / "last.ckpt")["step"] > 0 for path in runs.iterdir())
        if number == signal.SIGTERM:
            assert parent.returncode == TrainingStopped.exit_code
            assert said == "stopped; run the same command again to go on\n"
    finally:
        parent.kill()
