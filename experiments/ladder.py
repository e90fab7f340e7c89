"""The ladder: short paired runs that decide the recipe of the long ones, one change at a time.

    python -m experiments.ladder [--arms NAME ...] [--seeds 1] [--minutes M] [--jobs 2] [--teacher DIR]

Every arm differs from `configs/ladder.yaml` in what ARMS says and sees the same patches, seed by seed.
Decided on Kodak24; a difference under 0.02 dB is called noise. What is trained already is not trained again,
and the table has every arm that is trained. `--teacher` is for the arms that learn from a teacher's pictures.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

from experiments.ablation import answer
from experiments.arms import Arm, Study, parser_of, run, with_steps
from experiments.variants import Budget

from enlca.errors import EnlcaError

BASE = "muon_0.01"
ENLA = {"network.attention": "linear", "network.blocks_per_stage": 4}
CHANGES: dict[str, dict[str, object]] = {
    "adam_1e-3": {"optim.kind": "adam"},
    "adam_2e-3": {"optim.kind": "adam", "optim.lr": 2e-3},
    "muon_0.005": {"optim.muon_lr": 0.005},
    "muon_0.015": {"optim.muon_lr": 0.015},
    "muon_0.02": {"optim.muon_lr": 0.02},
    "momentum_0.9": {"optim.momentum": 0.9},
    "lr_2e-3_of_the_rest": {"optim.lr": 2e-3},
    "no_clipping": {"optim.clip": "null"},
    "cosine": {"schedule.kind": "cosine", "schedule.decay_from": "null"},
    "patch_24_batch_16": {"data.patch": 24, "data.batch": 16},
    "patch_48_batch_4": {"data.patch": 48, "data.batch": 4},
    "soften_0.4_1": {"data.soften": "[0.4, 1.0]"},
    "teacher_0.5": {"loss.teacher": 0.5},
    "teacher_1": {"loss.teacher": 1.0},
    "enla_1x1": ENLA,
    "enla_3x3": {**ENLA, "network.embed_kernel": 3},
    "enla_weight_0.3": {**ENLA, "network.attention_scale": 0.3},
}
ARMS = {BASE: Arm({})} | {name: Arm(change, (BASE,)) for name, change in CHANGES.items()}
STUDY = Study("ladder", "ladder", "The ladder", Budget("ladder", "ladder.yaml", 1), ARMS)


def study(arguments: argparse.Namespace) -> Study:
    """The arms, those that learn from a teacher with its pictures.

    Raises:
        EnlcaError: one of those that are asked for learns from a teacher, and there is none.
    """
    learners = [name for name, arm in ARMS.items() if "loss.teacher" in arm.overrides]
    if arguments.teacher is None:
        if wanted := [name for name in arguments.arms if name in learners]:
            raise EnlcaError(f"the arm {wanted[0]} needs --teacher DIR")
        return STUDY
    taught = {
        name: dataclasses.replace(
            ARMS[name], overrides={**ARMS[name].overrides, "data.teacher": arguments.teacher}
        )
        for name in learners
    }
    return dataclasses.replace(STUDY, arms={**ARMS, **taught})


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    line = parser_of(__doc__, ARMS, [BASE])
    line.add_argument("--teacher", type=Path, metavar="DIR", help="a teacher's pictures of --train")
    return line


if __name__ == "__main__":
    sys.exit(
        answer(lambda arguments: run(with_steps(study(arguments), arguments.steps), arguments), parser())
    )
