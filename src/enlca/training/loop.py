"""The training loop: each step is a function of the state before it and of (seed, step).

    step:  redraw F when it is time, cut patches, L1 + L_cl, Adam or Muon, average the weights
    then:  log, validate and keep the best, save - each after a fixed number of steps

So a run that was killed and goes on from a saved state ends in the same bytes as one that was not.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch
from lightning.fabric import Fabric
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from enlca.data.patches import ANCHORS, DROPOUT, REDRAW, Batch, seed_of
from enlca.errors import StateError, TrainingFailed
from enlca.losses import LossTerms
from enlca.network.layers import with_fast_convolutions
from enlca.network.sr import SRNetwork
from enlca.training.config import TrainConfig
from enlca.training.dead_units import MANY, REMARK
from enlca.training.objective import (
    Objective,
    Trainable,
    build_network,
    first_nonfinite,
    learning_rate_factor,
)
from enlca.training.optimizers import build_optimizer
from enlca.training.run_folder import OnProgress, RunFolder, TrainingProgress
from enlca.training.validation import ValidationSet

# Steps between agreements on whether to stop, where there are several devices.
AGREE_EVERY = 10
SHOW_EVERY = 10


@dataclass
class Best:
    """The best validation so far, and the last step that was validated."""

    psnr: float = float("-inf")
    validated: int = 0


class Training:
    """A run in memory.

    Args:
        config: all settings.
        fabric: the devices, launched.
        validation: pictures to choose the best weights on; None keeps the last weights.
        folder: what the run writes; None on all processes but the first.
        stopping: returns whether the run was asked to stop.
    """

    def __init__(
        self,
        config: TrainConfig,
        fabric: Fabric,
        *,
        validation: ValidationSet | None,
        folder: RunFolder | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ):
        self.config, self.fabric, self.validation = config, fabric, validation
        self.folder, self.stopping = folder, stopping
        self.done = 0
        self.best = Best()
        self.numbers: dict[str, int | float] = {}
        torch.manual_seed(config.run.seed)
        self.network = with_fast_convolutions(build_network(config.network), fabric.device)
        self.objective = Objective(self.network, config.loss, compile=config.run.compile)
        self.average = None
        if config.optim.ema > 0:
            # Random features are copied into the average, never averaged: the mean of two orthogonal
            # Gaussian matrices is neither.
            self.average = AveragedModel(
                self.network, multi_avg_fn=get_ema_multi_avg_fn(config.optim.ema), use_buffers=False
            ).requires_grad_(False)
        self.optimizer = build_optimizer(self.network, config.optim)
        self.rates: list[float] = [group["lr"] for group in self.optimizer.param_groups]
        self.ddp_module, self.ddp_optimizer = fabric.setup(self.objective, self.optimizer)
        self.finite = torch.ones((), dtype=torch.bool, device=fabric.device)
        # Elsewhere a look at a tensor waits for the device: there only what is logged, validated or saved is
        # checked first.
        self.checks_each_step = fabric.device.type == "cpu"

    @property
    def averaged(self) -> Trainable:
        """The weights that count."""
        return self.network if self.average is None else cast(Trainable, self.average.module)

    def run(self, batches: Iterable[Batch], on_progress: OnProgress | None = None) -> bool:
        """Take the steps that `batches` has batches for; False if it was asked to stop before the end.

        Raises:
            TrainingFailed: a number is not finite, or the last state cannot be saved.
        """
        run = self.config.run
        self._validate_if_due()
        clock, counted = time.perf_counter(), self.done
        for batch in batches:
            terms = self._step(self.done, batch)
            self.done += 1
            stop = self._agreed_to_stop()
            last = stop or self.done == run.steps
            # A stop saves, but logs no row that an uninterrupted run would not have.
            logs = self.done == run.steps or self.done % run.log_every == 0
            saves = last or self.done % run.save_every == 0
            if logs or saves or self._validation_is_due():
                self._refuse_nonfinite(f"by step {self.done - 1}", batch)
            row = {}
            if logs:
                seconds = time.perf_counter() - clock
                row = self._values(terms) | {"steps_per_second": round((self.done - counted) / seconds, 2)}
            if psnr := self._validate_if_due():
                row |= {"epoch": self._epoch(self.done - 1), **psnr}
            if self.folder is not None:
                if saves:
                    self.folder.save(self.state(), last=last)
                if row:
                    self.folder.write(self.done, row)
            if row:
                self.numbers |= row
                clock, counted = time.perf_counter(), self.done
            if on_progress is not None and (row or self.done % SHOW_EVERY == 0):
                on_progress(TrainingProgress(self.done, run.steps, self.numbers))
            if stop and self.done < run.steps:
                return False
        if self.best.psnr == float("-inf"):
            self._keep()
        return True

    def _epoch(self, step: int) -> int:
        return step // self.config.run.steps_per_epoch

    def _step(self, step: int, batch: Batch) -> LossTerms:
        config, run = self.config, self.config.run
        always = config.network.attention == "lsh"  # NLSA hashes anew in every forward
        every = 1 if always else config.schedule.redraw_every or run.steps_per_epoch
        if step % every == 0 and isinstance(self.network, SRNetwork):
            # The same F on every device: it depends on the seed and the step alone.
            self.network.redraw_(torch.Generator().manual_seed(seed_of(run.seed, REDRAW, step // every)))
        factor = learning_rate_factor(
            step, schedule=config.schedule, steps=run.steps, steps_per_epoch=run.steps_per_epoch
        )
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        lr, hr, *teacher = (side.to(self.fabric.device, non_blocking=True) for side in batch)
        anchors = torch.Generator(lr.device).manual_seed(
            seed_of(run.seed, ANCHORS, step, self.fabric.global_rank)
        )
        # Networks of one's own may have dropout, which draws from the global generator.
        torch.manual_seed(seed_of(run.seed, DROPOUT, step, self.fabric.global_rank))
        terms = self.ddp_module(lr, hr, *teacher, contrast=self._contrasts(step), generator=anchors)
        self.fabric.backward(terms.total)
        norm = self.fabric.clip_gradients(
            self.ddp_module,
            self.ddp_optimizer,
            max_norm=config.optim.clip or float("inf"),
            error_if_nonfinite=False,
        )
        self._watch(terms, norm)
        if self.checks_each_step:
            self._refuse_nonfinite(f"step {step}", batch)
        self.ddp_optimizer.step()
        self.ddp_optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update_parameters(self.network)
        return terms

    def _contrasts(self, step: int) -> bool:
        return self._epoch(step) >= self.config.schedule.contrast_after

    def _watch(self, terms: LossTerms, norm: Tensor | None) -> None:
        watched = terms.total.detach()
        # In 16 bits a gradient may overflow: the loss scaler skips that step and goes on.
        if norm is not None and self.config.run.precision != "16-mixed":
            watched = watched + norm.to(watched.device)
        self.finite &= torch.isfinite(watched)

    def _refuse_nonfinite(self, when: str, batch: Batch) -> None:
        """Raise TrainingFailed if a loss or a gradient was not finite; nothing is saved after that."""
        if self.finite:
            return
        optim = self.config.optim
        again = f"enlca resume {self.config.run.dir} --optim.lr {optim.lr / 2:g}"
        if optim.kind == "muon":
            again += f" --optim.muon_lr {optim.muon_lr / 2:g}"
        lr, hr = (side.to(self.fabric.device) for side in batch[:2])
        what = first_nonfinite(self.objective, lr, hr, contrast=self._contrasts(self.done))
        raise TrainingFailed(
            f"{when}: {what} is not finite; nothing of this step is saved. Go on from the last good"
            f" state with smaller steps: {again}"
        )

    def _values(self, terms: LossTerms) -> dict[str, int | float]:
        values = torch.stack([term.detach().float() for term in terms])
        values = cast(Tensor, self.fabric.all_reduce(values, reduce_op="mean"))
        numbers = dict(zip(LossTerms._fields, values.tolist(), strict=True))
        return {"epoch": self._epoch(self.done - 1), "lr": self.optimizer.param_groups[0]["lr"], **numbers}

    def _validation_is_due(self) -> bool:
        every = self.config.run.validate_every * self.config.run.steps_per_epoch
        return self.done > 0 and (self.done % every == 0 or self.done == self.config.run.steps)

    def _validate_if_due(self) -> dict[str, int | float]:
        """Validate at the end of an epoch or of the run, also where that was saved but not validated."""
        if self.validation is None or not self._validation_is_due() or self.best.validated == self.done:
            return {}
        found = self.validation.score(self.averaged, self.fabric)
        self.best.validated = self.done
        if self.folder is not None:
            self.folder.show(self.done, found.pictures)
        if found.psnr > self.best.psnr:
            self.best.psnr = found.psnr
            self._keep()
        if found.dead_units is None:
            return {"psnr": found.psnr}
        if self.folder is not None and found.dead_units > MANY >= self.numbers.get("dead_units", 0):
            self.folder.say(REMARK.format(found.dead_units))
        return {"psnr": found.psnr, "dead_units": found.dead_units}

    def _keep(self) -> None:
        if self.folder is not None:
            psnr = self.best.psnr if self.best.psnr > float("-inf") else None
            self.folder.keep(self.averaged, step=self.done, psnr=psnr)

    def _agreed_to_stop(self) -> bool:
        stop = self.stopping()
        if self.fabric.world_size == 1:
            return stop
        if self.done % AGREE_EVERY:
            return False
        flag = torch.tensor(float(stop), device=self.fabric.device)
        return bool(cast(Tensor, self.fabric.all_reduce(flag, reduce_op="sum")) > 0)

    def state(self) -> dict[str, Any]:
        """Return the state that a resumed run needs."""
        return {
            "step": self.done,
            "best": self.best.psnr,
            "validated": self.best.validated,
            "validation": None if self.validation is None else self.validation.checksum,
            "settings": self.config.network.to_dict(),
            "network": self.network.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned.

        The best validation is forgotten where the run goes on with other validation pictures, or none.

        Raises:
            StateError: if it is of another network, or of a run with or without an average.
            ValueError: if its network has settings that the run's kind of network does not know.
        """
        mine = self.config.network.to_dict()
        # A state may be older than a setting, whose default is then what it was.
        theirs = type(self.config.network).from_dict(state["settings"]).to_dict()
        if differ := [
            f"{key} {value} there, {mine[key]} here" for key, value in theirs.items() if mine[key] != value
        ]:
            raise StateError(f"the saved state is of another network ({', '.join(differ)})")
        if (self.average is None) != (state["average"] is None):
            raise StateError(
                f"optim.ema was {'0' if state['average'] is None else 'not 0'} when the state was saved"
            )
        self.network.load_state_dict(state["network"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        # The configuration decides on momentum, betas and the like, also where they changed since the save.
        settings = [
            {name: value for name, value in group.items() if name != "params"}
            for group in self.optimizer.param_groups
        ]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, own in zip(self.optimizer.param_groups, settings, strict=True):
            group.update(own)
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        self.done = state["step"]
        # States of earlier versions do not tell their pictures: they are taken for the run's.
        if self.validation is not None and state.get("validation") in (None, self.validation.checksum):
            self.best = Best(state["best"], state["validated"])
