"""Variants of one network: which there are, and how much a budget spends on each.

A run's folder is named after what differs from the recipe, so tables and figures share runs: the last row of
Table 2 is a cell of Table 3.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from enlca.checkpoint.file import read_card
from enlca.errors import EnlcaError
from enlca.training.config import TrainConfig
from enlca.training.parse import read_config

CONFIGS = Path(__file__).parents[1] / "configs"


@dataclass(frozen=True)
class Budget:
    """How much is spent: the recipe, its overrides, and how many seeds are trained of each variant."""

    name: str
    config: str
    seeds: int
    overrides: Mapping[str, object] = field(default_factory=dict)


def recipe(budget: Budget) -> TrainConfig:
    """What all variants of a budget differ from."""
    words = [str(word) for field, value in budget.overrides.items() for word in (f"--{field}", value)]
    return read_config(CONFIGS / budget.config, words)[0]


# NOTE(paper): Table 3 says 200 epochs; Table 2 has the same best number, so it is taken to be the same.
BUDGETS = {
    "smoke": Budget(
        "smoke", "smoke.yaml", 1, {"run.steps": 8, "run.steps_per_epoch": 4, "schedule.warmup": 2}
    ),
    "short": Budget("short", "ablation_small.yaml", 3, {"run.steps": 1000}),
    "small": Budget("small", "ablation_small.yaml", 3),
    "paper": Budget("paper", "enlcn_x4.yaml", 1, {"run.steps": 200_000}),
}


@dataclass(frozen=True)
class Variant:
    """A network and its loss, as overrides of a budget's recipe; `name` is a folder's, too."""

    name: str
    overrides: Mapping[str, object]


def without_attention() -> Variant:
    """The backbone: Table 2's first row."""
    return Variant("none", {"network.attention": "none", "loss.contrast_weight": 0})


def exact(amplification: float) -> Variant:
    """Softmax over all positions (Eq. 1) of queries and keys with k."""
    own = {"network.attention": "exact", "network.amplification": amplification, "loss.contrast_weight": 0}
    return Variant(f"exact_k{amplification:g}", own)


def windows(amplification: float) -> Variant:
    """Softmax over the positions of a window and around it, of queries and keys with k."""
    own = {**exact(amplification).overrides, "network.attention": "window"}
    return Variant(f"window_k{amplification:g}", own)


def other_attention(kind: str) -> Variant:
    """The same backbone with "exact" (Eq. 1) or "lsh" (NLSA) attention, which know no contrastive loss."""
    own: dict[str, object] = {"network.attention": kind, "loss.contrast_weight": 0}
    if kind == "exact":
        # Non-local attention as the paper compares with it has no k; NLSA learns its queries' lengths.
        own["network.amplification"] = 1
    return Variant(kind, own)


def enla(
    *, amplification: float = 1, contrast: tuple[float, float] | None = None, n_features: int | None = None
) -> Variant:
    """ENLA with k, and with the contrastive loss of (n1, n2); k = 1 is "without k", m None the recipe's."""
    own: dict[str, object] = {"network.amplification": amplification}
    name = f"enla_k{amplification:g}"
    if n_features is not None:
        own["network.n_features"] = n_features
        name += f"_m{n_features}"
    if contrast is None:
        return Variant(name, {**own, "loss.contrast_weight": 0})
    relevant, start = contrast
    own |= {"loss.relevant": relevant, "loss.start": start}
    return Variant(f"{name}_contrast{relevant:g}-{start:g}", own)


@dataclass(frozen=True)
class Run:
    """One training."""

    variant: Variant
    seed: int
    path: Path

    @property
    def weights(self) -> Path:
        """Where its weights are, once it is finished."""
        return self.path / "best.safetensors"

    @property
    def finished(self) -> bool:
        """Whether it has taken all of its steps."""
        if not self.weights.exists():
            return False
        training = read_card(self.weights).training
        return training["steps"] == training["steps_planned"]


def runs_of(variants: Sequence[Variant], budget: Budget, folder: Path, *, seeds: int) -> list[Run]:
    """Every variant with every seed, seed by seed: a run that is stopped early has whole sets of variants."""
    return [
        Run(variant, seed, folder / budget.name / f"{variant.name}_seed{seed}")
        for seed in range(seeds)
        for variant in variants
    ]


def whole_seeds(runs: Sequence[Run], finished: Sequence[Run]) -> list[Run]:
    """Those of `runs` whose seed is finished for all variants: what can be compared.

    Raises:
        EnlcaError: there is no such seed.
    """
    waiting = {run.seed for run in runs if run not in finished}
    whole = [run for run in runs if run.seed not in waiting]
    if not whole:
        raise EnlcaError(
            f"{len(finished)} of {len(runs)} trainings are finished, but no seed of all variants; run the"
            " same command again to go on"
        )
    return whole
