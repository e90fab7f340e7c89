"""Is attention worth its price? Arms that differ in their attention alone, from scratch or from a trunk.

    python -m experiments.attention_arms [--arms NAME ...] [--seeds 3] [--minutes M] [--jobs 2]
    python -m experiments.attention_arms --trunk runs/light_trunk_x4/best.safetensors [--steps N] ...

From scratch, the recipe is `configs/ablation_small.yaml` (Muon, cosine, two attention blocks), and runs are
shared with Tables 2 and 4 and Figure 6 (`runs/small/`). From a trunk, which is a network without attention,
every arm begins with what the trunk computes (blocks are inserted with an output of zero), in the trunk's
sizes, and the arm without attention is the trunk trained on.

Arms have the recipe's weight of attention (0.3), 3 x 3 embeddings of 16 channels and no contrastive loss
where their names do not say otherwise. Writes `results/attention_arms.md` and `.csv`, or
`attention_arms_from_TRUNK`.
"""

import argparse
import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path

from experiments.ablation import answer
from experiments.arms import Arm, Study, parser_of, run, with_steps
from experiments.table2_ablation import CONTRAST
from experiments.variants import BUDGETS, enla, exact, windows, without_attention

from enlca.checkpoint.file import read_card
from enlca.errors import EnlcaError

NONE, BLOCKS = "none", "none_10_blocks"
# Features of queries and keys of no length are all equal, so ENLA is the plain mean of v.
MEAN = {"network.amplification": 1e-12, "network.n_features": 1}
OF_NONE, OF_EXACT = without_attention().overrides, exact(24).overrides
# As many LR pixels in a batch as the recipe has, or nearly.
PATCHES = {48: {"data.patch": 48, "data.batch": 4}, 64: {"data.patch": 64, "data.batch": 2}}
BOTH = (NONE, "exact_k24")


def _arms() -> Mapping[str, Arm]:
    arms = {
        NONE: Arm(OF_NONE),
        # Two blocks more have the parameters of two attention blocks.
        BLOCKS: Arm({**OF_NONE, "network.n_blocks": 10, "network.blocks_per_stage": 10}, (NONE,)),
        "mean_of_v": Arm({**enla().overrides, **MEAN}, (NONE,)),
        "enla_k6": Arm(enla(amplification=6).overrides, (NONE,)),
        "enla_k24": Arm(enla(amplification=24).overrides, BOTH),
        "sharp_k24": Arm({**enla(amplification=24).overrides, "network.features": "sharp"}, BOTH),
    }
    for k in (6, 12, 24, 48):
        others = (NONE, BLOCKS, "mean_of_v", "enla_k6") if k == 24 else BOTH
        arms[f"exact_k{k}"] = Arm(exact(k).overrides, others)
    changes: dict[str, dict[str, object]] = {
        "1x1": {"network.embed_kernel": 1},
        "dim32": {"network.embed_channels": 32},
        "weight0.1": {"network.attention_scale": 0.1},
        "3_blocks": {"network.blocks_per_stage": 4},
        "contrast": {"loss.contrast_weight": 1e-3},
    }
    for name, change in changes.items():
        arms[f"exact_k24_{name}"] = Arm({**OF_EXACT, **change}, BOTH)
    for k in (6, 24, 48):
        arms[f"window_k{k}"] = Arm(windows(k).overrides, (*BOTH, BLOCKS, "enla_k6") if k == 24 else BOTH)
    for name, change in {"halo0": {"network.halo": 0}, "3_blocks": changes["3_blocks"]}.items():
        arms[f"window_k24_{name}"] = Arm({**windows(24).overrides, **change}, (*BOTH, "window_k24"))
    contrast = enla(amplification=6, contrast=CONTRAST)
    arms[contrast.name] = Arm(contrast.overrides, (NONE, "enla_k6"))
    for side, patch in PATCHES.items():
        arms[f"none_patch{side}"] = Arm({**OF_NONE, **patch})
        arms[f"exact_k24_patch{side}"] = Arm({**OF_EXACT, **patch}, (f"none_patch{side}",))
    return arms


ARMS = _arms()
STUDY = Study("attention_arms", "attention_arms", "Attention, arm by arm", BUDGETS["small"], ARMS)
# What a trunk decides for all arms.
SIZES = ("scale", "channels", "n_blocks", "blocks_per_stage", "res_scale", "upsampler", "skip")


def from_trunk(trunk: Path) -> Study:
    """The arms that begin with a trunk.

    Raises:
        EnlcaError: the file is no checkpoint, or its network has attention.
    """
    network = read_card(trunk).network
    if network.attention != "none":
        raise EnlcaError(f"{trunk}: a trunk has no attention; this network has {network.attention}")
    sizes = {f"network.{name}": getattr(network, name) for name in SIZES}
    name = trunk.parent.name if trunk.stem == "best" else trunk.stem
    budget = dataclasses.replace(
        STUDY.budget,
        name=f"arms_from_{name}",
        overrides={**STUDY.budget.overrides, **sizes, "run.start_from": trunk},
    )
    # Its number of residual blocks is the trunk's.
    arms = {name: arm for name, arm in ARMS.items() if name != BLOCKS}
    title = f"{STUDY.title}, from the trunk {name}"
    return Study(STUDY.name, f"attention_arms_from_{name}", title, budget, arms)


def study(arguments: argparse.Namespace) -> Study:
    """What the command line asks for.

    Raises:
        EnlcaError: see `from_trunk`; or an arm that does not begin with a trunk.
    """
    if arguments.trunk is None:
        return STUDY
    found = from_trunk(arguments.trunk)
    if BLOCKS in arguments.arms:
        raise EnlcaError(f"the arm {BLOCKS} does not begin with a trunk; name the others by --arms")
    return found


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    line = parser_of(__doc__, ARMS, [NONE, "enla_k6", "exact_k24"])
    line.add_argument(
        "--trunk", type=Path, metavar="FILE", help="a checkpoint without attention to begin with"
    )
    return line


if __name__ == "__main__":
    sys.exit(
        answer(lambda arguments: run(with_steps(study(arguments), arguments.steps), arguments), parser())
    )
