"""Train: from a configuration to a run folder, or on from a run folder."""

import dataclasses
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from enlca.checkpoint.store import BEST
from enlca.data.joined import joined
from enlca.data.left_out import leave_out
from enlca.data.packed import PackedSet, open_teacher, open_training_set
from enlca.data.patches import Batch, PatchBatches, ResidentPatches, Soften
from enlca.errors import ConfigError, StateError, TrainingStopped
from enlca.runtime.files import lock_folder, write_atomically
from enlca.runtime.signals import stop_politely
from enlca.training.config import TrainConfig
from enlca.training.loop import Training
from enlca.training.run_folder import OnProgress, RunFolder
from enlca.training.runtime import environment, ignore_interrupts, is_first_here, launch
from enlca.training.start import begin_with, load_weights
from enlca.training.state import read_state, write_state
from enlca.training.validation import ValidationSet

BUSY = "{}: another process trains in this folder; wait for it, or stop it first"
# Patches are cheaper to cut than to send between processes.
EXPECTED_REMARK = ".*does not have many workers"


def fit(
    config: TrainConfig,
    config_text: str,
    *,
    resume: Path | None = None,
    on_pack: Callable[[int, int], None] = lambda done, total: None,
    on_progress: OnProgress | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Path | None:
    """Train as `config` says; return the path of the best weights (None on all processes but the first).

    Args:
        config: all settings.
        config_text: the resolved configuration, for the run folder.
        resume: folder of a run to go on with, instead of beginning one. If `run.dir` is another folder, the
            run branches: it goes on there, and `resume` stays as it is.
        on_pack: called with pictures done and pictures in all while they are decoded.
        on_progress: called every few steps.
        say: receives remarks, a line each.

    Raises:
        ConfigError: if the run folder already holds a run, `run.start_from` is another network, or
            `data.leave_out` names pictures that are not there.
        StateError: if there is nothing to go on from, it is of another network, or another process trains
            in the run folder.
        PictureError: if a picture cannot be used.
        TrainingFailed: if a number is not finite, or the end cannot be saved.
        TrainingStopped: after Ctrl-C, SIGTERM or SIGHUP.
    """
    run, data = config.run, config.data
    if resume != run.dir and any((run.dir / name).exists() for name in ("metrics.csv", "last.ckpt")):
        raise ConfigError(
            f"{run.dir} already holds a run; go on with it by `enlca resume {run.dir}`,"
            " choose another with --run.dir, or move it away"
        )
    state, remark = read_state(resume) if resume else (None, None)
    if state is not None and resume == run.dir and _is_finished(run.dir, config_text, config, state):
        say(f"{run.dir} is finished, after step {run.steps}; --run.steps +N takes N more")
        return run.dir / BEST if is_first_here() else None
    # What can fail is done before processes are started and files are written.
    packed = _open(config, on_pack) if is_first_here() else None
    validation = None if data.validation is None else ValidationSet(data.validation, config.network.scale)
    # A run that was killed before its first save begins again, as it began.
    start_from = None if run.start_from is None or state is not None else load_weights(config)
    if resume and state is None:
        remark = f"{resume}: nothing was saved yet, so the run begins again"
    if remark:
        say(remark)
    fabric = launch(config.run)
    if packed is None:
        packed = _open(config, on_pack)
    with stop_politely() as stopping, ExitStack() as held:
        training = Training(config, fabric, validation=validation, stopping=stopping.is_set)
        if start_from is not None:
            begin_with(training, start_from)
        if state is not None:
            _restore(training, state)
        if fabric.is_global_zero:
            run.dir.mkdir(parents=True, exist_ok=True)
            held.enter_context(lock_folder(run.dir, ".lock", StateError(BUSY.format(run.dir))))
            if resume and resume != run.dir:
                branch(resume, run.dir, state)
            write_atomically(run.dir / "config.yaml", config_text.encode())
            write_atomically(
                run.dir / "environment.json", (json.dumps(environment(), indent=2) + "\n").encode()
            )
            training.folder = RunFolder(config, start=training.done, devices=fabric.world_size, say=say)
        patches = PatchBatches(
            packed,
            patch=data.patch,
            batch=data.batch,
            seed=run.seed,
            rank=fabric.global_rank,
            world=fabric.world_size,
            soften=None if data.soften is None else Soften(*data.soften, data.soften_share),
            degradation=data.degradation,
        )
        steps = range(training.done, run.steps)
        try:
            finished = training.run(_batches(patches, steps, config, fabric.device), on_progress)
        finally:
            if training.folder is not None:
                training.folder.close()
    if not finished:
        if not fabric.is_global_zero:
            sys.exit(TrainingStopped.exit_code)  # the first process reports it
        raise TrainingStopped(f"stopped after step {training.done}; go on with: enlca resume {run.dir}")
    return run.dir / BEST if fabric.is_global_zero else None


def _is_finished(folder: Path, config_text: str, config: TrainConfig, state: dict[str, Any]) -> bool:
    """Whether a run's last step is taken, validated and kept, and nothing else is asked of it."""
    validated = config.data.validation is None or state.get("validated") == config.run.steps
    kept = (folder / BEST).is_file() and (folder / "config.yaml").read_text("utf-8") == config_text
    return state.get("step") == config.run.steps and validated and kept


def branch(source: Path, target: Path, state: dict[str, Any] | None) -> None:
    """Copy the rows and the best weights of a run to another folder, and write the state that was read."""
    for name in ("metrics.csv", "best.safetensors"):
        if (source / name).exists():
            write_atomically(target / name, (source / name).read_bytes())
    # Otherwise a branch that is killed before its first save would begin at step 0.
    if state is not None:
        write_state(target, state)


def _restore(training: Training, state: dict[str, Any]) -> None:
    try:
        training.load_state(state)
    except (StateError, RuntimeError, LookupError, ValueError, TypeError, AttributeError) as error:
        # PyTorch trusts the types of what it restores.
        folder = training.config.run.dir
        raise StateError(f"{folder}: cannot go on: {' '.join(str(error).split())[:300]}") from error


def _open(config: TrainConfig, on_pack: Callable[[int, int], None]) -> PackedSet:
    data = config.data

    def opened(folder: Path) -> PackedSet:
        return open_training_set(
            folder, scale=config.network.scale, min_side=data.patch, cache=data.cache, on_progress=on_pack
        )

    packed = opened(data.train)
    if data.leave_out is not None:
        packed = leave_out(packed, data.leave_out)
    if data.more is not None:
        packed = joined(packed, opened(data.more), data.more_share)
    if data.teacher is None:
        return packed
    teacher = open_teacher(data.teacher, packed, cache=data.cache, on_progress=on_pack)
    return dataclasses.replace(packed, teacher=teacher)


def _batches(
    patches: PatchBatches, steps: range, config: TrainConfig, device: torch.device
) -> Iterator[Batch]:
    """Return the batches of `steps`, in order."""
    if config.data.resident:
        resident = ResidentPatches(patches, device)
        return (resident[step] for step in steps)
    workers = config.data.workers
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=EXPECTED_REMARK)
        return iter(
            DataLoader(
                patches,
                batch_size=None,
                sampler=steps,
                collate_fn=_as_it_is,
                num_workers=workers,
                worker_init_fn=ignore_interrupts if workers else None,
                pin_memory=device.type == "cuda",
            )
        )


def _as_it_is(batch: Any) -> Any:
    """Return a batch unchanged, where PyTorch would turn tuples into lists."""
    return batch
