"""A training run as one typed, frozen object; from YAML, overridden from the command line.

An *epoch* is `run.steps_per_epoch` steps (EDSR's convention: 1000), whatever the size of the data.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from enlca.attention.contrastive import rank_ranges
from enlca.data.degradations import MAX_SIGMA
from enlca.data.recipes import Degradation
from enlca.errors import ConfigError
from enlca.losses import ENLCALoss
from enlca.models import CustomConfig
from enlca.network.sr import SRConfig

VERSION = 1
VARIANTS = ("paper", "released")
SCHEDULES = ("cosine", "halve", "stable")
OPTIMIZERS = ("adam", "muon")
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


# Beyond any run: of steps and epochs; of patches in a batch, of a patch's side, of processes and devices.
MOST_STEPS, MOST_BATCH, MOST_PATCH, MOST_PROCESSES = 10**12, 1 << 14, 1 << 12, 1 << 10
# Seeds are mixed in 64 bits.
MOST_SEED = 2**63 - 1


def _within(least: int, most: int, **values: int) -> None:
    for name, value in values.items():
        if value < least:
            raise ConfigError(f"{name} must be at least {least}, got {value}")
        if value > most:
            raise ConfigError(f"{name} must be at most {most}, got {value}")


def _positive(**values: float) -> None:
    for name, value in values.items():
        # NaN fails, too.
        if not 0 < value < math.inf:
            raise ConfigError(f"{name} must be positive and finite, got {value}")


def _one_of(allowed: Sequence[str], **values: str) -> None:
    for name, value in values.items():
        if value not in allowed:
            raise ConfigError(f"{name} must be one of {', '.join(allowed)}; got {value!r}")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Pictures.

    Args:
        train: folder of HR pictures, of pairs, or a pack; sub-folders count.
        leave_out: text file of pictures of `train` that are never drawn, to test on them: on each line the
            path of one inside `train`; # begins a comment. null is none.
        more: a second folder like `train`, for pictures that should be drawn more or less often than their
            number says; null is none.
        more_share: share of the patches that come from `more`.
        teacher: folder of pictures of HR size that any other method made of the same LR pictures, under the
            same names, for `loss.teacher`; null is none.
        soften: [low, high]: blur HR by a Gaussian of a random sigma between them (in HR pixels) before LR is
            made from it; null is never. Photographs are softer than downscaled ones.
        soften_share: share of the patches that `soften` blurs.
        degradation: make LR patches from HR as photographs are made and stored, anew in every step (see
            `Degradation`); null takes the LR pictures of `train`, or MATLAB's bicubic.
        validation: benchmark folder that checkpoints are chosen on; None takes the last step's weights.
        patch: side of the LR patch in pixels.
        batch: patches in a batch, on each device.
        cache: folder for the decoded pictures; None is the user's cache folder.
        workers: loader processes beside the training process.
        resident: hold all pictures in the device's memory and cut patches there.
    """

    train: Path
    leave_out: Path | None = None
    more: Path | None = None
    more_share: float = 0.5
    teacher: Path | None = None
    soften: tuple[float, float] | None = None
    soften_share: float = 0.5
    degradation: Degradation | None = None
    validation: Path | None = None
    patch: int = 28
    batch: int = 16
    cache: Path | None = None
    workers: int = 0
    resident: bool = False

    def __post_init__(self):
        _within(1, MOST_PATCH, **{"data.patch": self.patch})
        _within(1, MOST_BATCH, **{"data.batch": self.batch})
        _within(0, MOST_PROCESSES, **{"data.workers": self.workers})
        if self.soften is not None:
            low, high = self.soften
            if not 0 <= low <= high <= MAX_SIGMA:
                raise ConfigError(
                    f"data.soften must be [low, high] with 0 <= low <= high <= {MAX_SIGMA}, got {[low, high]}"
                )
            if self.resident:
                raise ConfigError("data.soften makes LR pictures on the processor: leave out data.resident")
        if self.degradation is not None:
            if self.resident:
                raise ConfigError(
                    "data.degradation makes LR pictures on the processor: leave out data.resident"
                )
            if self.soften is not None:
                raise ConfigError("data.degradation has blurs of its own: leave out data.soften")
            if self.teacher is not None:
                raise ConfigError(
                    "data.degradation makes LR pictures that no teacher has seen: leave out data.teacher, or"
                    " write LR with `enlca degrade --preset` and have the teacher upscale them"
                )
        for name in ("more_share", "soften_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"data.{name} must be in [0, 1], got {getattr(self, name)}")
        if self.resident and self.workers:
            raise ConfigError(
                "data.resident cuts patches on the device and needs no data.workers: leave one out"
            )


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """The optimiser.

    Args:
        kind: "adam" (the paper's) for all parameters, or "muon" for the convolutions between the first and
            the upsampler and Adam for the others; see `training.optimizers`.
        lr: Adam's initial learning rate.
        betas: Adam's; the paper has (0.9, 0.99), the released code (0.9, 0.999).
        muon_lr: Muon's initial learning rate.
        momentum: Muon's.
        weight_decay: Muon's, decoupled. Orthogonal steps at a constant rate let weights grow without end
            (experiments/LOG.md, 2026-11-28); long runs need it.
        clip: largest norm of the gradient; None does not clip.
        ema: decay of the weights' moving average, which is what gets validated and kept; 0 is none.
    """

    kind: str = "adam"
    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    muon_lr: float = 0.01
    momentum: float = 0.95
    weight_decay: float = 0.0
    clip: float | None = None
    ema: float = 0.999

    def __post_init__(self):
        _one_of(OPTIMIZERS, **{"optim.kind": self.kind})
        _positive(**{"optim.lr": self.lr, "optim.muon_lr": self.muon_lr})
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"optim.momentum must be in [0, 1), got {self.momentum}")
        if not self.weight_decay >= 0:
            raise ConfigError(f"optim.weight_decay must be at least 0, got {self.weight_decay}")
        if not self.weight_decay * self.muon_lr < 1:
            product = f"{self.weight_decay} x {self.muon_lr}"
            raise ConfigError(f"optim.weight_decay times optim.muon_lr must be below 1, got {product}")
        if self.weight_decay and self.kind != "muon":
            raise ConfigError("optim.weight_decay is Muon's: it needs optim.kind muon")
        if not 0 <= self.ema < 1:
            raise ConfigError(f"optim.ema must be in [0, 1), got {self.ema}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"optim.betas must be in [0, 1), got {list(self.betas)}")
        if self.clip is not None and not 0 < self.clip < math.inf:
            raise ConfigError(f"optim.clip must be positive, or null for none; got {self.clip}")


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """What changes over time.

    Args:
        kind: "cosine" (to zero at the last step), "halve" (the paper's) or "stable" (constant until
            `decay_from`, then 1 - sqrt(progress) to zero at the last step; Haegele et al. 2024).
        warmup: steps of linear growth of the learning rate at the start.
        decay_from: step at which "stable" starts to decay; null is never. When a run is resumed, "now" is
            the step that it goes on from.
        halve_at: epochs after which "halve" halves it.
        contrast_after: epochs of L1 alone before the contrastive loss joins.
        redraw_every: steps between new draws of F; null is an epoch, the paper's. NLSA draws every step.
    """

    kind: str = "halve"
    warmup: int = 0
    decay_from: int | None = None
    halve_at: list[int] = field(default_factory=lambda: [200, 400, 600, 800])
    contrast_after: int = 150
    redraw_every: int | None = None

    def __post_init__(self):
        _one_of(SCHEDULES, **{"schedule.kind": self.kind})
        counts = {"schedule.warmup": self.warmup, "schedule.contrast_after": self.contrast_after}
        _within(0, MOST_STEPS, **counts)
        if self.decay_from is not None:
            _within(0, MOST_STEPS, **{"schedule.decay_from": self.decay_from})
            if self.kind != "stable":
                raise ConfigError(f"schedule.decay_from belongs to kind stable, not to {self.kind}")
        if self.redraw_every is not None:
            _within(1, MOST_STEPS, **{"schedule.redraw_every": self.redraw_every})


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The run itself.

    Args:
        dir: folder that receives everything; it must not hold another run.
        steps: optimiser steps in all. When a run is resumed, "+N" is N more than it has taken.
        steps_per_epoch: length of an epoch.
        validate_every: epochs between validations.
        save_every: steps between writes of `last.ckpt`.
        log_every: steps between rows of `metrics.csv`.
        seed: of weights, patches, anchors and random features.
        start_from: weights that the run begins with: a bundled model's name, a run folder or a checkpoint;
            null draws them. A checkpoint's scale may be another (EDSR's x3 and x4 began with the weights of
            x2), and it may lack attention: non-local blocks are then inserted with an output of zero, so
            that the run begins with what the checkpoint computes, also where `res_scale` or
            `attention_scale` is another.
        device: "auto" (the fastest there is), "cpu", "cuda" or "mps".
        devices: devices on each machine; torchrun and SLURM say it themselves.
        nodes: machines to use.
        precision: "32-true", "bf16-mixed" or "16-mixed"; attention sums in 32 bits in all of them.
        compile: let `torch.compile` translate the network; a minute at the start, for faster steps.
        variant: whose reading of the method this is: "paper" or "released".
    """

    dir: Path
    steps: int
    steps_per_epoch: int = 1000
    validate_every: int = 1
    save_every: int = 1000
    log_every: int = 100
    seed: int = 0
    start_from: Path | None = None
    device: str = "auto"
    devices: int = 1
    nodes: int = 1
    precision: str = "32-true"
    compile: bool = False
    variant: str = "paper"

    def __post_init__(self):
        counts = ("steps", "steps_per_epoch", "validate_every", "save_every", "log_every")
        _within(1, MOST_STEPS, **{f"run.{name}": getattr(self, name) for name in counts})
        _within(1, MOST_PROCESSES, **{"run.devices": self.devices, "run.nodes": self.nodes})
        _within(0, MOST_SEED, **{"run.seed": self.seed})
        _one_of(DEVICES, **{"run.device": self.device})
        _one_of(PRECISIONS, **{"run.precision": self.precision})
        _one_of(VARIANTS, **{"run.variant": self.variant})


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """All of a run. See each section's class.

    `version` is that of these sections' meaning; a file of a later one is refused.
    """

    data: DataConfig
    network: SRConfig
    run: RunConfig
    loss: ENLCALoss = field(default_factory=ENLCALoss)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    version: int = VERSION

    def __post_init__(self):
        if self.version != VERSION:
            raise ConfigError(f"version must be {VERSION}, which this enlca reads; got {self.version}")
        if self.loss.contrast_weight and self.network.attention != "none":
            # Better now than when the contrastive loss joins, a hundred epochs later.
            rank_ranges(self.data.patch**2, self.loss.relevant, self.loss.start)
        if bool(self.loss.teacher) != (self.data.teacher is not None):
            raise ConfigError("data.teacher and loss.teacher go together: name both or neither")
        decay_from = self.schedule.decay_from
        if decay_from is not None and decay_from >= self.run.steps:
            raise ConfigError(
                f"schedule.decay_from ({decay_from}) must come before run.steps ({self.run.steps})"
            )


@dataclass(frozen=True, kw_only=True)
class CustomTrainConfig(TrainConfig):
    """All of a run of a network of one's own: what its section `network` has is `CustomConfig`."""

    network: CustomConfig  # pyright: ignore[reportIncompatibleVariableOverride]

    def __post_init__(self):
        super().__post_init__()
        if self.optim.kind == "muon":
            raise ConfigError("optim.kind muon knows the parts of enlca's networks; network.build needs adam")
